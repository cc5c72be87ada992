"""Names of segments, and the keys that follow from them.

    20261122T150405.123456Z-4f1c8e0a-000001          written by a worker, or merged by an uploader
    20261122T150405.123456Z-r0000001-482913          rewritten by `compact` or `erase`

The parts are the time of the first record, the writer's id (8 random hexadecimal digits), and a counter. A rewritten
segment has the time of the newest segment that it replaces, and `r` with a generation as the second part. It
therefore sorts after all that it replaces, and a reader that lists them in order finds either the old ones or the new
one, whatever is deleted meanwhile.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone

SUFFIX = ".tar"
_NAME = re.compile(r"(\d{8}T\d{6}\.\d{6}Z)-([0-9a-f]{8}|r\d{7})-(\d{6,})")


@dataclass(frozen=True)
class Name:
    """A segment's name in its parts. `text` is the name itself."""

    text: str
    time: datetime
    writer: str

    @property
    def partition(self) -> str:
        """The partition by day and hour (UTC) in Hive style: `dt=2026-11-22/hour=15`."""
        return partition_of(self.time)

    @property
    def rewritten(self) -> bool:
        """Whether it replaces other segments."""
        return self.writer.startswith("r")

    @property
    def generation(self) -> int:
        """How often its records were rewritten; 0 for a segment from a server."""
        return int(self.writer[1:]) if self.rewritten else 0


def new_writer() -> str:
    """A random writer id, one per process that creates segments."""
    return secrets.token_hex(4)


def make_name(time: datetime, writer: str, number: int) -> Name:
    """The name of the segment that `writer` starts with a record of `time` (timezone-aware)."""
    time = time.astimezone(timezone.utc)
    return Name(f"{time:%Y%m%dT%H%M%S.%f}Z-{writer}-{number:06d}", time, writer)


def replacement_name(replaced: Iterable[Name]) -> Name:
    """A name for the replacement of these segments, all of one hour; it sorts after each of them."""
    names = list(replaced)
    generation = 1 + max(name.generation for name in names)
    return make_name(max(name.time for name in names), f"r{generation:07d}", secrets.randbelow(900_000) + 100_000)


def parse_name(text: str) -> Name | None:
    """Parse `text`, which may be a key or path with a suffix; None if it is not a segment's name."""
    match = _NAME.fullmatch(text.rsplit("/", 1)[-1].removesuffix(SUFFIX).removesuffix(".parquet"))
    if not match:
        return None
    time = datetime.strptime(match.group(1), "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=timezone.utc)
    return Name(match.group(0), time, match.group(2))


def partition_of(time: datetime) -> str:
    """`dt=2026-11-22/hour=15` of a timezone-aware time."""
    return f"{time.astimezone(timezone.utc):dt=%Y-%m-%d/hour=%H}"


def records_root(prefix: str) -> str:
    """The prefix of the servers' records, the only one that a server may write to."""
    return f"{prefix}/v2"


def corrections_root(prefix: str) -> str:
    """The prefix of corrected masks that wait for review; below `records_root`, so that a server may write there."""
    return f"{prefix}/v2/corrections"


def labels_root(prefix: str) -> str:
    """The prefix of masks that a person drew or accepted."""
    return f"{prefix}/labels/v2"


def segment_key(root: str, name: Name) -> str:
    """The key of the tar.

    >>> segment_key("humanseg/v2", make_name(datetime(2026, 11, 22, 15, tzinfo=timezone.utc), "4f1c8e0a", 1))
    'humanseg/v2/segments/dt=2026-11-22/hour=15/20261122T150000.000000Z-4f1c8e0a-000001.tar'
    """
    return f"{root}/segments/{name.partition}/{name.text}{SUFFIX}"


def table_key(root: str, name: Name) -> str:
    """The key of its table, the commit marker."""
    return f"{root}/records/{name.partition}/{name.text}.parquet"
