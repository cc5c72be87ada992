"""`humanseg archive` over many records."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.archive.samples import disc, exchange, uploader_of
from benchmarks.photos import SIZES, make_photo
from benchmarks.servers import ROOT
from humanseg.archive.capture.hook import Archive, Outcome
from humanseg.archive.capture.names import make_name, records_root, segment_key, table_key
from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.archive.ship.local_store import LocalStore
from humanseg.archive.ship.table import RECORDS, table_bytes

SMALL = replace(SIZES["small"], width=96, height=72)  # bytes do not matter here


def rows_of(number: int, start_: datetime, seconds: float, segment: str, draw: np.random.Generator) -> pa.Table:
    """`number` made-up rows over `seconds`, of records whose photos are nowhere."""
    at = [start_ + timedelta(seconds=float(offset)) for offset in np.sort(draw.uniform(0, seconds, number))]
    digests = [draw.bytes(32).hex() for _ in range(number)]
    places = np.arange(number) * 60_000
    values: dict[str, Any] = {
        "request_id": [str(uuid.UUID(bytes=draw.bytes(16), version=4)) for _ in range(number)],
        "time": at,
        "photo_sha256": digests,
        "mask_sha256": digests,
        "coverage": draw.beta(2, 4, number),
        "confidence": draw.beta(9, 1, number),
        "sampling_probability": np.ones(number),
        "consent_asked": [None] * number,
        "label": [None] * number,
        "photo_offset": places + 512,
        "mask_offset": places + 50_000,
        "json_offset": places + 58_000,
    }
    constants: dict[str, Any] = {
        "model_name": "human_segmentation",
        "model_version": "1.0",
        "weights_sha256": "0" * 64,
        "photo_format": "jpeg",
        "sent_format": "jpeg",
        "width": 640,
        "height": 480,
        "photo_bytes": 49_000,
        "mask_bytes": 7_000,
        "output": "mask",
        "options": "{}",
        "consent_mode": "opt-out",
        "sampling_reason": "sample",
        "segment": segment,
        "replaces": "",
        "json_bytes": 1000,
    }
    for field in RECORDS:
        if field.name not in values:
            values[field.name] = [constants.get(field.name, 0)] * number
    return pa.table({field.name: pa.array(values[field.name], field.type) for field in RECORDS}, schema=RECORDS)


def command(folder: Path, *arguments: str) -> dict[str, float]:
    """Seconds, CPU seconds and megabytes of one `humanseg archive` command."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ARCHIVE_", "AWS_"))}
    full = [sys.executable, "-m", "humanseg.cli.main", "archive", *arguments]
    began = time.monotonic()
    process = subprocess.Popen(
        full, cwd=ROOT, env={**environment, "STATE_DIR": str(folder)}, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{arguments} ended with {process.returncode}"
    return {
        "seconds": round(time.monotonic() - began, 1),
        "CPU seconds": round(used.ru_utime + used.ru_stime, 1),
        "MB": round(used.ru_maxrss / 1024),
    }


def scale(folder: Path, records: int, whole: int, a_segment: int) -> dict[str, Any]:
    """Commands over `records` rows as tables alone, over 30 days, and `whole` records more with their segments."""
    draw, first = np.random.default_rng(1), datetime(2026, 10, 1, tzinfo=timezone.utc)
    photo, mask = make_photo(SMALL), disc(SMALL.width, SMALL.height)
    last_day, ids = first + timedelta(days=31, hours=12), []
    archive = Archive.start(ArchiveSettings(), folder, upload=False)
    for number in range(whole):
        # A photo's comment would be stripped, so that each is made different behind its start.
        given = exchange(_different(photo, number), mask, (96, 72), last_day + timedelta(seconds=number / 20))
        assert archive.keep(given) is Outcome.SPOOLED
        ids.append(given.request_id)
    archive.close()
    with LocalStore(folder / "store") as local:
        store = local.open_store()
        root, every = records_root(store.destination.prefix), timedelta(days=30) * a_segment / records
        for number in range(records // a_segment):
            name = make_name(first + every * number, "0badcafe", number + 1)
            table = rows_of(a_segment, name.time, every.total_seconds() * 0.9, segment_key(root, name), draw)
            store.put_new(table_key(root, name), table_bytes(table))
        uploader_of(folder, ArchiveSettings()).drain(600)
        (folder / "ids").write_text("\n".join(ids[:: max(1, whole // 1000)][:1000]))
        since = ("--since", "2026-09-01")
        day = f"{last_day:%Y-%m-%d}"
        chosen = ("--ids", str(folder / "ids"), "--to", str(folder / "data"))
        figures = {
            "stats": command(folder, "stats", *since, "--json"),
            "ls --below-confidence 0.6": command(folder, "ls", "--below-confidence", "0.6"),
            "query, by day": command(folder, "query", "SELECT dt, count(*), avg(coverage) FROM records GROUP BY 1"),
            "show ID, with its day": command(folder, "show", ids[0], "--date", day, "--to", str(folder / "a.png")),
            "show ID, without": command(folder, "show", ids[0], "--to", str(folder / "a.png")),
            "export of 1000 chosen": command(folder, "export", *since, *chosen),
            "erase of one": command(folder, "erase", ids[1], "--yes"),
        }
    return {
        "records": f"{records // a_segment * a_segment} as tables of {a_segment} rows, {whole} more with segments",
        **figures,
    }


def _different(photo: bytes, number: int) -> bytes:
    """Another JPEG of the same size: one with a restart marker's worth of its scan changed is still one."""
    digest = hashlib.sha256(str(number).encode()).digest()[:8]
    at = len(photo) - 200
    return photo[:at] + bytes(value & 0x7F for value in digest) + photo[at + 8 :]
