"""Active learning: selects the archived photos that are most useful to label.

First a pool is drawn uniformly. The network scores only the pool and some labelled photos, which show what is new and
how well the confidence is calibrated.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from humanseg.archive.read.export import COLUMNS, Entry, distinct_photos
from humanseg.archive.read.labels import read_labels
from humanseg.archive.read.reader import Damaged, Gone, Reader, parallel
from humanseg.segmentation.errors import PhotoError
from humanseg.segmentation.photo import read_photo
from humanseg.training.alike import perceptual_hash
from humanseg.training.choosing import Pool, Shares, calibrated_doubt, choose, disagreement
from humanseg.training.encoder import Encoder, Prediction

KNOWN = 300  # labelled photos to score


@dataclass(frozen=True)
class Picked:
    """The chosen photos.

    chosen: reason, probability and number of near-duplicates by request id. photos: in the time range. scored:
    scored photos of the pool.
    """

    chosen: dict[str, dict[str, Any]]
    photos: int
    scored: int


def pick(
    reader: Reader,
    encoder: Encoder,
    *,
    count: int,
    since: datetime,
    until: datetime | None = None,
    pool: int = 2000,
    shares: Shares | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Picked:
    """Choose at most `count` unlabelled photos with since <= time < until.

    For photos answered by other weights, the difference of both masks is their disagreement.
    """
    labels = read_labels(reader)
    empty = pa.schema([reader.records.schema.field(name) for name in COLUMNS]).empty_table()
    table = pa.concat_tables([empty, *reader.records.days_rows(since, until, columns=COLUMNS)])
    every = distinct_photos(table, labels)
    fresh = [entry for entry in every if entry.label is None]
    known = [entry for entry in every if entry.label is not None]
    random = np.random.default_rng(seed)
    drawn = sorted(random.choice(len(fresh), min(pool, len(fresh)), replace=False).tolist())
    total = len(drawn) + min(KNOWN, len(known))
    known = [known[place] for place in random.permutation(len(known))[:KNOWN]]
    rows, predictions, hashes, apart = [], [], [], []
    done = 0
    for entry, prediction, digest, served in _predict(reader, encoder, [fresh[place] for place in drawn]):
        done += 1
        progress(done, total)
        rows.append(entry)
        predictions.append(prediction)
        hashes.append(digest)
        other = entry.row["weights_sha256"] != encoder.candidate.weights_sha256
        apart.append(max(prediction.disagreement, disagreement(served, prediction.mask) if other else 0.0))
    if not rows:
        return Picked({}, len(fresh), 0)
    known_predictions, trusted, known_hashes = [], [], []
    for entry, prediction, digest, _ in _predict(reader, encoder, known):
        done += 1
        progress(done, total)
        known_predictions.append(prediction)
        known_hashes.append(digest)
        assert entry.label
        end = entry.label.mask_offset + entry.label.mask_bytes
        true = _mask(reader.get_range(entry.label.segment, entry.label.mask_offset, end))
        trusted.append(1 - disagreement(true, prediction.mask) if true.shape == prediction.mask.shape else np.nan)
    known_pairs = [
        (prediction.confidence, iou)
        for prediction, iou in zip(known_predictions, trusted, strict=True)
        if np.isfinite(iou)
    ]
    doubt = calibrated_doubt(np.array([prediction.confidence for prediction in predictions]), known_pairs)
    features = np.array([prediction.features for prediction in predictions], np.float64)
    choices = choose(
        Pool(doubt, np.array(apart), features, np.array(hashes, np.uint64)),
        count,
        labelled_features=np.array([prediction.features for prediction in known_predictions], np.float64)
        if known_predictions
        else None,
        labelled_hashes=np.array(known_hashes, np.uint64) if known_predictions else None,
        shares=shares,
        seed=seed,
    )
    in_pool = len(drawn) / len(fresh)
    chosen = {
        str(rows[choice.index].row["request_id"]): {
            "why": choice.why,
            "probability": choice.probability * in_pool,
            "alike": choice.alike,
        }
        for choice in choices
    }
    return Picked(chosen, len(fresh), len(rows))


def _predict(
    reader: Reader, encoder: Encoder, entries: list[Entry]
) -> Iterator[tuple[Entry, Prediction, np.uint64, NDArray[np.uint8]]]:
    """Yield each readable photo, the network's prediction, its hash and the served mask."""

    def fetch(entry: Entry) -> tuple[Entry, bytes, bytes] | None:
        try:
            return entry, *reader.photo_and_mask(entry.row)
        except (Gone, Damaged):
            return None  # export reports it

    for fetched in parallel(fetch, entries):
        if fetched is None:
            continue
        entry, photo, mask = fetched
        try:
            pixels = read_photo(photo).pixels
        except PhotoError:
            continue
        yield entry, encoder.predict(pixels), perceptual_hash(pixels), _mask(mask)


def _mask(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("L"))
