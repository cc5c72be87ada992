"""Choosing photos to label: what is chosen, why, and that figures of the chosen ones stay unbiased."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from humanseg.segmentation.unet import EfficientUNet, UNet
from humanseg.segmentation.weights import save_weights
from humanseg.training.alike import perceptual_hash
from humanseg.training.candidates import load_candidate
from humanseg.training.choosing import (
    Pool,
    Shares,
    calibrated_doubt,
    choose,
    disagreement,
    inclusion,
    k_center,
    near_duplicates,
    systematic,
    why_counts,
)
from humanseg.training.encoder import EMBEDDED, Features, embed, load_encoder
from tests.running import ROOT

PHOTOS = Path(__file__).resolve().parents[1] / "photos"
SHIPPED = ROOT / "model_store" / "human_segmentation.mar"


def pool(count: int, seed: int = 0) -> Pool:
    random = np.random.default_rng(seed)
    return Pool(
        doubt=random.beta(1, 6, count),
        disagreement=random.beta(1, 9, count),
        features=random.normal(size=(count, 6)),
        hashes=random.integers(0, 2**63, count, dtype=np.uint64),
    )


@pytest.mark.slow
def test_figures_of_the_chosen_photos_are_unbiased_though_doubtful_ones_are_preferred() -> None:
    photos = pool(400)
    iou = 1 - photos.doubt  # the more doubtful, the worse: a plain mean of the chosen would be too low
    plain, weighted = [], []
    for seed in range(300):
        chosen = choose(photos, 60, seed=seed)
        assert len(chosen) == len({choice.index for choice in chosen}) == 60
        values = np.array([iou[choice.index] for choice in chosen])
        plain.append(values.mean())
        weighted.append((values / np.array([choice.probability for choice in chosen])).sum() / 400)
    error = np.std(weighted) / np.sqrt(300)
    assert abs(np.mean(weighted) - iou.mean()) < 4 * error
    assert np.mean(plain) < iou.mean() - 0.02


def test_each_photo_comes_as_often_as_its_probability_says() -> None:
    chances = inclusion(np.array([50.0, 5, 4, 3, 2, 1, 1]), 3)
    assert chances[0] == 1
    assert chances.sum() == pytest.approx(3)
    assert chances[1] / chances[2] == pytest.approx(5 / 4)
    counts = np.zeros(7)
    for seed in range(4000):
        drawn = systematic(chances, seed)
        assert len(set(drawn.tolist())) == 3
        counts[drawn] += 1
    assert counts / 4000 == pytest.approx(chances, abs=0.03)
    assert inclusion(np.ones(4), 9).tolist() == [1, 1, 1, 1]


def test_the_new_part_is_what_differs_most_from_what_is_labelled() -> None:
    photos = pool(300)
    far = [17, 99, 250]
    photos.features[far] += np.array([[40, 0, 0, 0, 0, 0], [0, 40, 0, 0, 0, 0], [0, 0, 40, 0, 0, 0]])
    chosen = {choice.index: choice for choice in choose(photos, 20, labelled_features=photos.features[:5])}
    assert {chosen[index].why for index in far} == {"new"}
    assert {chosen[index].probability for index in far} == {1.0}
    assert why_counts(list(chosen.values()))["new"] == 5
    line = np.arange(11.0)[:, None]
    assert k_center(line, 3, line[:1]).tolist() == [10, 5, 2]


def test_each_part_gets_its_share_and_says_so() -> None:
    counts = np.zeros(4)
    for seed in range(20):
        counts += list(why_counts(choose(pool(1000, seed), 100, seed=seed)).values())
    assert counts.sum() == 2000
    assert counts[0] == 500
    assert (counts[1:] > 100).all()
    with pytest.raises(ValueError, match=r"must leave at least 0.05 to the uniform part"):
        Shares(new=0.5, doubt=0.5, disagreement=0)


def test_near_duplicates_count_once_and_what_is_labelled_not_at_all() -> None:
    photo = cv2.cvtColor(cv2.imread(str(PHOTOS / "astronaut.jpg")), cv2.COLOR_BGR2RGB)
    smaller = cv2.resize(photo, (200, 200), interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 25])
    worse = cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB)
    brighter = cv2.convertScaleAbs(photo, alpha=1.1, beta=8)
    other = np.ascontiguousarray(photo[::-1])
    hashes = np.array([perceptual_hash(photo) for photo in (photo, smaller, worse, brighter, other)], np.uint64)
    assert near_duplicates(hashes).tolist() == [4, 0, 0, 0, 1]
    assert near_duplicates(hashes, hashes[2:3]).tolist() == [0, 0, 0, 0, 1]
    photos = pool(5)
    chosen = choose(Pool(photos.doubt, photos.disagreement, photos.features, hashes), 5)
    assert [(choice.index, choice.alike) for choice in chosen] == [(0, 4), (4, 1)]


def test_doubt_is_calibrated_on_what_is_known() -> None:
    random = np.random.default_rng(0)
    output = random.uniform(0.5, 1, 500)
    true = (output - 0.2 + random.normal(0, 0.05, 500)).clip(0, 1)  # too sure of itself by 0.2
    asked = np.array([0.6, 0.8, 0.95])
    known = list(zip(output.tolist(), true.tolist(), strict=True))
    assert calibrated_doubt(asked, known) == pytest.approx(1 - (asked - 0.2), abs=0.04)
    assert calibrated_doubt(asked).tolist() == (1 - asked).tolist()
    assert calibrated_doubt(asked, known[:10]).tolist() == (1 - asked).tolist()


def test_disagreement_of_masks() -> None:
    mask = np.zeros((4, 4), np.uint8)
    mask[:2] = 255
    assert disagreement(mask, mask) == 0
    assert disagreement(mask, mask[::-1]) == 1
    assert disagreement(mask * 0, mask * 0) == 0
    assert disagreement(mask, mask * 0 + 255) == 0.5


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(PHOTOS / "astronaut.jpg")), cv2.COLOR_BGR2RGB)


@pytest.mark.parametrize("kind", ["unet", pytest.param("efficient_unet", marks=pytest.mark.slow)])
def test_the_encoder_puts_like_photos_close_and_says_where_mirror_and_photo_differ(
    kind: str, photo: np.ndarray, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = UNet((4, 8)) if kind == "unet" else EfficientUNet()
    weights = tmp_path / "some.safetensors"
    save_weights(weights, network.eval(), architecture=kind, input_size=64, threshold=0.5)
    encoder = load_encoder(weights, tmp_path)
    seen = encoder.predict(photo)
    again = encoder.predict(photo)
    assert seen.features.tolist() == again.features.tolist()
    assert np.linalg.norm(seen.features) == pytest.approx(1, abs=1e-5)
    near = encoder.predict(cv2.resize(photo, (300, 300), interpolation=cv2.INTER_AREA)).features
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    assert np.linalg.norm(seen.features - near) < np.linalg.norm(seen.features - encoder.predict(noise).features)
    mirrored = encoder.predict(np.ascontiguousarray(photo[:, ::-1])).mask[:, ::-1]
    assert seen.disagreement == pytest.approx(disagreement(seen.mask, mirrored))


def test_the_shipped_model_answers_the_same_though_its_deepest_layer_is_heard(
    photo: np.ndarray, tmp_path: Path
) -> None:
    encoder = load_encoder(SHIPPED, tmp_path / "heard")
    output, features = encoder.segment(photo)
    plain = load_candidate(SHIPPED, tmp_path / "plain").segment(photo)
    assert (output.probability_map == plain.probability_map).all()
    assert (output.mask == plain.mask).all()
    assert features.shape == (192,)
    assert len(np.unique(features)) > 50


def test_an_embedding_keeps_distances() -> None:
    random = np.random.default_rng(0)
    vectors: Features = random.normal(size=(60, 192)).astype(np.float32)
    short = np.array([embed(vector) for vector in vectors], np.float64)
    assert short.shape == (60, EMBEDDED)
    pairs = np.triu_indices(60, 1)
    true, kept = (np.linalg.norm(side[pairs[0]] - side[pairs[1]], axis=1) for side in (vectors, short))
    ratios = kept / true
    assert ratios.mean() == pytest.approx(1, abs=0.05)
    assert ratios.std() < 1.2 / np.sqrt(2 * EMBEDDED), "as Johnson and Lindenstrauss promise"
