"""The archive's errors as one tree; invalid settings are humanseg.common.settings.SettingsError.

ArchiveError
├── NoStore            there is no bucket (yet)
├── NotStrippable       the photo's container can't be cleaned of metadata
├── Away               the store is unreachable or busy: retried indefinitely
└── Refused            the store rejected this object: retried a few times, then quarantined
"""

from __future__ import annotations


class ArchiveError(Exception):
    """Base class of the archive's errors."""


class NoStore(ArchiveError):
    """Neither ARCHIVE_BUCKET nor the embedded store's environment file names a bucket."""


class NotStrippable(ArchiveError):
    """The container could not be parsed to its end, so its metadata can't be removed with certainty."""


class Away(ArchiveError):
    """The store is unreachable, slow or overloaded; `reason` is a short word for logs and counters."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Refused(ArchiveError):
    """The store rejects this object; `reason` is S3's error code, or "Conflict" or "Damaged"."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
