"""The `archive:` settings of config/model-config.yaml, validated once at start.

    archive:
      mode: opt-out            # all | opt-out | opt-in | off
      sample: 1.0              # share of ordinary photos kept, 0..1
      low_confidence: 0.5      # photos below this confidence are always kept; 0 turns this off
      video: none              # none | sampled: one frame per second of a clip, at most 30
      fsync: false             # true survives a power failure; for the cost see benchmarks/ARCHIVE.md

Every key is optional. `ArchiveSettings.from_mapping(section)` raises `SettingsError`, which names the key.
The bucket's address differs by machine, so it comes from the environment (humanseg/archive/ship/destination.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from humanseg.common.settings import SettingsError, check, flag, from_mapping, integer, number, one_of, text


@dataclass(frozen=True)
class ArchiveSettings:
    """The validated settings. An invalid value raises `SettingsError`."""

    # Which photos are kept: "all" (consent is ignored), "opt-out" (unless archive=no), "opt-in" (only with
    # archive=yes), "off" (none).
    mode: str = one_of("opt-out", "all", "opt-in", "off")
    # Share of ordinary photos kept, 0..1. Photos of low confidence or with archive=yes are always kept.
    sample: float = number(1.0, least=0, most=1)
    # Photos whose confidence is below this are always kept, regardless of `sample`, 0..1; 0 turns this off.
    low_confidence: float = number(0.5, least=0, most=1)
    # True: every record is synced to disk before the response is sent (survives a power failure).
    # False: survives a killed process. For the cost see benchmarks/ARCHIVE.md.
    fsync: bool = flag(False)
    # Clips: "none" archives nothing, "sampled" one frame per second and at most 30 per clip, each like a photo. Mode,
    # consent and `sample` apply to them as to photos.
    video: str = one_of("none", "sampled")
    # A segment is sealed at this size, or after three quarters of this time since its first record. The
    # uploader uses both, too: it merges small segments up to the size, and uploads at most one partial segment in
    # this time. Larger and longer: fewer PUTs and a longer delay until a record is in the bucket.
    segment_bytes: int = integer(64 * 1024**2, least=4096, most=2 * 1024**3)
    segment_seconds: float = number(60.0, least=0.001, most=3600)
    # Size limit of the spool, including open and quarantined segments and those of earlier runs. Records beyond it
    # are dropped and counted. Each worker recounts every 5 s, so with W workers the spool may exceed the limit by
    # what W-1 write in 5 s.
    spool_max_bytes: int = integer(20 * 1024**3, least=1, most=2**62)
    # Bytes that stay free on the spool's disk; 0 turns this off.
    spool_keep_free_bytes: int = integer(64 * 1024**2, least=0, most=2**62)
    # Concurrent uploads of one server. Each holds one segment in memory.
    upload_threads: int = integer(2, least=1, most=64)
    # Timeout of one request to the store, in seconds.
    timeout_seconds: float = number(30.0, least=0.001, most=3600)
    # Back-off after the n-th consecutive failure: uniform in 0..min(cap, base * 2**n) seconds ("full jitter").
    backoff_base_seconds: float = number(0.5, least=0.001, most=3600)
    backoff_cap_seconds: float = number(30.0, least=0.001, most=3600)
    # How often S3 may refuse a segment (AccessDenied, too large) before it moves to rejected/.
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
            SettingsError: an unknown key, a wrong type or a value out of range; the message has the key and the fix.
        """
        if isinstance(section, Mapping) and section.get("mode") is False:
            section = {**section, "mode": "off"}  # YAML 1.1 reads a bare `off` as false
        return from_mapping(cls, section, "archive")
