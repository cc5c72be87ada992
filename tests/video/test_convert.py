"""A clip in, a clip out: times, colours, shape, sound, transparency, and going on after a stop."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from humanseg.segmentation import rle
from humanseg.segmentation.spec import Spec
from humanseg.video.backdrop import backdrop
from humanseg.video.convert import Look, Network, Outcome, Target, convert
from humanseg.video.errors import ResultRefused
from humanseg.video.probe import probe
from humanseg.video.stream import in_order
from tests.video.clips import BRIGHT, bright, disc_frames, shown, sound_packets, write_clip

KINDS = [("webm", "cutout"), ("mov", "cutout"), ("mp4", "overlay"), ("mov", "composite"), ("webm", "mask")]


def run_convert(source: Path, result: Path, output: str, **more: object) -> Outcome:
    behind = backdrop(str(more.pop("background", "#00ff00")))
    container = result.suffix[1:] or "png"
    return convert(probe(source), Target(result, container), Look(output, behind), BRIGHT, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("container", "output"), KINDS)
def test_times_of_a_variable_rate_and_the_picture_are_kept(tmp_path: Path, container: str, output: str) -> None:
    times = [0, 40, 80, 200, 210, 1000]
    source = write_clip(tmp_path / "in.mp4", disc_frames(6), times=times, base=Fraction(1, 1000))
    assert run_convert(source, tmp_path / f"out.{container}", output) == Outcome(6, 0, None)
    frames = shown(tmp_path / f"out.{container}", "rgba")
    assert [round(1000 * time) for time, _ in frames] == times
    inside, outside = frames[0][1][32, 29].astype(int), frames[0][1][2, 2].astype(int)
    wanted = {
        "cutout": ((230, 210, 220, 255), (0, 0, 0, 0)),
        "overlay": ((134, 167, 239, 255), (20, 40, 60, 255)),
        "composite": ((230, 210, 220, 255), (0, 255, 0, 255)),
        "mask": ((255, 255, 255, 255), (0, 0, 0, 255)),
    }[output]
    assert np.abs(inside - wanted[0]).max() <= 6
    assert np.abs(outside - wanted[1]).max() <= 6


@pytest.mark.parametrize(("codec", "container"), [("aac", "mp4"), ("aac", "mov"), ("libopus", "webm")])
def test_sound_is_copied_packet_for_packet(tmp_path: Path, codec: str, container: str) -> None:
    source = write_clip(tmp_path / "in.mp4", disc_frames(20), sound=codec)
    run_convert(source, tmp_path / f"out.{container}", "mask")
    assert sound_packets(tmp_path / f"out.{container}") == sound_packets(source)


def test_sound_that_the_container_does_not_take_is_encoded_anew(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", disc_frames(50), sound="aac")
    run_convert(source, tmp_path / "out.webm", "cutout")
    result = probe(tmp_path / "out.webm")
    assert result.sound == "opus"
    assert result.seconds == pytest.approx(2.0, abs=0.06)


@pytest.mark.parametrize("output", ["mask", "cutout"])
def test_a_long_clip_has_no_more_threads_than_a_short_one(tmp_path: Path, output: str) -> None:
    source = write_clip(tmp_path / "in.mp4", [np.full((360, 640, 3), number, np.uint8) for number in range(40)])
    threads: list[int] = []
    gc.disable()  # it may come late
    try:
        run_convert(
            source, tmp_path / "out.webm", output, progress=lambda _: threads.append(psutil.Process().num_threads())
        )
    finally:
        gc.enable()
    assert threads[-1] <= threads[10]


@pytest.mark.parametrize("turn", [90, 180, -90])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_turned_clip_comes_out_as_a_player_shows_it(tmp_path: Path, turn: int, mirrored: bool) -> None:
    corner = np.zeros((64, 96, 3), np.uint8)
    corner[:24, :24] = 255  # top left
    source = write_clip(tmp_path / "in.mp4", [corner] * 3, rotation=turn, mirrored=mirrored)
    run_convert(source, tmp_path / "out.mp4", "overlay")
    ((_, picture), *_) = shown(tmp_path / "out.mp4")
    wanted = np.rot90(corner, turn // 90)
    wanted = wanted[:, ::-1] if mirrored else wanted
    assert picture.shape == wanted.shape
    assert np.abs(picture[..., 2].astype(int) - np.where(wanted[..., 2], 255, 0)).mean() < 3


def test_pixels_that_are_not_square_become_square(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", disc_frames(2, (72, 64)), aspect=Fraction(4, 3))
    run_convert(source, tmp_path / "out.webm", "mask")
    result = probe(tmp_path / "out.webm")
    assert (result.width, result.height, result.aspect) == (96, 64, 1)


@pytest.mark.parametrize("matrix", [1, 5, 9])
@pytest.mark.parametrize("colour_range", [1, 2])
@pytest.mark.parametrize("container", ["mp4", "webm"])
def test_colours_stay_what_they_are(tmp_path: Path, matrix: int, colour_range: int, container: str) -> None:
    colour = (200, 60, 30)
    plain = [np.full((64, 96, 3), colour, np.uint8)] * 2
    source = write_clip(tmp_path / "in.mp4", plain, matrix=matrix, colour_range=colour_range)
    run_convert(source, tmp_path / f"out.{container}", "overlay")  # nothing is bright, so nothing is overlaid
    ((_, picture), *_) = shown(tmp_path / f"out.{container}")
    away = np.abs(picture[30, 40].astype(int) - colour)
    assert away[:2].max() <= 3  # another matrix would be 6 or more away
    assert away[2] <= 8  # of 8-bit chroma, twice rounded


@pytest.mark.parametrize(("transfer", "code"), [(16, 0.581), (18, 0.75)])
def test_hdr_white_becomes_light_and_black_stays_black(tmp_path: Path, transfer: int, code: float) -> None:
    halves = np.zeros((64, 96, 3), np.uint16)
    halves[:, 48:] = round(code * 65535)  # diffuse white, 203 cd/m2, by BT.2408
    source = write_clip(
        tmp_path / "in.mp4", [halves] * 2, codec="libx264", pixels="yuv420p10le", matrix=9, transfer=transfer,
    )  # fmt: skip
    run_convert(source, tmp_path / "out.mp4", "composite", background="#000000")
    ((_, picture), *_) = shown(tmp_path / "out.mp4")
    assert picture[30, 80].min() > 200
    assert np.ptp(picture[30, 80].astype(int)) <= 4  # grey stays grey
    assert picture[30, 10].max() <= 6


def test_a_cut_out_keeps_its_colour_up_to_the_edge(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", disc_frames(3))
    run_convert(source, tmp_path / "out.webm", "cutout")
    ((_, picture), *_) = shown(tmp_path / "out.webm", "rgba")
    solid = picture[picture[..., 3] > 200]
    assert solid[..., :3].min() > 150  # no black from the transparent side


def test_pictures_of_a_folder_and_their_times(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", disc_frames(4), times=[0, 1, 5, 6])
    assert run_convert(source, tmp_path / "pngs", "cutout").frames == 4
    names = sorted(path.name for path in (tmp_path / "pngs").iterdir())
    assert names == ["00000001.png", "00000002.png", "00000003.png", "00000004.png", "frames.ffconcat"]
    with Image.open(tmp_path / "pngs" / "00000001.png") as picture:
        assert picture.mode == "RGBA"
    assert "duration 0.160000" in (tmp_path / "pngs" / "frames.ffconcat").read_text()


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_json_lines_have_the_time_and_the_mask_of_each_frame(tmp_path: Path) -> None:
    times = [0, 40, 80, 200, 210, 1000]
    source = write_clip(tmp_path / "in.mp4", disc_frames(6), times=times, base=Fraction(1, 1000))
    assert run_convert(source, tmp_path / "out.jsonl", "json") == Outcome(6, 0, None)
    lines = lines_of(tmp_path / "out.jsonl")
    assert [(line["frame"], round(1000 * line["seconds"])) for line in lines] == list(enumerate(times))
    run_convert(source, tmp_path / "pngs", "mask")
    for number, line in enumerate(lines, 1):
        mask = np.array(Image.open(tmp_path / "pngs" / f"{number:08d}.png"))
        assert line["mask"] == rle.encode(mask)
        assert line["coverage"] == pytest.approx((mask > 0).mean(), abs=1e-5)
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert line["bounding_box"] == box
        assert 0.8 < line["confidence"] <= 1


def test_json_lines_that_were_cut_off_go_on_where_they_stopped(tmp_path: Path) -> None:
    source, out = write_clip(tmp_path / "in.mp4", disc_frames(40)), tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run_convert(source, out, "json", progress=stop_after(17))
    with out.open("a") as file:
        file.write('{"frame": 17, "sec')  # as after a kill
    assert run_convert(source, out, "json") == Outcome(40, 17, None)
    assert [line["frame"] for line in lines_of(out)] == list(range(40))
    run_convert(source, tmp_path / "whole.jsonl", "json")
    for one, other in zip(lines_of(out), lines_of(tmp_path / "whole.jsonl"), strict=True):
        assert one["coverage"] == pytest.approx(other["coverage"], abs=0.01)


def test_a_finer_network_is_asked_with_larger_frames_but_never_with_enlarged_ones(tmp_path: Path) -> None:
    sizes: set[tuple[int, int]] = set()

    def ask(frame: np.ndarray) -> np.ndarray:
        sizes.add(frame.shape[1::-1])
        return bright(frame)

    for size, wanted in (((240, 160), (192, 128)), ((96, 64), (96, 64))):
        sizes.clear()
        source = write_clip(tmp_path / f"{size[0]}.mp4", disc_frames(4, size))
        network = Network(Spec((64, 64)), 0.5, "1", ask, finest=3)
        target = Target(tmp_path / f"{size[0]}-masks", "png")
        convert(probe(source), target, Look("mask", backdrop("#ffffff")), network)
        assert sizes == {wanted}
        mask = np.array(Image.open(target.path / "00000004.png")) > 127
        truth = disc_frames(4, size)[3].mean(axis=2) > 128
        assert (mask & truth).sum() / (mask | truth).sum() > 0.95


def test_odd_sizes(tmp_path: Path) -> None:
    source = write_clip(
        tmp_path / "in.webm", disc_frames(2, (97, 61)), codec="libvpx-vp9", codec_options={"deadline": "realtime"}
    )
    run_convert(source, tmp_path / "out.webm", "cutout")
    run_convert(source, tmp_path / "out.mp4", "mask")
    assert (probe(tmp_path / "out.webm").width, probe(tmp_path / "out.webm").height) == (97, 61)
    assert (probe(tmp_path / "out.mp4").width, probe(tmp_path / "out.mp4").height) == (98, 62)


def test_behind_the_person_runs_a_clip_that_begins_anew(tmp_path: Path) -> None:
    colours = [(0, 0, 200), (0, 200, 0)]
    behind = write_clip(tmp_path / "behind.mp4", [np.full((32, 64, 3), c, np.uint8) for c in colours], rate=5)
    source = write_clip(tmp_path / "in.mp4", disc_frames(8), rate=10)
    run_convert(source, tmp_path / "out.mp4", "composite", background=behind)
    greens = [picture[2, 2, 1] > 100 for _, picture in shown(tmp_path / "out.mp4")]
    assert greens == [False, False, True, True] * 2


def test_mp4_refuses_transparency(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", disc_frames(2))
    with pytest.raises(ResultRefused, match="WebM"):
        run_convert(source, tmp_path / "out.mp4", "cutout")
    assert not (tmp_path / "out.mp4").exists()


def stop_after(frames: int) -> Callable[[int], None]:
    def progress(finished: int) -> None:
        if finished == frames:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("name", ["out.webm", "out.mov", "out.mp4", "pngs"])
def test_a_stopped_run_plays_and_a_second_one_goes_on(tmp_path: Path, name: str) -> None:
    source = write_clip(tmp_path / "in.mp4", disc_frames(40), sound="aac")
    output = "mask" if name.endswith("mp4") else "cutout"
    with pytest.raises(KeyboardInterrupt):
        run_convert(source, tmp_path / name, output, progress=stop_after(17))
    if "." in name:
        assert len(shown(tmp_path / name)) == 17
    assert run_convert(source, tmp_path / name, output) == Outcome(40, 17, None)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == sorted(["in.mp4", name])
    if "." not in name:
        return
    whole = run_convert(source, tmp_path / f"whole{name}", output)
    assert whole.resumed == 0
    at_once, in_two = shown(tmp_path / f"whole{name}", "rgba"), shown(tmp_path / name, "rgba")
    assert [time for time, _ in in_two] == [time for time, _ in at_once]
    assert len(sound_packets(tmp_path / name)) == len(sound_packets(tmp_path / f"whole{name}"))
    for (_, one), (_, other) in zip(at_once, in_two, strict=True):
        assert ((one[..., 3] > 127) != (other[..., 3] > 127)).mean() < 0.01


def test_an_unfinished_result_of_other_options_is_not_gone_on_with(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", disc_frames(9))
    with pytest.raises(KeyboardInterrupt):
        run_convert(source, tmp_path / "out.mp4", "mask", options={"threshold": "0.4"}, progress=stop_after(3))
    with pytest.raises(ResultRefused, match="other options.*--force"):
        run_convert(source, tmp_path / "out.mp4", "mask", options={"threshold": "0.5"})
    assert run_convert(source, tmp_path / "out.mp4", "mask", options={"threshold": "0.5"}, force=True).resumed == 0
    with pytest.raises(ResultRefused, match="already exists"):
        run_convert(source, tmp_path / "out.mp4", "mask", options={"threshold": "0.5"})


def test_a_network_that_fails_leaves_what_is_done(tmp_path: Path) -> None:
    asked = iter(range(100))

    def failing(frame: np.ndarray) -> np.ndarray:
        if next(asked) == 12:
            raise ConnectionError("gone")
        return bright(frame)

    source = write_clip(tmp_path / "in.mp4", disc_frames(30))
    network = Network(Spec((96, 96)), 0.5, "1", failing)
    with pytest.raises(ConnectionError):
        convert(probe(source), Target(tmp_path / "o.webm", "webm"), Look("mask", backdrop("blur")), network)
    assert len(shown(tmp_path / "o.webm")) == 12
    assert run_convert(source, tmp_path / "o.webm", "mask") == Outcome(30, 12, None)


def test_work_comes_out_in_order_and_never_runs_far_ahead() -> None:
    taken, most, lock = 0, 0, threading.Lock()
    given = 0

    def numbers():  # type: ignore[no-untyped-def]
        nonlocal taken, most
        for number in range(50):
            with lock:
                taken += 1
                most = max(most, taken - given)
            yield number

    for number, squared in in_order(numbers(), lambda n: n * n, parallel=3, ahead=5):
        assert squared == number**2
        given += 1
    assert given == 50
    assert most <= 5
