"""Clips over HTTP: the same URL takes one and answers one, photos go on beside it, and bad ones harm nobody."""

from __future__ import annotations

import base64
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import requests
from PIL import Image

from humanseg.client import Client, TooLargeError
from tests.running import Server, encoded
from tests.video.clips import disc_frames, shown, sound_packets, write_clip, write_sound

PHOTO = encoded(np.full((60, 80, 3), 128, np.uint8), "PNG")


@pytest.fixture(scope="module")
def portrait(astronaut: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    small = cv2.resize(astronaut, (160, 160), interpolation=cv2.INTER_AREA)
    frames = [np.roll(small, index, axis=1) for index in range(12)]
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", frames, sound="aac")


def post(server: Server, clip: bytes, **options: str) -> requests.Response:
    return requests.post(server.predictions, files={"image": clip}, data=options, timeout=120)


def ask_progress(server: Server, token: str) -> requests.Response:
    return requests.post(server.predictions, files={"progress": (None, token)}, timeout=60)


def test_a_clip_is_answered_with_a_clip(server: Server, portrait: Path, tmp_path: Path) -> None:
    answer = post(server, portrait.read_bytes(), output="overlay")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4"), answer.text
    assert (answer.headers["x-frames"], answer.headers["x-archived"]) == ("12", "declined")
    assert answer.headers["x-archived-frames"] == "0"
    (tmp_path / "out.mp4").write_bytes(answer.content)
    assert [time for time, _ in shown(tmp_path / "out.mp4")] == [time for time, _ in shown(portrait)]
    assert sound_packets(tmp_path / "out.mp4") == sound_packets(portrait)


def test_a_cutout_has_alpha_and_the_body_may_be_the_clip_itself(
    server: Server, portrait: Path, tmp_path: Path
) -> None:
    headers = {"x-output": "cutout", "content-type": "video/mp4"}
    answer = requests.post(server.predictions, data=portrait.read_bytes(), headers=headers, timeout=120)
    assert answer.headers["content-type"] == "video/webm", answer.text
    (tmp_path / "out.webm").write_bytes(answer.content)
    share = (shown(tmp_path / "out.webm", "rgba")[5][1][..., 3] > 127).mean()
    assert 0.3 < share < 0.8


@pytest.mark.slow
def test_a_gif_is_a_photo_unless_a_clip_is_asked_for(server: Server, tmp_path: Path) -> None:
    pictures = [Image.fromarray(frame) for frame in disc_frames(4)]
    pictures[0].save(tmp_path / "in.gif", save_all=True, append_images=pictures[1:], duration=40)
    gif = (tmp_path / "in.gif").read_bytes()
    assert post(server, gif).headers["content-type"] == "image/png"
    assert post(server, gif, format="webm").headers["x-frames"] == "4"


def photo_of(clip: Path) -> bytes:
    """The first frame: of a clip, its mask is the only one without a past."""
    return encoded(shown(clip)[0][1], "PNG")


@pytest.mark.parametrize("quality", ["fast", "best"])
def test_json_is_a_line_for_each_frame_that_says_what_a_photos_does(
    server: Server, portrait: Path, quality: str
) -> None:
    answer = post(server, portrait.read_bytes(), output="json", quality=quality)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson"), answer.text
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["frame"] for line in lines] == list(range(12))
    assert [line["seconds"] for line in lines] == [round(float(time), 6) for time, _ in shown(portrait)]
    photo = post(server, photo_of(portrait), output="json", quality=quality).json()
    same = ("width", "height", "coverage", "bounding_box", "threshold", "mask", "person_found")
    assert {name: lines[0][name] for name in same} == {name: photo[name] for name in same}
    assert lines[0]["confidence"] == pytest.approx(photo["confidence"], abs=0.003)  # of a probability in 8 bits
    boxes = [line["bounding_box"] for line in lines]
    assert all(0.3 < line["coverage"] < 0.8 and line["mask"]["counts"] for line in lines)
    assert len({tuple(box) for box in boxes}) > 1  # the portrait moves


def test_a_clip_in_kserves_protocol_is_refused_where_it_would_have_many_documents(
    server: Server, portrait: Path
) -> None:
    clip = base64.b64encode(portrait.read_bytes()).decode()
    address = server.predictions.replace("/predictions/human_segmentation", "/v1/models/human_segmentation:predict")
    answer = requests.post(address, json={"instances": [{"image": clip}]}, timeout=60)
    assert (answer.status_code, answer.json()["type"]) == (400, "BadOption")
    assert "/predictions/NAME" in answer.json()["message"]


CASES = [
    ("a photo as a clip", PHOTO, {"format": "mp4"}, 400, "is for clips"),
    ("crop", None, {"crop": "person"}, 400, "crop=person is for photos: a clip has one frame size"),
    ("json in a clip", None, {"output": "json", "format": "webm"}, 400, "JSON holds no picture"),
    ("jpeg", None, {"format": "jpeg"}, 400, "webm, mp4 or mov"),
    ("png", None, {"format": "png"}, 400, "--format png"),
    ("a picture behind it", None, {"output": "composite", "background": "beach.jpg"}, 400, "neither a colour"),
    ("a cut-out as MP4", None, {"output": "cutout", "format": "mp4"}, 400, "no transparency"),
    ("a header alone", b"\0\0\0\x20ftypisom" + bytes(40), {}, 400, "not in a supported format"),
    ("a bad token", PHOTO, {"progress": "../../x"}, 400, "hexadecimal"),
]


@pytest.mark.parametrize(("clip", "options", "status", "words"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_faults_of_the_caller(
    server: Server, portrait: Path, clip: bytes | None, options: dict[str, str], status: int, words: str
) -> None:
    answer = post(server, portrait.read_bytes() if clip is None else clip, **options)
    assert answer.status_code == status
    assert words in answer.json()["message"]


def _other_data(path: Path) -> None:
    with av.open(str(path), "w", format="mpegts") as out:
        stream = out.add_data_stream("bin_data")
        for number in range(60):
            packet = av.Packet(b"Good evening." * 20)
            packet.stream, packet.time_base, packet.pts = stream, Fraction(1, 25), number
            packet.dts = packet.pts
            out.mux(packet)


LOCKED = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "ab" * 16, "encryption_kid": "cd" * 16}
DOT = [np.full((1, 1, 3), 255, np.uint8)] * 3
HUGE = [np.full((4320, 7680, 3), 90, np.uint8)] * 2
BAD: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "sound alone": (write_sound, 400, "audio only"),
    "no video stream": (_other_data, 400, "no video"),
    "encrypted": (lambda p: write_clip(p, disc_frames(5), container_options=LOCKED), 415, "encrypted"),
    "8K": (lambda p: write_clip(p, HUGE, codec="mjpeg", pixels="yuvj420p", codec_options={}), 413, "7680x4320"),
    "an hour": (lambda p: write_clip(p, disc_frames(2), times=[0, 3600], base=Fraction(1)), 413, "humanseg segment"),
    "1x1": (lambda p: write_clip(p, DOT, codec="mjpeg", pixels="yuvj444p", codec_options={}), 200, "3"),
    "240 a second": (lambda p: write_clip(p, disc_frames(24), rate=240), 200, "24"),
}


@pytest.mark.parametrize(("make", "status", "words"), BAD.values(), ids=BAD)
def test_odd_clips_are_done_or_refused_with_the_reason(
    server: Server, tmp_path: Path, make: Callable[[Path], object], status: int, words: str
) -> None:
    make(tmp_path / "in.mp4")
    answer = post(server, (tmp_path / "in.mp4").read_bytes())
    assert answer.status_code == status, answer.text[:300]
    assert words in (answer.headers["x-frames"] if status == 200 else answer.json()["message"])


def test_a_clip_that_breaks_off_is_answered_up_to_there_with_a_warning(server: Server, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    noise = [random.integers(0, 255, (64, 96, 3), np.uint8) for _ in range(40)]
    first = {"movflags": "+faststart"}
    whole = write_clip(tmp_path / "in.mp4", noise, container_options=first, codec_options={"bf": "0", "crf": "10"})
    answer = post(server, whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    assert answer.status_code == 200, answer.text
    assert 10 < int(answer.headers["x-frames"]) < 36
    assert "damaged after frame" in answer.headers["x-warning"]


@pytest.mark.slow
def test_over_the_bounds_is_413_with_the_command_that_does_it(server: Server, tmp_path: Path) -> None:
    long = write_clip(tmp_path / "long.mp4", disc_frames(5), times=[0, 10, 20, 30, 40], rate=1)
    answer = post(server, long.read_bytes(), output="cutout")
    assert (answer.status_code, answer.json()["type"]) == (413, "TooLarge")
    assert "humanseg segment clip.mp4 -o out.webm --output cutout" in answer.json()["message"]


def test_over_64_mb_torchserve_refuses_and_the_client_names_the_command(
    server: Server, portrait: Path, tmp_path: Path
) -> None:
    large = tmp_path / "large.mp4"
    large.write_bytes(portrait.read_bytes())
    os.truncate(large, 64_000_001)  # zeros after the last box
    assert post(server, large.read_bytes()).status_code == 413
    with Client(server.url) as client, pytest.raises(TooLargeError) as refused:
        client.segment_clip(large, output="cutout", quality="best", threshold=0.4)
    command = "humanseg segment clip.mp4 -o out.webm --output cutout --threshold 0.4 --quality best"
    assert str(refused.value).endswith(command)
    assert post(server, portrait.read_bytes()).status_code == 200


@pytest.mark.slow
def test_a_server_with_one_worker_takes_no_clip(make_server, portrait: Path) -> None:  # type: ignore[no-untyped-def]
    answer = post(make_server(WORKERS="1"), portrait.read_bytes())
    assert answer.status_code == 413
    assert "humanseg segment" in answer.json()["message"]


@pytest.mark.slow
def test_beside_a_clip_photos_are_answered_a_second_clip_waits_and_progress_is_told(
    server: Server, portrait: Path, tmp_path: Path
) -> None:
    frames = [frame for _, frame in shown(portrait)] * 8
    slow = write_clip(tmp_path / "slow.mp4", frames, rate=60).read_bytes()
    token, finished = secrets.token_hex(16), threading.Event()

    def answers() -> Iterator[tuple[str, requests.Response]]:
        while not finished.is_set():
            status = ask_progress(server, token)
            yield (
                status.json()["state"],
                post(server, PHOTO if status.json()["frames"] < 5 else portrait.read_bytes()),
            )

    with ThreadPoolExecutor(1) as pool:
        clip = pool.submit(post, server, slow, progress=token)
        clip.add_done_callback(lambda _: finished.set())
        answered = list(answers())
    assert clip.result().headers.get("x-frames") == str(len(frames)), clip.result().text
    working = [answer.status_code for state, answer in answered if state == "working"]
    assert 200 in working
    assert set(working) <= {200, 503}
    assert ask_progress(server, token).json() == {"state": "unknown", "frames": 0, "of": 0}


@pytest.mark.slow
def test_damaged_clips_are_answered_below_500_and_the_workers_live(server: Server, portrait: Path) -> None:
    whole, random = portrait.read_bytes(), np.random.default_rng(3)
    workers = sorted(server.worker_pids())
    for _ in range(12):
        damaged = bytearray(whole)
        for at in random.integers(0, len(whole), 20):
            damaged[at] = random.integers(0, 256)
        answer = post(server, bytes(damaged[: random.integers(len(whole) // 2, len(whole))]))
        assert answer.status_code in (200, 400, 413, 415), answer.text
    assert post(server, PHOTO).status_code == 200
    assert sorted(server.worker_pids()) == workers
