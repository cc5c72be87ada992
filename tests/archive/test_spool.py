"""The spool: segments of dead writers, claims that die with their holder, what waits, and its bounds."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import uuid
from datetime import timedelta
from pathlib import Path

import pytest

from humanseg.archive.capture.bounds import Bounds, SpoolFullError
from humanseg.archive.capture.spool import Spool, claimed, records_of
from humanseg.archive.capture.writer import SegmentWriter
from humanseg.archive.ship import groups
from tests.archive.helpers import NOON
from tests.archive.records import BYTES, IDS, RECORDS, writer_at

ROOT = Path(__file__).resolve().parents[2]


def fill(root: Path, count: int = 1) -> Spool:
    """A spool with `count` records in one sealed segment."""
    writer = writer_at(root)
    for record in RECORDS[:count]:
        writer.append(record)
    writer.seal()
    return Spool(root)


def child(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python process that runs `code` and says "ready" when it did."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_only_the_owner_may_look_into_the_spool(tmp_path: Path) -> None:
    spool = fill(tmp_path / "spool")
    assert spool.root.stat().st_mode & 0o077 == 0
    assert spool.sealed()[0].stat().st_mode & 0o077 == 0


def test_the_segment_of_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    writer = writer_at(tmp_path)
    writer.append(RECORDS[0])
    spool = Spool(tmp_path)
    assert spool.seal_orphans() == 0
    writer.append(RECORDS[1])
    assert len(spool.open_segments()) == 1
    writer.seal()
    assert [record.request_id for record in records_of(spool.sealed()[0])] == IDS[:2]


@pytest.mark.slow
@pytest.mark.parametrize("torn", [0, 1, 700])
def test_the_segment_of_a_dead_writer_is_cut_back_and_sealed(tmp_path: Path, torn: int) -> None:
    dying = child(
        """
        import os, sys
        from pathlib import Path
        from tests.archive.records import BYTES, RECORDS, writer_at
        writer = writer_at(Path(sys.argv[1]))
        writer.append(RECORDS[0])
        os.write(writer._descriptor, BYTES[1][: int(sys.argv[2])])
        print("ready", RECORDS[0].stored.request_id, flush=True)
        os.kill(os.getpid(), 9)
        """,
        str(tmp_path),
        str(torn),
    )
    assert dying.stdout
    with dying.stdout:
        request_id = dying.stdout.readline().split()[1]
    dying.wait()
    spool = Spool(tmp_path)
    assert spool.seal_orphans() == 1
    assert spool.open_segments() == []
    (sealed,) = spool.sealed()
    assert [record.request_id for record in records_of(sealed)] == [request_id]
    assert sealed.stat().st_size % 512 == 0


def test_the_segment_of_a_writer_that_died_before_its_first_record_goes(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.make_folders()
    (tmp_path / "open" / "20261120T120000.000000Z-00000000-000001.tar").write_bytes(BYTES[0][:100])
    assert spool.seal_orphans() == 0
    assert spool.files() == []


def test_a_claim_excludes_others_and_dies_with_its_holder(tmp_path: Path) -> None:
    (path,) = fill(tmp_path).sealed()
    holder = child(
        """
        import sys, time
        from pathlib import Path
        from humanseg.archive.capture.spool import claimed
        with claimed(Path(sys.argv[1])) as mine:
            print("ready" if mine else "no", flush=True)
            time.sleep(60)
        """,
        str(path),
    )
    assert holder.stdout
    with holder.stdout:
        assert holder.stdout.readline() == "ready\n"
        with claimed(path) as mine:
            assert not mine
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with claimed(path) as first, claimed(path) as second:
        assert (first, second) == (True, False)


def test_a_claim_on_what_is_gone_fails(tmp_path: Path) -> None:
    (path,) = fill(tmp_path).sealed()
    path.unlink()
    with claimed(path) as mine:
        assert not mine


def test_a_spool_that_somebody_deleted_comes_back(tmp_path: Path) -> None:
    writer = writer_at(tmp_path / "spool")
    writer.append(RECORDS[0])
    shutil.rmtree(tmp_path / "spool")
    writer.append(RECORDS[1])
    writer.seal()
    (path,) = Spool(tmp_path / "spool").sealed()
    assert [record.request_id for record in records_of(path)] == [IDS[1]]


def test_everything_in_the_spool_counts(tmp_path: Path) -> None:
    """Open segments, what is on its way, and what an earlier run or another process left."""
    spool = fill(tmp_path, 2)
    size = spool.sealed()[0].stat().st_size
    assert groups.fix(spool, spool.sealed())
    fill(tmp_path, 2)
    writer = writer_at(tmp_path)
    writer.append(RECORDS[0])
    backlog = spool.backlog(now=NOON.timestamp() + 60)
    assert (backlog.segments, backlog.bytes) == (3, 2 * size + len(BYTES[0]))
    assert backlog.oldest_seconds == pytest.approx(60)
    groups.reject(spool, spool.groups()[0], "AccessDenied")
    backlog = spool.backlog()
    assert (backlog.segments, backlog.rejected) == (2, 1)
    assert backlog.rejected_bytes >= size
    writer.seal()


def test_a_clock_that_is_set_back_gives_no_age_below_zero(tmp_path: Path) -> None:
    spool = fill(tmp_path)
    assert spool.backlog(now=(NOON - timedelta(days=1)).timestamp()).oldest_seconds == 0.0


def test_the_bound_counts_what_other_processes_wrote_and_what_was_set_aside(tmp_path: Path) -> None:
    spool = fill(tmp_path, 3)
    groups.reject(spool, groups.fix(spool, spool.sealed()) or tmp_path, "AccessDenied")
    size = spool.backlog().rejected_bytes
    bounds = Bounds(spool, max_bytes=size + 1000, keep_free_bytes=0)
    bounds.take(900)
    with pytest.raises(SpoolFullError, match="spool-full"):
        bounds.take(200)
    bounds.give_back(900)
    bounds.take(200)
    shutil.rmtree(spool.rejected()[0])
    bounds.recount()
    bounds.take(900)


def test_the_disk_keeps_what_it_is_told_to_keep(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    bounds = Bounds(Spool(tmp_path), max_bytes=1 << 40, keep_free_bytes=disk.f_bavail * disk.f_frsize * 2)
    with pytest.raises(SpoolFullError, match="disk-low"):
        bounds.take(1)


def test_a_read_only_disk_is_no_disaster(small_disk: Path) -> None:
    spool = fill(small_disk)
    writer = SegmentWriter(small_disk, segment_bytes=1 << 20, segment_seconds=60.0)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OSError, match="Read-only"):
        writer.append(RECORDS[1])
    assert len(spool.sealed()) == 1
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    writer.append(RECORDS[1])
    writer.seal()
    assert len(spool.sealed()) == 2


def test_names_of_writers_say_nothing_and_do_not_repeat(tmp_path: Path) -> None:
    for _ in range(3):
        fill(tmp_path)
    names = [path.stem for path in Spool(tmp_path).sealed()]
    assert len(set(names)) == 3
    assert {name.split("-")[0] for name in names} == {"20261120T120000.250000Z"}
    assert str(uuid.getnode()) not in "".join(names)
