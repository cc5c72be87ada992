"""Corrected masks that users sent back: proposals, until a person reviews and accepts them as labels."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from humanseg.archive.errors import ArchiveError
from humanseg.archive.read.labels import read_labels, upload
from humanseg.archive.read.reader import Reader, cut
from humanseg.archive.ship.table import CORRECTIONS, StoredLabel

RECORD = ["request_id", "photo_sha256", "width", "height"]


@dataclass(frozen=True)
class Proposal:
    """The newest correction of a photo. of: the request id of the photo's record. state: see `STATES`."""

    of: str
    time: datetime
    width: int
    height: int
    state: str
    row: dict[str, Any]
    photo_sha256: str | None


STATES = {
    "proposed": "waits for review",
    "accepted": "is the photo's label",
    "no photo": "no committed record has this id",
    "other size": "its photo has another size",
}


@dataclass
class Accepted:
    """Photos whose correction became a label, and problems: why the others did not."""

    accepted: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read_proposals(reader: Reader, ids: Collection[str] | None = None) -> list[Proposal]:
    """The newest correction of each photo, by time; `ids` limits them to these records."""
    where = None if ids is None else pc.field("of").isin(pa.array(sorted(ids), pa.string()))
    tables = list(reader.corrections.days_rows(where=where))
    order = [("time", "ascending"), ("request_id", "ascending")]
    rows = pa.concat_tables([CORRECTIONS.empty_table(), *tables]).sort_by(order).to_pylist()
    newest = {row["of"]: row for row in rows}
    if not newest:
        return []
    of = pc.field("request_id").isin(pa.array(sorted(newest), pa.string()))
    records = {
        row["request_id"]: row
        for table in reader.records.days_rows(columns=RECORD, where=of)
        for row in table.to_pylist()
    }
    accepted = {digest: label.mask_sha256 for digest, label in read_labels(reader).items()}
    proposals = [_proposal(row, records.get(row["of"]), accepted) for row in newest.values()]
    return sorted(proposals, key=lambda proposal: (proposal.time, proposal.of))


def _proposal(row: dict[str, Any], record: dict[str, Any] | None, accepted: dict[str, str]) -> Proposal:
    if record is None:
        state = "no photo"
    elif (row["width"], row["height"]) != (record["width"], record["height"]):
        state = "other size"
    else:
        state = "accepted" if accepted.get(record["photo_sha256"]) == row["mask_sha256"] else "proposed"
    digest = record["photo_sha256"] if record else None
    return Proposal(row["of"], row["time"], row["width"], row["height"], state, row, digest)


def proposed_mask(reader: Reader, proposal: Proposal) -> bytes:
    """The mask as a PNG.

    Raises:
        Damaged: its hash is not the one in the table.
    """
    row = proposal.row
    data = reader.get_range(row["segment"], row["mask_offset"], row["mask_offset"] + row["mask_bytes"])
    return cut(row, data, row["mask_offset"], "mask")


def accept(reader: Reader, ids: Collection[str], *, by: str, now: datetime) -> Accepted:
    """Make labels of the proposals of these records, which `by` has reviewed. If one has a problem, none is accepted.

    A label has the mask's own bytes, so that accepting twice changes nothing.
    """
    proposals = {proposal.of: proposal for proposal in read_proposals(reader, ids)}
    result = Accepted()
    labels: list[tuple[StoredLabel, bytes]] = []
    for request_id in dict.fromkeys(ids):
        proposal = proposals.get(request_id)
        if proposal is None:
            result.problems.append(f"{request_id}: no correction of this photo was sent")
        elif proposal.photo_sha256 is None or proposal.state == "other size":
            result.problems.append(f"{request_id}: {STATES[proposal.state]}")
        elif proposal.state == "accepted":
            result.accepted.append(request_id)
        else:
            try:
                data = _checked(proposed_mask(reader, proposal), proposal)
            except ArchiveError as error:
                result.problems.append(f"{request_id}: {error}")
                continue
            digest = hashlib.sha256(data).hexdigest()
            labels.append(
                (StoredLabel(request_id, now, proposal.photo_sha256, digest, len(data), f"page, {by}"), data)
            )
            result.accepted.append(request_id)
    if labels and not result.problems:
        upload(reader, labels, now)
    return result


def _checked(data: bytes, proposal: Proposal) -> bytes:
    """Validate the mask: not only our servers can write to the bucket."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.mode != "L" or image.size != (proposal.width, proposal.height):
                raise ArchiveError("its mask does not match its row")
            levels = image.histogram()
    except (OSError, ValueError, SyntaxError) as error:
        raise ArchiveError(f"its mask can't be read: {error}") from error
    if any(levels[1:255]):
        raise ArchiveError("its mask has values other than 0 and 255")
    return data
