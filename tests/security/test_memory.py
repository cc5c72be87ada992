"""Eight of the largest photos at once, on a server of 4 GiB with two workers: some wait, and nobody is killed."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import requests

from humanseg.serve.memory import memory_bytes
from tests.running import start_server

LIMIT = 4 * 2**30
ROOT = Path("/sys/fs/cgroup")


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A cgroup of 4 GiB: the path of its file of processes."""
    old = (ROOT / "memory").is_dir()
    group = (ROOT / "memory" if old else ROOT) / f"humanseg-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / ("memory.limit_in_bytes" if old else "memory.max")).write_text(str(LIMIT))
    except OSError as error:
        if group.is_dir():
            group.rmdir()
        pytest.skip(f"no cgroup can be made here: {error}")
    yield group / "cgroup.procs"
    end = time.monotonic() + 20
    while (group / "cgroup.procs").read_text() and time.monotonic() < end:
        time.sleep(0.1)
    group.rmdir()


def largest_photo() -> bytes:
    """50 megapixels of noise on a smooth ground: some 55 MB."""
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8), (8160, 6120))
    pixels = cv2.add(ground // 2, rng.integers(0, 64, ground.shape, dtype=np.uint8))
    return bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 99])[1])


@pytest.mark.slow
def test_eight_of_the_largest_photos_kill_nobody(small_group: Path, tmp_path: Path, astronaut_jpeg: bytes) -> None:
    server = start_server(tmp_path / "state", wait=False, WORKERS="2")
    try:
        small_group.write_text(str(server.process.pid))  # before the shell has started anything that stays
        assert memory_bytes(Path(f"/proc/{server.process.pid}/cgroup")) == LIMIT
        server.wait_ready()
        while len(before := sorted(server.worker_pids())) < 2:  # READY was said of the first one
            time.sleep(0.1)
        photo, answers, failures = largest_photo(), Counter[object](), list[str]()
        assert 45e6 < len(photo) < 64e6

        def send() -> None:
            for _ in range(2):
                try:
                    headers = {"x-output": "cutout", "x-archive": "no"}
                    answer = requests.post(server.predictions, data=photo, headers=headers, timeout=120)
                    answers[answer.status_code] += 1
                    if answer.status_code == 500:
                        failures.append(answer.text)
                except requests.ConnectionError:
                    answers["cut off"] += 1

        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(answers) <= {200, 503, 507}, failures
        assert answers[200]
        assert sorted(server.worker_pids()) == before, "a worker was killed"
        assert requests.post(server.predictions, data=astronaut_jpeg, timeout=60).status_code == 200
        assert not any("starts" in line or "hung" in line for line in server.output)
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("groups", "files", "limit"),
    [
        ("0::/\n", {"memory.max": "4000"}, 4000),
        ("0::/\n", {"memory.max": "max"}, None),
        (
            "0::/system.slice/x.service\n",
            {"system.slice/memory.max": "max", "system.slice/x.service/memory.max": "5"},
            5,
        ),
        ("0::/a/b\n", {"a/memory.max": "7", "a/b/memory.max": "9"}, 7),
        ("3:cpu:/\n4:memory:/docker/x\n0::/\n", {"memory/memory.limit_in_bytes": "6"}, 6),
        ("4:memory:/m\n0::/\n", {"memory/memory.limit_in_bytes": "9" * 19, "memory/m/memory.limit_in_bytes": "8"}, 8),
    ],
)
def test_the_limit_of_the_own_group_counts(
    tmp_path: Path, groups: str, files: dict[str, str], limit: int | None
) -> None:
    """systemd's units and containers without a namespace of their own see the machine's root."""
    (tmp_path / "groups").write_text(groups)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    memory = memory_bytes(tmp_path / "groups", tmp_path)
    assert memory == limit if limit else memory > 1e9
