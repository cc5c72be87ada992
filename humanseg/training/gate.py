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
        found = embedded(path.read_text(), NAME)
        listed = {one for row in found["per_photo"] for one in row["request_ids"]}
        return Gate(
            found["verdict"],
            found["old"]["weights_sha256"],
            found["new"]["weights_sha256"],
            found["photos"],
            frozenset(listed),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a report of `humanseg compare` ({error})") from None
