"""What the operator may choose: the `archive:` section of config/model-config.yaml, checked once at start.

    archive:
      mode: opt-out            # all | opt-out | opt-in | off
      sample: 1.0              # share of ordinary photos kept, 0..1
      low_confidence: 0.5      # photos below this confidence are always kept; 0 turns it off
      fsync: false             # true survives power loss, and costs what benchmarks/ARCHIVE.md says

Every key is optional. `ArchiveSettings.from_mapping(section)` raises `SettingsError`, which names the key.
Where the bucket is comes from the environment (humanseg/archive/ship/target.py): it differs by machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from humanseg.archive.errors import SettingsError

MODES = ("all", "opt-out", "opt-in", "off")
ENCRYPTIONS = ("sse-s3", "sse-kms", "none")


@dataclass(frozen=True)
class ArchiveSettings:
    """The validated settings. Constructing one with a wrong value raises `SettingsError`."""

    # Whose photos are kept: "all" (the request has no say), "opt-out" (unless it says archive=no),
    # "opt-in" (only when it says archive=yes), "off" (none).
    mode: str = "opt-out"
    # Share of ordinary photos kept, 0..1. Photos of low confidence or with archive=yes are always kept.
    sample: float = 1.0
    # Photos whose confidence is below this are kept whatever `sample` says, 0..1; 0 turns it off.
    low_confidence: float = 0.5
    # True: every record is forced to the disk before the answer goes out (survives power loss).
    # False: survives a killed process. benchmarks/ARCHIVE.md has the price.
    fsync: bool = False
    # A segment is sealed at this size, or after three quarters of this time since its first record. Both are also the
    # uploader's: it joins small segments up to the size, and puts at most one that is not full in this time. Larger
    # and longer: fewer PUTs and a longer wait until a record is in the bucket.
    segment_bytes: int = 64 * 1024**2
    segment_seconds: float = 60.0
    # Bound of the spool: open segments, what was set aside and what an earlier run left included. What comes on top
    # is dropped and counted. Each worker counts again every 5 s, so with W workers the spool may pass the bound by
    # what W-1 write in 5 s.
    spool_max_bytes: int = 20 * 1024**3
    # Bytes of the spool's disk that stay free for logs and everything else; 0 turns it off.
    spool_keep_free_bytes: int = 64 * 1024**2
    # Uploads at a time of one server. Each holds one segment in memory.
    upload_threads: int = 2
    # Seconds to wait for the store to answer one request.
    timeout_seconds: float = 30.0
    # Pause after the n-th failure in a row: uniform in 0..min(cap, base * 2**n) seconds ("full jitter").
    backoff_base_seconds: float = 0.5
    backoff_cap_seconds: float = 30.0
    # How often S3 must refuse a segment (AccessDenied, too large) before it moves to rejected/.
    refused_attempts: int = 5
    # "sse-s3" (AES256), "sse-kms" (with kms_key_id, or the account's default key), "none" (bucket default).
    encryption: str = "sse-s3"
    kms_key_id: str = ""

    def __post_init__(self) -> None:
        _one_of("mode", self.mode, MODES)
        _one_of("encryption", self.encryption, ENCRYPTIONS)
        for name in ("sample", "low_confidence"):
            _number(name, getattr(self, name), 0.0, 1.0, "0.1")
        for name in ("segment_seconds", "timeout_seconds", "backoff_base_seconds", "backoff_cap_seconds"):
            _number(name, getattr(self, name), 0.001, 3600.0, "5.0")
        for name, least in (("spool_max_bytes", 1), ("spool_keep_free_bytes", 0)):
            _whole(name, getattr(self, name), least, 2**62)
        _whole("segment_bytes", self.segment_bytes, 4096, 2 * 1024**3)
        _whole("upload_threads", self.upload_threads, 1, 64)
        _whole("refused_attempts", self.refused_attempts, 1, 1000)
        if not isinstance(self.fsync, bool):
            raise SettingsError(f"archive.fsync is {self.fsync!r}; it must be true or false")
        if not isinstance(self.kms_key_id, str):
            raise SettingsError(f"archive.kms_key_id is {self.kms_key_id!r}; it must be a key id or ARN")
        if self.kms_key_id and self.encryption != "sse-kms":
            raise SettingsError("archive.kms_key_id is set, so archive.encryption must be sse-kms")

    @classmethod
    def from_mapping(cls, section: Mapping[str, Any] | None) -> ArchiveSettings:
        """Settings from the `archive:` section; None or {} gives the defaults.

        Raises:
            SettingsError: an unknown key, a wrong type or a value out of range, named with its fix.
        """
        if section is None:
            return cls()
        if not isinstance(section, Mapping):
            raise SettingsError(f"archive is {section!r}; it must be a section, such as `mode: opt-out`")
        known = [field.name for field in fields(cls)]
        for key in section:
            if key not in known:
                raise SettingsError(f"archive.{key} is not a setting; the settings are {', '.join(known)}")
        values = dict(section)
        # YAML 1.1 reads a bare `off` as false.
        if values.get("mode") is False:
            values["mode"] = "off"
        return cls(**values)


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SettingsError(f"archive.{name} is {value!r}; it must be one of {', '.join(allowed)}")


def _number(name: str, value: object, least: float, most: float, example: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise SettingsError(
            f"archive.{name} is {value!r}; it must be a number from {least:g} to {most:g}, such as {example}"
        )


def _whole(name: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise SettingsError(f"archive.{name} is {value!r}; it must be a whole number from {least} up")
