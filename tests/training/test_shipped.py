"""The weights that ship: small enough, the same on every engine, and good on photographs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from humanseg.segmentation.engine import OpenVinoEngine, reference_engine
from humanseg.segmentation.pipeline import probability, segment
from humanseg.segmentation.weights import Weights, load_weights
from humanseg.serve.export import write_graph
from humanseg.training.measure import measure_samples
from humanseg.training.metrics import pooled_iou
from humanseg.training.samples import Source, find_samples
from tests.training.astronaut import reference

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "model_store" / "human_segmentation.safetensors"
DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="module")
def weights() -> Weights:
    return load_weights(FILE)


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return cv2.imread(str(ROOT / "tests" / "photos" / "astronaut.jpg"), cv2.IMREAD_COLOR_RGB)


def test_they_keep_to_the_limits_of_size_and_work(weights: Weights) -> None:
    assert FILE.stat().st_size <= 20_000_000
    assert sum(parameter.numel() for parameter in weights.network.parameters()) <= 5_000_000
    work = [0]

    def count(layer: nn.Module, _: object, out: torch.Tensor) -> None:
        work[0] += out.numel() * layer.weight[0].numel()  # type: ignore[index, operator, union-attr]

    hooks = [
        layer.register_forward_hook(count)
        for layer in weights.network.modules()
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    ]
    with torch.inference_mode():
        weights.network(torch.zeros(1, 3, weights.spec.long_side, weights.spec.long_side))
    for hook in hooks:
        hook.remove()
    assert work[0] <= 1.5e9


def test_the_model_card_names_the_file_that_ships() -> None:
    card = (ROOT / "model_store" / "MODEL_CARD.md").read_text()
    assert hashlib.sha256(FILE.read_bytes()).hexdigest() in card


def test_the_astronaut_is_found(weights: Weights, astronaut: np.ndarray) -> None:
    person, counted = reference()
    engine = reference_engine(weights.network, weights.spec)
    segmentation = segment(engine, weights.spec, astronaut, threshold=weights.spec.threshold).mask > 0
    both = np.count_nonzero(segmentation & person & counted)
    either = np.count_nonzero((segmentation | person) & counted)
    assert both / either > 0.93


# The helmet on the astronaut's lap is half a person to the network: there bfloat16 moves the edge. Over the
# measured sets it moves mean IoU by 0.0002 on photographs of people (model card).
@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance", "moved"), [("float32", 2e-3, 1e-4), ("bfloat16", 0.12, 0.015)])
def test_the_exported_engine_agrees_with_torch(
    weights: Weights, astronaut: np.ndarray, tmp_path: Path, precision: str, tolerance: float, moved: float
) -> None:
    graph = tmp_path / "network.xml"
    write_graph(weights.network, weights.spec, graph)
    engine = OpenVinoEngine(graph, weights.spec, threads=1, precision=precision)
    ours = probability(engine, weights.spec, astronaut).astype(int)
    theirs = probability(reference_engine(weights.network, weights.spec), weights.spec, astronaut).astype(int)
    difference = np.abs(ours - theirs) / 255
    assert np.percentile(difference, 99) < tolerance
    assert np.mean((ours > 127) != (theirs > 127)) < moved


def test_an_empty_grey_photo_has_nobody_in_it(weights: Weights) -> None:
    grey = np.full((300, 400, 3), 128, np.uint8)
    assert probability(reference_engine(weights.network, weights.spec), weights.spec, grey).max() < 128


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the photographs of ../shared/data are not on this machine")
@pytest.mark.parametrize(("name", "least"), [("portraits_dev", 0.80), ("ccp/val", 0.90)])
def test_a_handful_of_photographs_is_cut_out_well(weights: Weights, name: str, least: float) -> None:
    samples = find_samples(Source(DATA / name))
    results = measure_samples(weights, samples[:: len(samples) // 8][:8])
    assert pooled_iou([result.score for result in results]) > least
