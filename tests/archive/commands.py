"""Helpers of the tests of `humanseg archive`: records in the bucket, printed lines, edited masks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from typer.testing import Result

from humanseg.archive.capture.names import make_name, segment_key
from humanseg.archive.capture.tar import END
from tests.archive.helpers import NOON, Bucket
from tests.archive.records import RECORDS
from tests.archive.shipping import fill, uploader_for

Run = Callable[..., Result]


def put_uncommitted(bucket: Bucket) -> str:
    """A segment without a table, as a killed uploader leaves it; returns its key."""
    name = make_name(NOON, "0a0a0a0a", 1)
    key = segment_key(bucket.reader.records.root, name)
    bucket.store.put_new(key, b"".join(RECORDS[0].blocks) + END)
    return key


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def archive_photos(state_dir: Path, bucket: Bucket, number: int, **changes: Any) -> list[str]:
    """Ids of `number` records that are now in the bucket."""
    ids = list(fill(state_dir, number, **changes))
    assert uploader_for(state_dir, bucket).drain(60).left.segments == 0
    return ids


def inverted(path: Path) -> None:
    with Image.open(path) as image:
        pixels = 255 - np.asarray(image)
    Image.fromarray(pixels).save(path)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
