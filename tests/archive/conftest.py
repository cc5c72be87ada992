"""One real S3 store for all tests of the archive, a prefix of its own for each, and a disk that is small."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from humanseg.archive.ship.local_store import LocalStore
from humanseg.cli.archive import app
from tests.archive.helpers import Bucket, bucket_of


@pytest.fixture(scope="session")
def local_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStore]:
    """A running embedded store."""
    with LocalStore(tmp_path_factory.mktemp("s3") / "store") as running:
        yield running


@pytest.fixture
def bucket(local_store: LocalStore) -> Bucket:
    return bucket_of(local_store)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    result = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if result.returncode:
        pytest.skip(f"mounting is not allowed here: {result.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)  # the spool holds its folder open


@pytest.fixture
def run(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `humanseg archive ARGUMENTS` against this test's bucket; fails on another exit status than asked."""
    for name, value in {**bucket.environment, "STATE_DIR": str(tmp_path), "COLUMNS": "200"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object, status: int = 0) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == status, f"{result.output}\n{result.exception!r}"
        return result

    return call
