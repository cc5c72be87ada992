"""A .mar's copies in model stores: there while they are needed, removed after a failure."""

from pathlib import Path

import pytest

from humanseg.cli.console import CommandError
from humanseg.cli.modelstore import Mar, placed


class RefusedError(Exception):
    """What a server says."""


class StillRunningError(RefusedError):
    """A server keeps the version."""


@pytest.fixture
def mar(tmp_path: Path) -> Mar:
    path = tmp_path / "built.mar"
    path.write_bytes(b"an archive")
    return Mar(path, "people", "2.0")


@pytest.fixture
def stores(tmp_path: Path) -> list[Path]:
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    return folders


def files(stores: list[Path]) -> list[str]:
    return [path.name for store in stores for path in store.iterdir()]


def test_copies_stay_after_success(mar: Mar, stores: list[Path]) -> None:
    with placed(mar, stores, RefusedError) as names:
        assert names == ("people-2.0.mar", "people-2.0.mar")
    assert files(stores) == list(names)


def test_new_copies_are_removed_when_the_server_refuses(mar: Mar, stores: list[Path]) -> None:
    with pytest.raises(RefusedError), placed(mar, stores, RefusedError):
        raise RefusedError
    assert not files(stores)


def test_copies_stay_while_a_server_has_the_version(mar: Mar, stores: list[Path]) -> None:
    with pytest.raises(StillRunningError), placed(mar, stores, RefusedError, keep_on=(StillRunningError,)):
        raise StillRunningError
    assert len(files(stores)) == 2


def test_copies_stay_after_an_unexpected_error(mar: Mar, stores: list[Path]) -> None:
    with pytest.raises(KeyError), placed(mar, stores, RefusedError):
        raise KeyError
    assert len(files(stores)) == 2


def test_a_copy_from_before_is_not_removed(mar: Mar, stores: list[Path]) -> None:
    (stores[0] / "people-2.0.mar").write_bytes(b"an archive")
    with pytest.raises(RefusedError), placed(mar, stores, RefusedError):
        raise RefusedError
    assert [path.parent.name for store in stores for path in store.iterdir()] == ["first"]


def test_when_the_second_store_is_missing_the_first_gets_nothing(mar: Mar, stores: list[Path]) -> None:
    stores[1].rmdir()
    with pytest.raises(CommandError, match="is not a folder"), placed(mar, stores, RefusedError):
        pytest.fail("there is a copy in each store")
    assert not files(stores[:1])
