"""The final report of `humanseg segment`."""

from __future__ import annotations

import sys
from typing import Any

from humanseg.cli.console import err, print_json, print_table
from humanseg.cli.jobs import Results
from humanseg.cli.segment_run import Tally


def report(tally: Tally, results: Results, *, as_json: bool, results_on_stdout: bool) -> None:
    """Print a table of the failures, and the counts on stderr; or everything as JSON.

    results_on_stdout: the result was written to standard output, so the table goes to stderr.
    """
    if as_json:
        print_json(document(tally, results))
        return
    if tally.failed:
        print_table("Failed", ("photo", "cause"), tally.failed, sys.stderr if results_on_stdout else sys.stdout)
    parts = [f"{len(tally.done) + len(tally.clips)} done"]
    parts += [f"{len(tally.skipped)} skipped (already done)"] if tally.skipped else []
    parts += [f"{len(tally.failed)} failed"] if tally.failed else []
    parts += [f"{len(tally.untried)} not tried"] if tally.untried else []
    err().print(", ".join(parts), highlight=False)


def document(tally: Tally, results: Results) -> dict[str, Any]:
    """The run as JSON."""
    return {
        "done": [
            {
                "photo": str(job.source),
                "result": results.name(job),
                "coverage": answer.coverage,
                "person_found": answer.person_found,
                "confidence": answer.confidence,
                "model_version": answer.model_version,
                "request_id": answer.request_id,
            }
            for job, answer in tally.done
        ],
        "clips": [
            {
                "clip": str(made.job.source),
                "result": results.name(made.job),
                "frames": made.outcome.frames,
                "resumed_at": made.outcome.resumed,
                "warnings": list(made.warnings),
                "model_version": made.model_version,
            }
            for made in tally.clips
        ],
        "skipped": [{"photo": str(job.source), "result": results.name(job)} for job in tally.skipped],
        "failed": [{"photo": name, "cause": cause} for name, cause in tally.failed],
        "untried": [str(job.source) for job in tally.untried],
    }
