"""The archive's real store, for the tests of the loop."""

from tests.archive.conftest import local_store

__all__ = ["local_store"]
