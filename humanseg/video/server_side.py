"""The worker's side of a clip: starts the child, runs the network for its frames, and limits its time."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

import humanseg
from humanseg.segmentation.photo import Pixels
from humanseg.video import errors
from humanseg.video.child import DONE, FAIL, FRAME, HEADER, PROGRESS, ClipJob

MAX_FRAME = 2048 * 2048  # pixels; the maximum of a network's frame


def run(
    job: ClipJob,
    ask: Callable[[Pixels], Pixels],
    *,
    deadline: float,
    progress: Callable[[int, int], None] = lambda finished, expected: None,
) -> dict[str, Any]:
    """Process one clip, and return the child's result: {"frames", "warnings", "sampled"}.

    Args:
        job: the job.
        ask: maps a frame, uint8 [h, w, 3], to a probability, uint8 [h, w].
        deadline: seconds after which the child is killed.
        progress: called with finished and expected frames (0: unknown).

    Raises:
        ClipError: the clip is invalid, or took longer than `deadline`.
    """
    folder = Path(humanseg.__file__).resolve().parents[1]
    child = subprocess.Popen(
        [sys.executable, "-m", "humanseg.video.child", job.text()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
    )
    late = threading.Event()

    def end() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(deadline, end)
    timer.start()
    try:
        assert child.stdin and child.stdout
        return _converse(child.stdin, child.stdout, ask, progress)
    except (EOFError, BrokenPipeError):
        if late.is_set():
            raise errors.ClipTooLarge(
                f"Processing the clip takes longer than the server's limit of {deadline:.0f} s."
            ) from None
        raise errors.BrokenClip("The clip is damaged and crashes the decoder. Convert it first.") from None
    finally:
        timer.cancel()
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            with contextlib.suppress(BrokenPipeError):
                if pipe:
                    pipe.close()


def _converse(
    to_child: Any, from_child: Any, ask: Callable[[Pixels], Pixels], progress: Callable[[int, int], None]
) -> dict[str, Any]:
    while True:
        kind, first, second = HEADER.unpack(_exactly(from_child, HEADER.size))
        if kind == FRAME and first * second <= MAX_FRAME:
            pixels = np.frombuffer(_exactly(from_child, first * second * 3), np.uint8)
            to_child.write(np.ascontiguousarray(ask(pixels.reshape(first, second, 3))).tobytes())
            to_child.flush()
        elif kind == PROGRESS:
            progress(first, second)
        elif kind in (DONE, FAIL):
            document: dict[str, Any] = json.loads(_exactly(from_child, first))
            if kind == FAIL:
                raise getattr(errors, document["type"], errors.BrokenClip)(document["message"])
            return document
        else:
            raise EOFError


def _exactly(pipe: BinaryIO, size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data
