"""What the archive costs, whether it keeps up, and how it answers over a million records. Results: ARCHIVE.md.

    .venv/bin/python -m benchmarks.archive keep        the hook alone, fsync off and on
    .venv/bin/python -m benchmarks.archive drain       from the spool to the embedded store; memory of the uploader
    .venv/bin/python -m benchmarks.archive cpu         CPU and throughput of a served photo, archived and not, in turn
    .venv/bin/python -m benchmarks.archive saturate    full load without end: what lies in the spool, what is dropped
    .venv/bin/python -m benchmarks.archive scale       `humanseg archive` over many records

`cpu` alternates blocks of requests with `x-archive: yes` and `no` on one server, so that a busy machine hits both
alike; what follows a block (the rest of the upload) counts to it. The users are threads of this process: they take
from the machine, but not from the CPU that is counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

from benchmarks.archive.cpu import cpu
from benchmarks.archive.drain import drain
from benchmarks.archive.keep import keep
from benchmarks.archive.saturate import saturate
from benchmarks.archive.scale import scale
from benchmarks.photos import SIZES
from benchmarks.servers import CORES, ROOT


def machine() -> str:
    """What the numbers were taken on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown CPU")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return f"{model}, {CORES} cores, load {os.getloadavg()[0]:.1f} before the run, commit {commit}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("keep", "drain", "cpu", "saturate", "scale"))
    parser.add_argument("--records", type=int, default=0, help="default: 200 (keep), 2000 (drain), 1000000 (scale)")
    parser.add_argument("--whole", type=int, default=20_000, help="records with their bytes, for scale")
    parser.add_argument("--photo", choices=tuple(SIZES), default="typical", help="for drain and saturate")
    parser.add_argument("--pairs", type=int, default=4, help="pairs of blocks, for cpu")
    parser.add_argument("--seconds", type=float, default=0.0, help="default: 8 of a block (cpu), 600 (saturate)")
    parser.add_argument("--folder", type=Path, help="where the data lies (default: a temporary folder)")
    given = parser.parse_args()
    about = machine()
    with tempfile.TemporaryDirectory(dir=given.folder) as scratch:
        folder = Path(scratch)
        if given.part == "keep":
            result = keep(folder, given.records or 200)
        elif given.part == "drain":
            result = drain(folder, given.records or 2000, given.photo)
        elif given.part == "cpu":
            result = cpu(folder / "server", given.pairs, given.seconds or 8)
        elif given.part == "saturate":
            result = saturate(folder / "server", given.seconds or 600, given.photo)
        else:
            result = scale(folder, given.records or 1_000_000, given.whole, 1000)
    print(json.dumps({"machine": about, given.part: result}, indent=2))


if __name__ == "__main__":
    main()
