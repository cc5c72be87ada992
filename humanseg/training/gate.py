"""Reads a report of `humanseg compare` for a release, without the dependencies for creating one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from humanseg.common.html import embedded

NAME = "comparison"  # of the data embedded in the report


@dataclass(frozen=True)
class Gate:
    """A report's content for a release: the hashes of the weights, and the verdict."""

    state: str
    old_sha256: str
    new_sha256: str
    photos: int
    request_ids: frozenset[str]

    @property
    def passed(self) -> bool:
        """Whether the new model may be released."""
        return self.state in ("better", "not worse")


def read_gate(path: Path) -> Gate:
    """Read a report. Raises ValueError if it is not one, OSError if it can't be read."""
    try:
        report = embedded(path.read_text(), NAME)
        listed = {request_id for row in report["per_photo"] for request_id in row["request_ids"]}
        return Gate(
            report["verdict"],
            report["old"]["weights_sha256"],
            report["new"]["weights_sha256"],
            report["photos"],
            frozenset(listed),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a report of `humanseg compare` ({error})") from None
