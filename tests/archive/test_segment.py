"""A segment: a plain tar that other tools read, and of which every whole record survives whatever happens to it."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from humanseg.archive.capture.record import StoredRecord
from humanseg.archive.capture.segment import Damaged, Torn, Whole, scan
from humanseg.archive.capture.spool import Spool, whole_end
from humanseg.archive.capture.tar import END
from tests.archive.records import BYTES, IDS, RECORDS, SEGMENT, make_record, writer_at


def ids_in(data: bytes) -> list[str]:
    """Ids of the whole records."""
    return [item.sample.request_id for item in scan(data, StoredRecord.from_json) if isinstance(item, Whole)]


def test_a_scan_finds_every_record_with_its_bytes() -> None:
    for data in (SEGMENT, SEGMENT + END):
        whole = list(scan(data, StoredRecord.from_json))
        assert [record.sample for record in whole if isinstance(record, Whole)] == [
            record.stored for record in RECORDS
        ]
        for record in whole:
            assert isinstance(record, Whole)
            at = record.offsets["jpg"]
            assert (
                data[at : at + record.sample.photo_bytes] == bytes([whole.index(record)]) * record.sample.photo_bytes
            )
            text = data[record.offsets["json"] : record.offsets["json"] + record.json_bytes]
            assert StoredRecord.from_json(text) == record.sample


@pytest.mark.slow
def test_a_tail_that_is_cut_at_any_byte_takes_only_its_own_record() -> None:
    """A worker killed in the middle of an append: every byte offset of the last record."""
    whole = len(SEGMENT) - len(BYTES[-1])
    for length in range(whole, len(SEGMENT)):
        data = SEGMENT[:length]
        assert whole_end(data) == whole
        assert ids_in(data) == IDS[:-1]


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, len(SEGMENT) - 1), value=st.integers(1, 255))
def test_a_damaged_byte_takes_only_its_own_record(at: int, value: int) -> None:
    data = bytearray(SEGMENT)
    data[at] ^= value
    ends = [sum(map(len, BYTES[: number + 1])) for number in range(len(BYTES))]
    hurt = next(number for number, end in enumerate(ends) if at < end)
    left = ids_in(bytes(data))
    # Padding and a header's owner fields carry nothing of a record: then it is still whole.
    assert left in (IDS, IDS[:hurt] + IDS[hurt + 1 :])
    parts = list(scan(bytes(data), StoredRecord.from_json))
    assert sum(isinstance(part, (Damaged, Torn)) for part in parts) == (left != IDS)
    if hurt < len(IDS) - 1:
        assert not any(isinstance(part, Torn) for part in parts), "what stands behind it is not cut off"


@settings(max_examples=150, deadline=None)
@given(start=st.integers(0, len(SEGMENT)), size=st.integers(1, 4000), noise=st.binary(min_size=1, max_size=8))
def test_any_damage_leaves_the_records_before_and_after_it(start: int, size: int, noise: bytes) -> None:
    """Blocks of zeros or of something else, as a power cut leaves them."""
    end = min(len(SEGMENT), start + size)
    data = SEGMENT[:start] + (noise * size)[: end - start] + SEGMENT[end:]
    at, untouched = 0, []
    for block, name in zip(BYTES, IDS, strict=True):
        if at + len(block) <= start or at >= end:
            untouched.append(name)
        at += len(block)
    assert set(untouched) <= set(ids_in(data))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=5000))
def test_noise_holds_no_record_and_breaks_nothing(noise: bytes) -> None:
    covered = 0
    for item in scan(noise, StoredRecord.from_json):
        assert not isinstance(item, Whole)
        covered = item.end if isinstance(item, Damaged) else len(noise)
    assert covered in (len(noise), len(noise) - 1024), "only an end marker is left out"


def test_a_record_of_another_name_is_none() -> None:
    swapped = BYTES[0].replace(IDS[0].encode(), IDS[1].encode())[: len(BYTES[0])]
    assert ids_in(swapped + BYTES[2]) == [IDS[2]]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset closes no file
def test_other_tools_read_a_sealed_segment(tmp_path: Path) -> None:
    writer = writer_at(tmp_path)
    for record in RECORDS:
        writer.append(record)
    writer.seal()
    (path,) = Spool(tmp_path).sealed()
    listed = subprocess.run(["tar", "tvf", path], capture_output=True, text=True, check=True)
    assert listed.stderr == ""
    assert len(listed.stdout.splitlines()) == 15
    with tarfile.open(path) as tar:
        member = tar.getmembers()[0]
        assert (member.name, member.mode, member.uname, member.uid) == (f"{IDS[0]}.jpg", 0o644, "", 0)
        assert member.mtime == int(RECORDS[0].stored.time.timestamp())
    samples = list(webdataset.WebDataset(str(path), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == IDS
    assert [json.loads(sample["json"])["photo_sha256"] for sample in samples] == [
        record.stored.photo_sha256 for record in RECORDS
    ]
    assert set(samples[0]) >= {"jpg", "mask.png", "json"}


class Fails:
    """A `writev` that does what it should until it is told how many bytes of the next call it may write."""

    def __init__(self) -> None:
        self.next: int | None = None

    def __call__(self, descriptor: int, blocks: Sequence[bytes]) -> int:
        data = b"".join(blocks)
        upto, self.next = len(data) if self.next is None else self.next, None
        with io.FileIO(descriptor, "ab", closefd=False) as file:
            return file.write(data[:upto])


@pytest.mark.parametrize("written", [0, 1, 511, 512, 513, 1500, len(BYTES[1]) - 1])
def test_a_short_write_is_cut_back_and_its_neighbours_are_whole(tmp_path: Path, written: int) -> None:
    writev = Fails()
    writer = writer_at(tmp_path, writev=writev)
    writer.append(RECORDS[0])
    writev.next = written
    with pytest.raises(OSError, match=f"{written} of {len(BYTES[1])} bytes"):
        writer.append(RECORDS[1])
    writer.append(RECORDS[2])
    writer.seal()
    (path,) = Spool(tmp_path).sealed()
    assert path.read_bytes() == BYTES[0] + BYTES[2]


def test_a_first_record_that_fails_leaves_no_segment(tmp_path: Path) -> None:
    writev = Fails()
    writer = writer_at(tmp_path, writev=writev)
    writev.next = 100
    with pytest.raises(OSError, match="100 of"):
        writer.append(RECORDS[0])
    assert Spool(tmp_path).files() == []
    writer.append(RECORDS[1])
    writer.seal()
    assert Spool(tmp_path).sealed()[0].read_bytes() == BYTES[1]


def test_a_full_disk_in_the_middle_of_an_append_costs_that_record_alone(small_disk: Path) -> None:
    writer = writer_at(small_disk, segment_bytes=1 << 30)
    kept = []
    with pytest.raises(OSError, match="No space left|bytes were written"):  # noqa: PT012
        for number in range(100):
            large = make_record(number, b"x" * 300_000)
            writer.append(large)
            kept.append(large.stored.request_id)
    writer.append(make_record(1, b"y" * 100))
    writer.seal()
    (path,) = Spool(small_disk).sealed()
    assert ids_in(path.read_bytes())[:-1] == kept
    assert whole_end(path.read_bytes()) == path.stat().st_size


def test_an_open_segment_counts_its_time_from_its_first_record(tmp_path: Path) -> None:
    now = [100.0]
    writer = writer_at(tmp_path, monotonic=lambda: now[0])
    writer.append(RECORDS[0])
    now[0] = 159.9
    writer.append(RECORDS[1])
    writer.seal_if_due()
    assert Spool(tmp_path).sealed() == []
    now[0] = 160.0
    writer.seal_if_due()
    assert len(Spool(tmp_path).sealed()) == 1
    writer.seal_if_due()
    writer.seal()
    assert len(Spool(tmp_path).sealed()) == 1


def test_a_full_segment_makes_room_for_the_next(tmp_path: Path) -> None:
    size = len(BYTES[0]) + len(BYTES[1])
    writer = writer_at(tmp_path, segment_bytes=size)
    for record in RECORDS:
        writer.append(record)
    sealed = Spool(tmp_path).sealed()
    assert all(path.stat().st_size <= size for path in sealed)
    writer.seal()
    assert b"".join(path.read_bytes() for path in Spool(tmp_path).sealed()) == SEGMENT
