"""What can go wrong in the archive, as one tree; wrong settings are humanseg.common.settings.SettingsError.

ArchiveError
├── NoStore            there is no bucket to talk to (yet)
├── NotStrippable       the photo's container can't be cleaned of metadata
├── Away               the store can't be reached or is busy: try again without end
└── Refused            the store said no to this object: tried a few times, then set aside
"""

from __future__ import annotations


class ArchiveError(Exception):
    """Root of everything the archive raises on purpose."""


class NoStore(ArchiveError):
    """Neither ARCHIVE_BUCKET nor the embedded store's environment file names a bucket."""


class NotStrippable(ArchiveError):
    """The container could not be walked to its end, so its metadata can't be removed with certainty."""


class Away(ArchiveError):
    """The store is away, slow or overloaded; `reason` is a short word for logs and counters."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Refused(ArchiveError):
    """The store refuses this object; `reason` is S3's error code, or "Conflict" or "Damaged"."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
