"""What the operator may choose: the `archive:` section of config/model-config.yaml, checked once at start.

    archive:
      mode: opt-out            # all | opt-out | opt-in | off
      sample: 1.0              # share of ordinary photos kept, 0..1
      low_confidence: 0.5      # photos below this confidence are always kept; 0 turns it off
      video: none              # none | sampled: of a clip a frame a second, at most 30
      fsync: false             # true survives power loss, and costs what benchmarks/ARCHIVE.md says

Every key is optional. `ArchiveSettings.from_mapping(section)` raises `SettingsError`, which names the key.
Where the bucket is comes from the environment (humanseg/archive/ship/target.py): it differs by machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from humanseg.common.settings import SettingsError, check, flag, from_mapping, integer, number, one_of, text


@dataclass(frozen=True)
class ArchiveSettings:
    """The validated settings. Constructing one with a wrong value raises `SettingsError`."""

    # Whose photos are kept: "all" (the request has no say), "opt-out" (unless it says archive=no),
    # "opt-in" (only when it says archive=yes), "off" (none).
    mode: str = one_of("opt-out", "all", "opt-in", "off")
    # Share of ordinary photos kept, 0..1. Photos of low confidence or with archive=yes are always kept.
    sample: float = number(1.0, least=0, most=1)
    # Photos whose confidence is below this are kept whatever `sample` says, 0..1; 0 turns it off.
    low_confidence: float = number(0.5, least=0, most=1)
    # True: every record is forced to the disk before the answer goes out (survives power loss).
    # False: survives a killed process. benchmarks/ARCHIVE.md has the price.
    fsync: bool = flag(False)
    # Clips: "none" are kept, or "sampled", a frame a second and at most 30 of one clip, each as a photo is. Consent,
    # mode and `sample` hold for them as for photos.
    video: str = one_of("none", "sampled")
    # A segment is sealed at this size, or after three quarters of this time since its first record. Both are also the
    # uploader's: it joins small segments up to the size, and puts at most one that is not full in this time. Larger
    # and longer: fewer PUTs and a longer wait until a record is in the bucket.
    segment_bytes: int = integer(64 * 1024**2, least=4096, most=2 * 1024**3)
    segment_seconds: float = number(60.0, least=0.001, most=3600)
    # Bound of the spool: open segments, what was set aside and what an earlier run left included. What comes on top
    # is dropped and counted. Each worker counts again every 5 s, so with W workers the spool may pass the bound by
    # what W-1 write in 5 s.
    spool_max_bytes: int = integer(20 * 1024**3, least=1, most=2**62)
    # Bytes of the spool's disk that stay free for logs and everything else; 0 turns it off.
    spool_keep_free_bytes: int = integer(64 * 1024**2, least=0, most=2**62)
    # Uploads at a time of one server. Each holds one segment in memory.
    upload_threads: int = integer(2, least=1, most=64)
    # Seconds to wait for the store to answer one request.
    timeout_seconds: float = number(30.0, least=0.001, most=3600)
    # Pause after the n-th failure in a row: uniform in 0..min(cap, base * 2**n) seconds ("full jitter").
    backoff_base_seconds: float = number(0.5, least=0.001, most=3600)
    backoff_cap_seconds: float = number(30.0, least=0.001, most=3600)
    # How often S3 must refuse a segment (AccessDenied, too large) before it moves to rejected/.
    refused_attempts: int = integer(5, least=1, most=1000)
    # "sse-s3" (AES256), "sse-kms" (with kms_key_id, or the account's default key), "none" (bucket default).
    encryption: str = one_of("sse-s3", "sse-kms", "none")
    kms_key_id: str = text("", wanted="a key id or ARN")

    def __post_init__(self) -> None:
        check(self, "archive")
        if self.kms_key_id and self.encryption != "sse-kms":
            raise SettingsError("archive.kms_key_id is set, so archive.encryption must be sse-kms.")

    @classmethod
    def from_mapping(cls, section: Mapping[str, Any] | None) -> ArchiveSettings:
        """Settings from the `archive:` section; None or {} gives the defaults.

        Raises:
            SettingsError: an unknown key, a wrong type or a value out of range, named with its fix.
        """
        if isinstance(section, Mapping) and section.get("mode") is False:
            section = {**section, "mode": "off"}  # YAML 1.1 reads a bare `off` as false
        return from_mapping(cls, section, "archive")
