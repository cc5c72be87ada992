"""`humanseg segment` with clips, against a running server."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from PIL import Image

from humanseg.client import Client
from humanseg.video.probe import probe
from tests.cli.conftest import COMMAND
from tests.video.clips import shown, write_clip

if TYPE_CHECKING:
    from tests.running import Server

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def portrait(astronaut: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of the astronaut, 160x160, with sound."""
    small = cv2.resize(astronaut, (160, 160), interpolation=cv2.INTER_AREA)
    frames = [np.roll(small, index, axis=1) for index in range(12)]
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", frames, sound="aac")


def test_a_cutout_with_sound(humanseg: Run, server: Server, portrait: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.webm"
    completed = humanseg("segment", portrait, "-o", out, "--output", "cutout", "--url", server.url)
    assert (completed.returncode, completed.stdout) == (0, ""), completed.stderr
    assert "1 done" in completed.stderr
    frames = shown(out, "rgba")
    assert len(frames) == 12
    assert 0.3 < (frames[5][1][..., 3] > 127).mean() < 0.8
    assert probe(out).sound == "opus"


@pytest.mark.slow
def test_the_first_mask_is_the_one_that_the_server_makes_of_the_frame(
    humanseg: Run, server: Server, portrait: Path, tmp_path: Path
) -> None:
    completed = humanseg("segment", portrait, "-o", tmp_path / "pngs", "--format", "png", "--url", server.url)
    assert completed.returncode == 0, completed.stderr
    assert len(list((tmp_path / "pngs").glob("*.png"))) == 12
    Image.fromarray(shown(portrait)[0][1]).save(tmp_path / "frame.png")
    with Client(server.url) as client:
        wanted = np.array(client.segment(tmp_path / "frame.png").image())
    with Image.open(tmp_path / "pngs" / "00000001.png") as picture:
        assert np.array_equal(np.array(picture), wanted)


@pytest.mark.parametrize("quality", ["fast", "best"])
def test_json_is_a_line_for_each_frame(
    humanseg: Run, server: Server, portrait: Path, tmp_path: Path, quality: str
) -> None:
    words = ("--output", "json", "--quality", quality, "--url", server.url)
    completed = humanseg("segment", portrait, "-o", tmp_path / "out.jsonl", *words)
    assert completed.returncode == 0, completed.stderr
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(12))
    Image.fromarray(shown(portrait)[0][1]).save(tmp_path / "frame.png")
    with Client(server.url) as client:
        photo = client.segment(tmp_path / "frame.png", output="json", quality=quality).document  # type: ignore[arg-type]
    assert photo
    assert (lines[0]["mask"], lines[0]["bounding_box"]) == (photo["mask"], photo["bounding_box"])


@pytest.mark.slow
def test_a_folder_of_photos_and_clips_goes_on_with_what_is_missing(
    humanseg: Run, server: Server, portrait: Path, astronaut_jpeg: bytes, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(astronaut_jpeg)
    (tmp_path / "in" / "b.mov").write_bytes(portrait.read_bytes())
    words = ("segment", tmp_path / "in", "-o", tmp_path / "out", "--url", server.url, "--json")
    first = json.loads(humanseg(*words).stdout)
    assert [Path(one["result"]).name for one in (*first["done"], *first["clips"])] == ["a.png", "b.mp4"]
    again = json.loads(humanseg(*words).stdout)
    assert (again["done"], again["clips"], len(again["skipped"])) == ([], [], 2)
    other = json.loads(humanseg(*words, "--threshold", "0.7").stdout)
    assert other["clips"][0]["frames"] == 12


@pytest.mark.slow
def test_a_picture_behind_a_photo_and_behind_a_clip(
    humanseg: Run, server: Server, portrait: Path, astronaut_jpeg: bytes, tmp_path: Path
) -> None:
    Image.new("RGB", (30, 10), (0, 255, 0)).save(tmp_path / "green.png")
    (tmp_path / "a.jpg").write_bytes(astronaut_jpeg)
    words = ("--output", "composite", "--background", tmp_path / "green.png", "--url", server.url)
    assert humanseg("segment", tmp_path / "a.jpg", "-o", tmp_path / "a.png", *words).returncode == 0
    assert humanseg("segment", portrait, "-o", tmp_path / "b.mp4", *words).returncode == 0
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.getpixel((3, 3)) == (0, 255, 0)
        assert picture.size == (512, 512)
    assert np.abs(shown(tmp_path / "b.mp4")[0][1][3, 3].astype(int) - (0, 255, 0)).max() < 8


@pytest.mark.slow
def test_a_broken_clip_gives_what_came_before_and_says_so(
    humanseg: Run, server: Server, portrait: Path, tmp_path: Path
) -> None:
    whole = write_clip(
        tmp_path / "whole.mp4", [frame for _, frame in shown(portrait)], container_options={"movflags": "+faststart"}
    ).read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) * 9 // 10])
    completed = humanseg("segment", tmp_path / "half.mp4", "-o", tmp_path / "out.mp4", "--url", server.url)
    assert completed.returncode == 1
    assert "half.mp4 is damaged after frame" in completed.stderr
    assert 1 <= len(shown(tmp_path / "out.mp4")) < 12


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done_and_a_second_run_goes_on(
    humanseg: Run, server: Server, portrait: Path, tmp_path: Path
) -> None:
    frames = [frame for _, frame in shown(portrait)] * 80
    source, out = write_clip(tmp_path / "long.mp4", frames), tmp_path / "pngs"
    asked = ["segment", str(source), "-o", str(out), "--format", "png", "--url", server.url]
    words = [str(COMMAND), *asked, "-j", "1"]
    running = subprocess.Popen(
        words,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )
    while running.poll() is None and not (out / "00000003.png").exists():
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    stderr = running.communicate(timeout=60)[1]
    assert running.returncode == 1, stderr
    assert "again to resume" in stderr.replace("\n", " ")
    assert 3 <= len(list(out.glob("*.png"))) < len(frames)
    completed = humanseg(*asked, "--json")
    assert completed.returncode == 0, completed.stderr
    assert json.loads(completed.stdout)["clips"][0]["resumed_at"] >= 3
    assert len(list(out.glob("*.png"))) == len(frames)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("-o", "out.avi"), ".webm, .mp4 or .mov"),
        (("-o", "out.png"), "--format png with a folder"),
        (("-o", "out.mp4", "--output", "cutout"), "no transparency"),
        (("-o", "out.webm", "--crop", "person"), "--crop person is for photos: a clip has one frame size"),
        (("-o", "out.webm", "--output", "json"), "use .jsonl"),
        (("-o", "out.jsonl", "--output", "json", "--format", "webm"), "JSON holds no picture"),
        (("-o", "out.webm", "--archive"), "--archive is for photos"),
        (("-o", "out.webm", "--label", "stand 3"), "--label stand 3 is for photos"),
        (("-o", "out.jpg", "--format", "jpeg"), "--format png with a folder"),
        (("-o", "out.webm", "--output", "composite", "--background", "beach"), "not a colour"),
        (("-o", "out.webm", "--background", "blur"), "Use --output composite"),
        (("-o", "out.webm", "--output", "probability", "--threshold", "0.3"), "has no threshold applied"),
    ],
)
def test_what_no_clip_takes_is_one_sentence(
    humanseg: Run, server: Server, portrait: Path, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    completed = humanseg("segment", portrait, *words, "--url", server.url, cwd=tmp_path)
    assert completed.returncode == 1
    assert sentence in (completed.stderr + completed.stdout).replace("\n", " ")
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_sees_frames_speed_and_time_left(server: Server, portrait: Path, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "long.mp4", [frame for _, frame in shown(portrait)] * 10)
    words = [str(COMMAND), "segment", str(source), "-o", str(tmp_path / "out.mp4"), "--url", server.url]
    terminal, end = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=end, stderr=end, env=environment) as running:
        os.close(end)
        written = b""
        with contextlib.suppress(OSError):  # EIO: the command has closed its end
            while data := os.read(terminal, 4096):
                written += data
    os.close(terminal)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.decode())
    assert running.returncode == 0, text
    seen = re.findall(r"long\.mp4 \S+ +(\d+)/(\d+) (\d+\.\d) frames/s (\d:\d\d:\d\d)", text)
    assert {total for _, total, _, _ in seen} == {"120"}, text
    frames = [int(number) for number, _, _, _ in seen]
    assert frames == sorted(frames)
    assert len(set(frames)) >= 3
    assert max(float(speed) for _, _, speed, _ in seen) > 0


def peak_megabytes(source: Path, out: Path, server: Server) -> float:
    """Peak resident memory of the command."""
    words = [str(COMMAND), "segment", str(source), "-o", str(out), "--output", "cutout", "--url", server.url]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        _, status, usage = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
    assert running.returncode == 0
    return usage.ru_maxrss / 1000


@pytest.mark.slow
def test_five_times_the_frames_take_no_more_memory(server: Server, portrait: Path, tmp_path: Path) -> None:
    frames = [cv2.resize(frame, (320, 320)) for _, frame in shown(portrait)]  # 307 KB each
    short = write_clip(tmp_path / "short.mp4", frames * 12)
    long = write_clip(tmp_path / "long.mp4", frames * 60)
    peaks = [peak_megabytes(clip, tmp_path / f"{clip.stem}.webm", server) for clip in (short, long)]
    assert peaks[1] < peaks[0] + 30  # 576 frames more are 177 MB


@pytest.mark.slow
def test_a_photo_that_is_named_like_a_clip(humanseg: Run, server: Server, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "photo.mp4", "PNG")
    completed = humanseg("segment", tmp_path / "photo.mp4", "-o", tmp_path / "out.png", "--url", server.url)
    assert completed.returncode == 0, completed.stderr
    completed = humanseg("segment", tmp_path / "photo.mp4", "-o", tmp_path / "out.webm", "--url", server.url)
    assert "a photo can't be written as webm" in completed.stdout
