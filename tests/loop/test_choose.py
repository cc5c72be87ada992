"""Choosing from a real archive: what is alike comes once, what is labelled not at all, two versions are compared."""

from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from humanseg.archive.capture.hook import Outcome
from humanseg.archive.capture.strip_metadata import strip_jpeg
from humanseg.archive.read.export import export
from humanseg.archive.read.label_import import import_labels
from humanseg.archive.ship.local_store import LocalStore
from humanseg.loop.choose import Picked, pick
from humanseg.segmentation.unet import UNet
from humanseg.segmentation.weights import save_weights
from humanseg.training.encoder import Encoder, load_encoder
from tests.archive.helpers import NOON, Bucket, bucket_of, exchange
from tests.archive.shipping import uploader_for, writer
from tests.running import encoded
from tests.training.conftest import draw

SINCE = NOON - timedelta(days=1)


@pytest.fixture
def encoder(tmp_path: Path) -> Encoder:
    """A network that finds people everywhere."""
    torch.manual_seed(0)
    network = UNet((4, 8)).eval()
    with torch.no_grad():
        network.final_conv.bias.fill_(20.0)
    save_weights(tmp_path / "some.safetensors", network, architecture="unet", input_size=64, threshold=0.5)
    return load_encoder(tmp_path / "some.safetensors", tmp_path / "graph")


@pytest.fixture
def bucket(local_store: LocalStore) -> Bucket:
    return bucket_of(local_store)


def keep(folder: Path, bucket: Bucket, pictures: list[np.ndarray], quality: int = 90, **changes: object) -> list[str]:
    """Ids of photos, uint8 [64, 96, 3] each, that are now in the archive."""
    archive, ids = writer(folder), []
    for pixels in pictures:
        given = exchange(photo=strip_jpeg(encoded(pixels, "JPEG", quality=quality)), **changes)
        assert archive.keep(given) is Outcome.SPOOLED
        ids.append(given.request_id)
    archive.close()
    assert uploader_for(folder, bucket).drain(60).left.segments == 0
    return ids


def figures(count: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [draw(random, 64, 96)[0] for _ in range(count)]


def choose(bucket: Bucket, encoder: Encoder, count: int, **more: object) -> Picked:
    return pick(bucket.reader, encoder, count=count, since=SINCE, **more)


def test_near_duplicates_are_chosen_once_and_say_how_many_they_stand_for(
    tmp_path: Path, bucket: Bucket, encoder: Encoder
) -> None:
    pictures = figures(6)
    ids = keep(tmp_path, bucket, pictures)
    keep(tmp_path, bucket, pictures[:2], quality=40)  # the same, saved once more
    picked = choose(bucket, encoder, 20)
    assert picked.photos == picked.scored == 8, "by their bytes these are eight photos"
    assert len(picked.chosen) == 6
    assert sorted(choice["alike"] for choice in picked.chosen.values()) == [1, 1, 1, 1, 2, 2]
    assert {choice["probability"] for choice in picked.chosen.values()} == {1.0}
    assert set(ids[2:]) < set(picked.chosen)


def test_a_pool_is_part_of_the_probability(tmp_path: Path, bucket: Bucket, encoder: Encoder) -> None:
    keep(tmp_path, bucket, figures(12))
    picked = choose(bucket, encoder, 3, pool=6)
    assert (picked.photos, picked.scored, len(picked.chosen)) == (12, 6, 3)
    new = [choice for choice in picked.chosen.values() if choice["why"] == "new"]
    assert [choice["probability"] for choice in new] == [0.5], "one in two photos was looked at"
    assert all(0 < choice["probability"] <= 0.5 for choice in picked.chosen.values())


def test_what_somebody_labelled_is_not_chosen_again_nor_what_is_like_it(
    tmp_path: Path, bucket: Bucket, encoder: Encoder
) -> None:
    pictures = figures(5)
    ids = keep(tmp_path, bucket, pictures)
    to = tmp_path / "data"
    export(bucket.reader, to, since=SINCE, until=None, now=NOON, only={ids[0]})
    (path,) = (to / "mask").glob("*.png")
    Image.fromarray(np.zeros((64, 96), np.uint8)).save(path)
    assert import_labels(bucket.reader, to, by="ada", now=NOON).problems == []
    keep(tmp_path, bucket, pictures[:1], quality=40)
    assert set(choose(bucket, encoder, 20).chosen) == set(ids[1:])


def test_a_photo_on_which_the_version_that_answered_disagrees_is_preferred(
    tmp_path: Path, bucket: Bucket, encoder: Encoder
) -> None:
    """The network says person everywhere. The other version said so of ten photos, and nobody in the eleventh."""

    def mask(value: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(np.full((64, 96), value, np.uint8)).save(file, "PNG")
        return file.getvalue()

    pictures = figures(11, seed=1)
    keep(tmp_path, bucket, pictures[:10], mask_png=lambda: mask(255))
    (odd,) = keep(tmp_path, bucket, pictures[10:], mask_png=lambda: mask(0))
    for seed in range(3):
        picked = choose(bucket, encoder, 6, seed=seed).chosen
        assert picked[odd]["probability"] > 0.85, "it has all the disagreement that there is"
        drawn = [choice["probability"] for name, choice in picked.items() if name != odd and choice["why"] != "new"]
        assert max(drawn) < 0.5
