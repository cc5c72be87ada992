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

from humanseg.archive.read.export import COLUMNS, Choice
from humanseg.archive.read.export import choose as each_photo_once
from humanseg.archive.read.labels import read_labels
from humanseg.archive.read.reader import Damaged, Gone, Reader, parallel
from humanseg.segmentation.errors import PhotoError
from humanseg.segmentation.photo import read_photo
from humanseg.training.alike import perceptual_hash
from humanseg.training.choosing import Pool, Shares, calibrated_doubt, choose, disagreement
from humanseg.training.encoder import Encoder, Seen

KNOWN = 300  # labelled photos to score


@dataclass(frozen=True)
class Picked:
    """The chosen photos.

    chosen: reason, probability and number of near-duplicates by request id. photos: in the time range. looked_at:
    scored photos of the pool.
    """

    chosen: dict[str, dict[str, Any]]
    photos: int
    looked_at: int


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
    every = each_photo_once(table, labels)
    fresh = [one for one in every if one.label is None]
    known = [one for one in every if one.label is not None]
    random = np.random.default_rng(seed)
    drawn = sorted(random.choice(len(fresh), min(pool, len(fresh)), replace=False).tolist())
    total = len(drawn) + min(KNOWN, len(known))
    known = [known[place] for place in random.permutation(len(known))[:KNOWN]]
    rows, seen, hashes, apart = [], [], [], []
    done = 0
    for choice, looked, digest, served in _look(reader, encoder, [fresh[place] for place in drawn]):
        done += 1
        progress(done, total)
        rows.append(choice)
        seen.append(looked)
        hashes.append(digest)
        other = choice.row["weights_sha256"] != encoder.candidate.weights_sha256
        apart.append(max(looked.disagreement, disagreement(served, looked.mask) if other else 0.0))
    if not rows:
        return Picked({}, len(fresh), 0)
    told, trusted, known_hashes = [], [], []
    for choice, looked, digest, _ in _look(reader, encoder, known):
        done += 1
        progress(done, total)
        told.append(looked)
        known_hashes.append(digest)
        assert choice.label
        end = choice.label.mask_offset + choice.label.mask_bytes
        true = _mask(reader.get_range(choice.label.segment, choice.label.mask_offset, end))
        trusted.append(1 - disagreement(true, looked.mask) if true.shape == looked.mask.shape else np.nan)
    known_pairs = [(one.confidence, iou) for one, iou in zip(told, trusted, strict=True) if np.isfinite(iou)]
    doubt = calibrated_doubt(np.array([one.confidence for one in seen]), known_pairs)
    features = np.array([one.features for one in seen], np.float64)
    found = choose(
        Pool(doubt, np.array(apart), features, np.array(hashes, np.uint64)),
        count,
        labelled_features=np.array([one.features for one in told], np.float64) if told else None,
        labelled_hashes=np.array(known_hashes, np.uint64) if told else None,
        shares=shares,
        seed=seed,
    )
    in_pool = len(drawn) / len(fresh)
    chosen = {
        str(rows[one.index].row["request_id"]): {
            "why": one.why,
            "probability": one.probability * in_pool,
            "alike": one.alike,
        }
        for one in found
    }
    return Picked(chosen, len(fresh), len(rows))


def _look(
    reader: Reader, encoder: Encoder, choices: list[Choice]
) -> Iterator[tuple[Choice, Seen, np.uint64, NDArray[np.uint8]]]:
    """Yield each readable photo, the network's view of it, its hash and the served mask."""

    def fetch(choice: Choice) -> tuple[Choice, bytes, bytes] | None:
        try:
            return choice, *reader.photo_and_mask(choice.row)
        except (Gone, Damaged):
            return None  # export reports it

    for fetched in parallel(fetch, choices):
        if fetched is None:
            continue
        choice, photo, mask = fetched
        try:
            pixels = read_photo(photo).pixels
        except PhotoError:
            continue
        yield choice, encoder.look(pixels), perceptual_hash(pixels), _mask(mask)


def _mask(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("L"))
