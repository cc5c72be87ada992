"""Files appear whole or not at all, and a lock goes with its process."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from humanseg.common.files import copy_whole, try_lock, whole_file, write_whole


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_whole(path, "one")
    with whole_file(path) as partial:
        partial.write_text("two")
        assert path.read_text() == "one"
    assert path.read_text() == "two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_whole(path, b"one")
    with contextlib.suppress(ZeroDivisionError), whole_file(path) as partial:
        partial.write_text(str(1 / 0))
    with pytest.raises(FileNotFoundError):
        copy_whole(tmp_path / "gone", path)
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_secret_is_never_readable_by_others(tmp_path: Path) -> None:
    with whole_file(tmp_path / "key", mode=0o600) as partial:
        assert stat.S_IMODE(partial.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_a_lock_is_held_once_and_goes_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        f"from pathlib import Path; from humanseg.common.files import try_lock; print(try_lock(Path({str(path)!r})))"
    )

    def by_another() -> str:
        command = [sys.executable, "-c", code, str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert by_another() != "None"  # and that process is gone
    lock = try_lock(path)
    assert lock is not None
    assert by_another() == "None"
    os.close(lock)
    assert by_another() != "None"
