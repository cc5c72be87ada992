"""The spool: whole records or none, bounds, claims that die with their holder, disks that are full or read-only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from datetime import timedelta
from pathlib import Path

import pytest

from humanseg.archive.capture.record import Record
from humanseg.archive.capture.spool import Spool, SpoolFullError
from tests.archive.helpers import NOON

ROOT = Path(__file__).resolve().parents[2]


def record(name: str = "a1", size: int = 1000) -> Record:
    parts = (("photo.jpg", b"p" * size), ("mask.png", b"m" * 10), ("record.json", b"{}"))
    return Record(name, NOON, parts)


def spool_at(root: Path, **settings: object) -> Spool:
    return Spool(root / "spool", **settings)  # type: ignore[arg-type]


def child(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python process that runs `code` and says "ready" when it did."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_record_comes_back_in_upload_order(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    spool.write(record())
    (entry,) = spool.ready()
    assert (entry.request_id, entry.size) == ("a1", 1012)
    assert [name for name, _ in entry.read()] == ["photo.jpg", "mask.png", "record.json"]
    assert dict(entry.read())["photo.jpg"] == b"p" * 1000


def test_only_the_owner_may_look_into_the_spool(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    spool.write(record())
    assert spool.root.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("fsync", [False, True])
def test_a_failed_write_leaves_nothing(tmp_path: Path, fsync: bool) -> None:
    spool = spool_at(tmp_path, fsync=fsync)
    broken = Record("a1", NOON, (("photo.jpg", b"x"), ("no/such/folder", b"y"), ("record.json", b"{}")))
    with pytest.raises(FileNotFoundError):
        spool.write(broken)
    assert spool.ready() == []
    assert list((spool.root / "tmp").glob("*/*")) == []
    spool.write(record())
    assert len(spool.ready()) == 1


def test_a_full_spool_says_so_and_takes_records_again_when_it_has_room(tmp_path: Path) -> None:
    spool = spool_at(tmp_path, max_records=3, recount_seconds=0.0)
    for number in range(3):
        spool.write(record(f"a{number}"))
    with pytest.raises(SpoolFullError, match="spool-full"):
        spool.write(record("a4"))
    spool.remove(spool.ready()[0])
    spool.write(record("a4"))


def test_the_bound_in_bytes_counts_what_other_processes_wrote(tmp_path: Path) -> None:
    first, second = (spool_at(tmp_path, max_bytes=5000, recount_seconds=0.0) for _ in range(2))
    for number in range(4):
        first.write(record(f"a{number}"))
    with pytest.raises(SpoolFullError, match="spool-full"):
        second.write(record("b1"))


def test_rejected_records_count_as_well(tmp_path: Path) -> None:
    spool = spool_at(tmp_path, max_records=1, recount_seconds=0.0)
    spool.reject(spool.write(record()), "AccessDenied")
    with pytest.raises(SpoolFullError):
        spool.write(record("a2"))
    assert spool.backlog().rejected_records == 1


def test_the_disk_keeps_what_it_is_told_to_keep(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    spool = spool_at(tmp_path, keep_free_bytes=disk.f_bavail * disk.f_frsize * 2)
    with pytest.raises(SpoolFullError, match="disk-low"):
        spool.write(record())


def test_a_claim_excludes_others_and_dies_with_its_holder(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    entry = spool.write(record())
    holder = child(
        """
        import sys, time
        from pathlib import Path
        from humanseg.archive.capture.spool import Spool
        spool = Spool(Path(sys.argv[1]))
        with spool.claim(spool.ready()[0]) as mine:
            print("ready" if mine else "no", flush=True)
            time.sleep(60)
        """,
        str(spool.root),
    )
    assert holder.stdout
    with holder.stdout:
        assert holder.stdout.readline() == "ready\n"
        with spool.claim(entry) as mine:
            assert not mine
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with spool.claim(entry) as mine:
        assert mine


def test_a_claim_on_what_another_shipped_fails(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    entry = spool.write(record())
    spool.remove(entry)
    with spool.claim(entry) as mine:
        assert not mine
    spool.remove(entry)  # twice is no error


def test_two_claims_in_one_process_exclude_each_other(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    entry = spool.write(record())
    with spool.claim(entry) as first, spool.claim(entry) as second:
        assert (first, second) == (True, False)


def test_sweeping_takes_what_dead_writers_left_and_spares_living_ones(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    spool.write(record())
    dying = child(
        """
        import os, sys
        from pathlib import Path
        from humanseg.archive.capture.spool import Spool
        folder = Spool(Path(sys.argv[1]))._own_folder() / "half"
        folder.mkdir()
        (folder / "photo.jpg").write_bytes(b"half of a pho")
        print("ready", flush=True)
        os.kill(os.getpid(), 9)
        """,
        str(spool.root),
    )
    assert dying.stdout
    with dying.stdout:
        assert dying.stdout.readline() == "ready\n"
    dying.wait()
    assert len(list((spool.root / "tmp").iterdir())) == 2
    assert spool.sweep() == 1
    assert len(list((spool.root / "tmp").iterdir())) == 1
    spool.write(record("a2"))
    assert len(spool.ready()) == 2


def test_a_spool_that_somebody_deleted_comes_back(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    spool.write(record())
    import shutil

    shutil.rmtree(spool.root)
    spool.write(record("a2"))
    assert [entry.request_id for entry in spool.ready()] == ["a2"]


def test_a_clock_that_jumps_changes_no_age_below_zero_and_no_order_of_shipping(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    for number, jump in enumerate((0, -3600, 7200)):
        spool.write(Record(f"a{number}", NOON + timedelta(seconds=jump), record().files))
    assert {entry.request_id for entry in spool.ready()} == {"a0", "a1", "a2"}
    assert spool.backlog(now=NOON.timestamp() - 10_000).oldest_seconds == 0.0
    assert spool.backlog(now=NOON.timestamp()).oldest_seconds == pytest.approx(3600)


def test_a_full_disk_leaves_no_half_record(small_disk: Path) -> None:
    spool = spool_at(small_disk)

    def fill() -> None:
        for number in range(100):
            spool.write(record(f"a{number}", 300_000))

    with pytest.raises(OSError, match="No space left"):
        fill()
    assert 0 < len(spool.ready()) < 10
    assert list((spool.root / "tmp").glob("*/*")) == []
    assert all(len(entry.read()) == 3 for entry in spool.ready())
    spool.remove(spool.ready()[0])
    spool.write(record("b1", 300_000))


def test_a_read_only_disk_is_no_disaster(small_disk: Path) -> None:
    spool = spool_at(small_disk)
    entry = spool.write(record())
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OSError, match="Read-only"):
        spool.write(record("a2"))
    assert spool.ready() == [entry]
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    spool.write(record("a2"))
