"""Run everything and write RESULTS.md: python -m benchmarks.run [--quick] [--only PART,PART]; see run.sh.

Parts: race (limit, ours and the peers, interleaved), sweep (ours by number of clients), open (ours under a fixed
rate), outputs (mask, cutout, JSON beside rembg), forward (the network alone), memory, gpu where there is one, and
rim (colours at soft edges), which needs --data.
A part that is not run keeps what the last run of it measured on the same machine.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks import report
from benchmarks.bench import FULL, QUICK, Bench, say
from benchmarks.figures import OURS, OURS_OFF
from benchmarks.parts import RUNNERS
from benchmarks.process_group import ProcessGroup
from benchmarks.servers import CORES, DATA, ROOT, ours, with_archive_off


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for the servers' state, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="humanseg-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Entry point of run.sh."""
    parser = argparse.ArgumentParser(
        prog="run.sh", description="Compare the served model with its limit and its peers."
    )
    parser.add_argument("--quick", action="store_true", help="one short round of everything")
    parser.add_argument("--only", default=",".join(RUNNERS), help="parts, separated by commas (default: all)")
    parser.add_argument("--rounds", type=int, help=f"repetitions (default: {FULL.rounds}, quick {QUICK.rounds})")
    parser.add_argument("--requests", type=int, help=f"of the memory part (default: {FULL.requests})")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="photographs with masks, for the part rim")
    arguments = parser.parse_args()
    parts = tuple(arguments.only.split(","))
    unknown = [part for part in parts if part not in RUNNERS]
    if unknown:
        parser.error(f"unknown part {unknown[0]!r}; parts are {', '.join(RUNNERS)}")
    DATA.mkdir(exist_ok=True)
    with scratch_folder() as scratch:
        plan = QUICK if arguments.quick else FULL
        plan = replace(plan, rounds=arguments.rounds or plan.rounds, requests=arguments.requests or plan.requests)
        bench = Bench(plan, scratch, arguments.data, quick=arguments.quick)
        try:
            if set(parts) & {"race", "cost", "sweep", "open", "outputs", "memory"}:
                off = with_archive_off(bench.mar, scratch / "off.mar")
                for spec in (ours(OURS, bench.mar), ours(OURS_OFF, off)):
                    if bench.start(spec) is None:
                        sys.exit("our own server did not start")
            with ProcessGroup(bench.model, CORES) as group:
                for part in parts:
                    RUNNERS[part](bench, group)
        finally:
            for server in bench.running.values():
                server.stop()
    say(f"wrote {report.RESULTS_MD.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
