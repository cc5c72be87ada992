"""Every fault of the caller is a 4xx that names cause and fix, and leaves the worker and the others alone."""

from __future__ import annotations

import random
import struct
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import psutil
import pytest
import requests
from PIL import Image
from pillow_heif import register_heif_opener

from tests.running import Server, encoded

TINY = encoded(np.full((20, 30, 3), 128, np.uint8), "PNG")


def post(server: Server, photo: bytes, **options: str) -> requests.Response:
    return requests.post(server.predictions, files={"image": photo}, data=options, timeout=60)


def bomb(width: int, height: int) -> bytes:
    file = BytesIO()
    Image.new("1", (width, height)).save(file, "PNG")
    return file.getvalue()


CASES: list[tuple[str, Callable[[Server], requests.Response], int, str]] = [
    ("empty body", lambda s: requests.post(s.predictions, data=b"", timeout=60), 400, "-F image=@photo.jpg"),
    ("empty field", lambda s: post(s, b""), 400, "no photo"),
    ("not an image", lambda s: post(s, b"What a fine day."), 400, "not a picture"),
    ("truncated", lambda s: post(s, encoded(np.zeros((90, 90, 3), np.uint8), "JPEG")[:-99]), 400, "truncated"),
    ("unknown field", lambda s: post(s, TINY, colour="red"), 400, "'colour'"),
    ("bad option", lambda s: post(s, TINY, threshold="7"), 400, "threshold"),
    ("jpeg cutout", lambda s: post(s, TINY, output="cutout", format="jpeg"), 400, "transparency"),
    (
        "webp of a long panorama",
        lambda s: post(s, encoded(np.zeros((2, 17_000, 3), np.uint8), "PNG"), format="webp"),
        400,
        "format=png",
    ),
    ("pdf", lambda s: post(s, b"%PDF-1.4 hello"), 415, "PDF"),
    ("bomb", lambda s: post(s, bomb(20_000, 20_000)), 413, "megapixels"),
    ("51 megapixels", lambda s: post(s, bomb(8500, 6000)), 413, "8500x6000"),
    (
        "form without photo",
        lambda s: requests.post(s.predictions, data={"output": "mask"}, timeout=60),
        400,
        "-T",
    ),
    (
        "broken json",
        lambda s: requests.post(
            s.predictions, data='{"image":', headers={"content-type": "application/json"}, timeout=60
        ),
        400,
        "not valid JSON",
    ),
    (
        "two values",
        lambda s: requests.post(
            s.predictions,
            files=[("image", ("a.png", TINY)), ("output", (None, "mask")), ("output", (None, "json"))],
            timeout=60,
        ),
        400,
        "output",
    ),
    (
        "two places",
        lambda s: requests.post(
            s.predictions,
            files={"image": TINY},
            data={"keep": "all"},
            headers={"x-keep": "largest"},
            timeout=60,
        ),
        400,
        "keep is given twice",
    ),
]


@pytest.mark.parametrize(("name", "send", "status", "words"), CASES, ids=[case[0] for case in CASES])
def test_faults_are_named(
    server: Server, name: str, send: Callable[[Server], requests.Response], status: int, words: str
) -> None:
    workers = server.worker_pids()
    answer = send(server)
    assert answer.status_code == status, answer.text
    fault = answer.json()
    assert set(fault) == {"code", "type", "message", "request_id"}
    assert fault["code"] == status
    assert words in fault["message"]
    assert fault["request_id"] == answer.headers["x-request-id"]
    assert server.worker_pids() == workers
    assert post(server, TINY).status_code == 200


def test_a_form_body_without_a_photo_never_gets_the_page(server: Server) -> None:
    """curl --data-binary sends its bytes as a web form; what the frontend can't parse it refuses itself."""
    for body in (b"abc", b"output=mask", b"%", TINY):
        result = subprocess.run(
            ["curl", "-sS", "-w", "%{http_code}", "--data-binary", "@-", server.predictions],
            input=body,
            capture_output=True,
            check=True,
        )
        assert b"<html" not in result.stdout
        if body in (b"%", TINY) and result.stdout.endswith(b"500"):
            continue  # not ours: it can't be parsed as a form, and no handler is asked
        assert result.stdout.endswith(b"400")
        assert b"-F image=@photo.jpg" in result.stdout


def test_a_body_over_the_byte_limit_is_refused(server: Server) -> None:
    answer = requests.post(server.predictions, data=bytes(64_000_001), timeout=60)
    assert answer.status_code == 413
    assert post(server, TINY).status_code == 200


def corpus() -> list[bytes]:
    """Flipped bits, truncations and lying headers of each format, the same at each run."""
    register_heif_opener()
    chance = random.Random(20)
    pixels = np.random.default_rng(1).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    broken = []
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "HEIF", "AVIF"):
        good = encoded(pixels, kind)
        broken += [good[: chance.randrange(1, len(good))] for _ in range(12)]
        for _ in range(12):
            bad = bytearray(good)
            for _ in range(chance.randint(1, 20)):
                bad[chance.randrange(len(bad))] = chance.randrange(256)
            broken.append(bytes(bad))
        broken.append(good[:20] + chance.randbytes(200))
        broken.append(good + chance.randbytes(200))
    # A PNG header that claims four thousand million pixels, with a right checksum.
    header = struct.pack(">IIBBBBB", 65_535, 65_535, 8, 2, 0, 0, 0)
    broken.append(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + header + b"\x00\x00\x00\x00")
    return broken


@pytest.mark.slow
def test_broken_files_kill_no_worker_and_eat_no_memory(server: Server, astronaut_jpeg: bytes) -> None:
    good = post(server, astronaut_jpeg).content
    workers = server.worker_pids()
    before = sum(psutil.Process(pid).memory_info().rss for pid in workers)

    def send(data: bytes) -> tuple[int, bytes]:
        # A good photo now and then, between the broken ones and in the same batches.
        answer = post(server, data)
        while answer.status_code == 503 and answer.json()["type"] == "Busy":  # what looks like a clip waits its turn
            time.sleep(0.2)
            answer = post(server, data)
        return answer.status_code, answer.content if data is astronaut_jpeg else b""

    photos = corpus()
    mixed = [
        body for index, data in enumerate(photos) for body in ([data, astronaut_jpeg] if index % 9 == 0 else [data])
    ]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, mixed))
    assert {status for status, _ in answers} <= {200, 400, 413, 415}
    assert all(body in (b"", good) for _, body in answers)
    assert server.worker_pids() == workers
    after = sum(psutil.Process(pid).memory_info().rss for pid in workers)
    assert after - before < 300_000_000
