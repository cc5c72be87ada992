"""Photos as the handler hands them over, a place in the real store, and the proof that all is there."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import humanseg.archive.capture.record
from humanseg.archive.capture.record import Exchange
from humanseg.archive.read.reader import Reader
from humanseg.archive.read.verify import verify
from humanseg.archive.ship.destination import Destination
from humanseg.archive.ship.local_store import LocalStore
from humanseg.archive.ship.store import BucketSettings, Store
from tests.archive import photos

NOON = datetime(2026, 11, 20, 12, 0, 0, 250_000, timezone.utc)
SCHEMA = json.loads((Path(humanseg.archive.capture.record.__file__).parent / "record.schema.json").read_text())
# Short pauses: a test must not wait for a backoff that is right for production.
FAST: dict[str, Any] = {"backoff_base_seconds": 0.02, "backoff_cap_seconds": 0.2, "timeout_seconds": 5.0}


def exchange(number: int = 0, **changes: Any) -> Exchange:
    """An answered photo with its own pixels and a new request id."""
    values: dict[str, Any] = {
        "request_id": str(uuid.uuid4()),
        "time": NOON,
        "model_name": "human_segmentation",
        "model_version": "1.0",
        "weights_sha256": "ab" * 32,
        "photo": clean_photo(number),
        "photo_format": "jpeg",
        "width": 96,
        "height": 64,
        "mask_png": photos.mask_png,
        "options": {"output": "mask", "threshold": "0.5"},
        "coverage": 0.35,
        "confidence": 0.9,
        "stage_seconds": {"decode": 0.004, "forward": 0.05, "encode": 0.003},
    }
    return Exchange(**{**values, **changes})


def clean_photo(number: int) -> bytes:
    """A JPEG that stripping leaves as it is, so that what comes out can be compared with what went in."""
    from humanseg.archive.capture.strip_metadata import strip_jpeg

    return strip_jpeg(photos.jpeg(number))


@dataclass(frozen=True)
class Bucket:
    """A place in the real store that only one test uses."""

    store: Store
    environment: dict[str, str]

    @property
    def reader(self) -> Reader:
        return Reader(self.store)

    def rows(self) -> list[dict[str, Any]]:
        """The rows of all committed records, by time."""
        return [row for table in self.reader.records.days_rows() for row in table.sort_by("time").to_pylist()]

    def ids(self) -> list[str]:
        """Request ids of all committed records, as often as they are there."""
        return [row["request_id"] for row in self.rows()]

    def assert_holds(self, acknowledged: dict[str, str]) -> None:
        """Every acknowledged record (id -> SHA-256 of its photo) is there once, whole, and nothing else is half."""
        rows = self.rows()
        ids = [row["request_id"] for row in rows]
        assert len(ids) == len(set(ids)), "a record is there twice"
        missing = set(acknowledged) - set(ids)
        assert not missing, f"{len(missing)} of {len(acknowledged)} acknowledged records are lost"
        for row in rows:
            if row["request_id"] in acknowledged:
                assert row["photo_sha256"] == acknowledged[row["request_id"]]
        state = verify(self.reader)
        assert state.problems == []
        assert state.uncommitted == []
        assert state.records == len(ids)

    def objects(self) -> list[str]:
        """Every key under the prefix, the prefix left out."""
        prefix = f"{self.store.destination.prefix}/"
        return [key.removeprefix(prefix) for key in self.reader.keys_under(prefix)]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def bucket_of(local: LocalStore, endpoint: str | None = None) -> Bucket:
    """A fresh prefix in `local`, through `endpoint` for writers when given; the test itself reads directly."""
    environment = {**local.environment(), "ARCHIVE_PREFIX": f"t{uuid.uuid4().hex[:12]}"}
    direct = Destination.find(environment, Path("/nonexistent"))
    direct = dataclasses.replace(
        direct,
        access_key=environment["AWS_ACCESS_KEY_ID"],
        secret_key=environment["AWS_SECRET_ACCESS_KEY"],
    )
    if endpoint:
        environment["ARCHIVE_ENDPOINT_URL"] = endpoint
    return Bucket(Store.open(direct, BucketSettings(timeout_seconds=10.0), retries=4), environment)


class Numbers:
    """Metrics kept in memory."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.gauges: dict[str, float] = {}
        self.values: dict[str, list[float]] = {}

    def count(self, name: str, labels: Mapping[str, str], amount: int = 1) -> None:
        self.counts[name + "".join(f"[{value}]" for value in labels.values())] += amount

    def gauge(self, name: str, value: float) -> None:
        self.gauges[name] = value

    def observe(self, name: str, value: float) -> None:
        self.values.setdefault(name, []).append(value)
