"""Peak memory of the command, for a clip and for one of a quarter of its length."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.servers import ROOT
from benchmarks.video.inputs import make_clip
from benchmarks.video.ways import Bench

# The peak of all ended children: measured in a process that has no other child.
CODE = """
import resource, sys
from pathlib import Path
from benchmarks.video.ways import run_command
run_command(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
"""


def print_memory(bench: Bench) -> None:
    """Print both."""
    quarter = max(1, bench.frames // 4)
    short = make_clip(bench.folder / "short.mp4", quarter)
    peaks = [
        peak_bytes(clip, bench.folder / f"peak-{clip.stem}.webm", bench.server.url) for clip in (short, bench.clip)
    ]
    print(
        f"peak memory of the command: {peaks[0] / 1e6:.0f} MB at {quarter} frames, "
        f"{peaks[1] / 1e6:.0f} MB at {bench.frames}"
    )


def peak_bytes(clip: Path, result: Path, url: str) -> int:
    """The peak resident memory of one `humanseg segment`."""
    words = [sys.executable, "-c", CODE, str(clip), str(result), url]
    return int(subprocess.run(words, check=True, capture_output=True, text=True, cwd=ROOT).stdout)
