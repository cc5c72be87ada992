"""Processes one clip in a separate process: `python -m humanseg.video.child JOB`. The network is behind a pipe.

FFmpeg parses untrusted bytes in C. A crash, an endless loop or a decompression bomb ends this process, not the
worker: the kernel limits its memory, CPU time and output size, and it runs at low priority, so that photos come
first.

It writes messages to stdout and reads answers from stdin (`humanseg.video.server_side` is the other end):

    FRAM  height, width, pixels (uint8 [h, w, 3])    answered with a probability (uint8 [h, w])
    PROG  finished frames, expected frames
    DONE, FAIL  length, JSON
"""

from __future__ import annotations

import json
import os
import resource
import struct
import sys
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

FRAME, PROGRESS, DONE, FAIL = b"FRAM", b"PROG", b"DONE", b"FAIL"
HEADER = struct.Struct("<4sII")
MEMORY = 4 << 30  # bytes of address space; a 4K clip with alpha needs 1.5 GB
NICE = 10


@dataclass(frozen=True)
class ClipJob:
    """The job: paths of the clip and the result, the request's options, and the network's spec.

    samples: folder for sampled frames (`humanseg.video.sampled`); None for no samples.
    """

    source: str
    result: str
    samples: str | None
    container: str
    output: str
    quality: str
    background: str
    keep: str
    threshold: float
    spec: dict[str, Any]
    max_seconds: float
    max_pixels: int
    max_bytes: int
    cpu_seconds: int

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))


def main() -> int:
    """Entry point."""
    job = ClipJob(**json.loads(sys.argv[1]))
    _bound(job)
    pipe_in, pipe_out = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # other output must not mix with the messages
    from humanseg.video.errors import ClipError, ClipTooLarge

    try:
        document = _work(job, pipe_in, pipe_out)
    except ClipError as error:
        _send(pipe_out, FAIL, {"type": type(error).__name__, "message": str(error)})
    except (MemoryError, OSError) as error:
        _send(
            pipe_out,
            FAIL,
            {"type": ClipTooLarge.__name__, "message": f"The clip exceeds its resource limits ({error})."},
        )
    else:
        _send(pipe_out, DONE, document)
    return 0


def _bound(job: ClipJob) -> None:
    import signal

    os.nice(NICE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a too large result raises an OSError instead
    for limit, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, job.max_bytes),
        (resource.RLIMIT_CPU, job.cpu_seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))


def _work(job: ClipJob, pipe_in: BinaryIO, pipe_out: BinaryIO) -> dict[str, Any]:
    import cv2
    import numpy as np

    from humanseg.segmentation.augmented import FINEST
    from humanseg.segmentation.photo import Pixels
    from humanseg.segmentation.spec import Spec
    from humanseg.video.backdrop import backdrop
    from humanseg.video.convert import Look, Network, Target, convert
    from humanseg.video.errors import ClipTooLarge
    from humanseg.video.probe import probe
    from humanseg.video.sampled import Sampler

    cv2.setNumThreads(1)

    def ask(frame: Pixels) -> Pixels:
        height, width = frame.shape[:2]
        pipe_out.write(HEADER.pack(FRAME, height, width))
        pipe_out.write(np.ascontiguousarray(frame).tobytes())
        pipe_out.flush()
        answer = pipe_in.read(height * width)
        if len(answer) < height * width:
            raise OSError("the worker is gone")
        return np.frombuffer(answer, np.uint8).reshape(height, width)

    info = probe(Path(job.source), max_pixels=job.max_pixels)
    if info.seconds and info.seconds > job.max_seconds + 0.5:
        raise ClipTooLarge(f"The clip lasts {info.seconds:.0f} s; the server's limit is {job.max_seconds:g} s.")
    finished = reported = 0

    def progress(frames: int) -> None:
        nonlocal finished
        finished = frames

    def ask_and_report(frame: Pixels) -> Pixels:  # in the only thread that writes to the pipe
        nonlocal reported
        if finished != reported:
            reported = finished
            pipe_out.write(HEADER.pack(PROGRESS, reported, info.frames or 0))
        return ask(frame)

    warnings: list[str] = []
    spec = Spec.from_mapping(job.spec)
    sampler = Sampler(Path(job.samples), info.seconds, spec.calibration) if job.samples else None
    outcome = convert(
        info,
        Target(Path(job.result), job.container),
        Look(job.output, backdrop(job.background), job.threshold, job.keep),
        Network(spec, job.threshold, "", ask_and_report, finest=FINEST if job.quality == "best" else 1),
        longest=Fraction(job.max_seconds) + Fraction(1, 2),
        seen=sampler or (lambda frame, segmentation: None),
        progress=progress,
        warn=warnings.append,
    )
    return {
        "frames": outcome.frames,
        "warnings": warnings,
        "sampled": [sample.plain() for sample in sampler.taken] if sampler else [],
    }


def _send(pipe_out: BinaryIO, kind: bytes, document: dict[str, Any]) -> None:
    text = json.dumps(document).encode()
    pipe_out.write(HEADER.pack(kind, len(text), 0) + text)
    pipe_out.flush()


if __name__ == "__main__":
    sys.exit(main())
