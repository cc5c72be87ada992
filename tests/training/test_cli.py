"""The training commands as a user types them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from humanseg.cli.console import CommandError
from humanseg.cli.training import app
from humanseg.segmentation.engine import reference_engine
from humanseg.segmentation.errors import WeightsError
from humanseg.segmentation.photo import read_photo
from humanseg.segmentation.pipeline import probability
from humanseg.segmentation.spec import spec_file, write_spec_file
from humanseg.segmentation.unet import UNet
from humanseg.segmentation.weights import load_weights, save_weights
from humanseg.serve.export import write_graph
from humanseg.training.pseudo import pseudo_label
from humanseg.training.samples import DataError, Source, find_samples
from humanseg.training.teacher import Teacher, with_own

MakeData = Callable[..., Path]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def start(tmp_path: Path) -> Path:
    path = tmp_path / "start.safetensors"
    torch.manual_seed(0)
    save_weights(path, UNet((4, 8)).eval(), input_size=64, threshold=0.5)
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.mark.slow
def test_evaluate_prints_a_table_and_writes_json_and_sheets(make_data: MakeData, start: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    folder = make_data()
    result = call("evaluate", "--weights", start, "--data", folder, "--empty", folder, "--out", out)
    assert result.exit_code == 0
    assert "mean_iou" in result.stdout
    assert "share_over_1_percent" in result.stdout
    content = json.loads((out / "evaluation.json").read_text())
    assert [item["photos"] for item in content["sets"]] == [8, 8]
    figure = content["sets"][0]["figures"]["mean_iou"]
    assert figure["low"] <= figure["value"] <= figure["high"]
    photos = content["sets"][0]["per_photo"]
    assert figure["value"] == pytest.approx(np.mean([photo["iou"] for photo in photos]), abs=1e-3)
    assert all(0 <= photo["confidence"] <= 1 for photo in photos)
    assert {row["kind"].split(":")[0] for row in content["kinds"]} >= {"light", "size", "sharpness", "person size"}
    assert sum(row["photos"] for row in content["kinds"] if row["kind"].startswith("light")) == 8
    assert (content["quality"], content["sets"][0]["changes"]) == ("fast", {})
    assert (out / "data.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_evaluate_measures_a_graph_as_it_measures_weights(make_data: MakeData, start: Path, tmp_path: Path) -> None:
    graph = tmp_path / "start.xml"
    weights = load_weights(start)
    write_graph(weights.network, weights.spec, graph)
    write_spec_file(spec_file(graph), weights.spec)
    data = make_data()
    reports = [
        json.loads(call("evaluate", "--weights", path, "--data", data, "--json").stdout) for path in (start, graph)
    ]
    by_weights, by_graph = ([photo["iou"] for photo in report[0]["per_photo"]] for report in reports)
    assert by_graph == pytest.approx(by_weights, abs=1e-3)


@pytest.mark.slow
def test_evaluate_says_what_changes_to_a_photo_do(make_data: MakeData, start: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    result = call(
        "evaluate", "--weights", start, "--data", make_data(), "--quality", "best", "--changed", "--out", out
    )
    assert result.exit_code == 0
    assert "JPEG 30" in result.stdout
    content = json.loads((out / "evaluation.json").read_text())
    changes = content["sets"][0]["changes"]
    assert content["quality"] == "best"
    assert len(changes) == 7
    assert all(0 <= figure <= 1 for change in changes.values() for figure in change.values())


def test_evaluate_names_every_bad_file_before_it_measures(make_data: MakeData, start: Path) -> None:
    folder = make_data()
    (folder / "mask" / "02.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"02\.png: can't be read"):
        call("evaluate", "--weights", start, "--data", folder)


@pytest.mark.slow
def test_a_trained_run_is_exported_for_serving(make_data: MakeData, start: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out" / "mine.safetensors"
    arguments = ("--init", start, "--size", 64, "--samples", 16, "--batch-size", 8, "--hold-out", 0)
    assert call("train", "--data", make_data(), "--out", run, *arguments).exit_code == 0
    assert call("export", run, "--out", out, "--threshold", 0.4).exit_code == 0
    exported, trained = load_weights(out), load_weights(run / "weights.safetensors")
    assert (exported.spec.long_side, exported.spec.threshold) == (64, 0.4)
    for name, tensor in trained.network.state_dict().items():
        torch.testing.assert_close(exported.network.state_dict()[name], tensor, rtol=0, atol=0)


def test_several_runs_are_exported_as_their_mean(start: Path, tmp_path: Path) -> None:
    other, out = tmp_path / "other.safetensors", tmp_path / "mean.safetensors"
    torch.manual_seed(1)
    save_weights(other, UNet((4, 8)).eval(), input_size=96, threshold=0.4)
    assert call("export", start, other, "--out", out).exit_code == 0
    mean = load_weights(out)
    assert (mean.spec.long_side, mean.spec.threshold) == (96, 0.4)
    first, second = (load_weights(photo).network.state_dict() for photo in (start, other))
    for name, tensor in mean.network.state_dict().items():
        expected = (first[name] + second[name]) / 2 if tensor.is_floating_point() else second[name]
        torch.testing.assert_close(tensor, expected)


def test_different_networks_have_no_mean(start: Path, tmp_path: Path) -> None:
    other, out = tmp_path / "other.safetensors", tmp_path / "mean.safetensors"
    save_weights(other, UNet((4, 8, 16)).eval(), input_size=64, threshold=0.5)
    with pytest.raises(WeightsError, match=r"other\.safetensors and .*start\.safetensors are different networks"):
        call("export", start, other, "--out", out)
    assert not out.exists()


def test_training_without_photos_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="use --data DIR"):
        call("train", "--out", tmp_path / "run")


def test_a_weight_that_is_no_number_is_named(make_data: MakeData, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="the weight is 'much'"):
        call("train", "--data", f"{make_data()}=much", "--out", tmp_path / "run")


def test_pseudo_labels_keep_only_what_the_labeller_is_sure_of(make_data: MakeData, tmp_path: Path) -> None:
    photos = sorted((make_data() / "img").glob("*.jpg"))
    agreements = iter([0.9, 0.5] * 4)

    def label(pixels: np.ndarray) -> tuple[np.ndarray, float]:
        return np.full(pixels.shape[:2], 200, np.uint8), next(agreements)

    out = tmp_path / "labelled"
    assert pseudo_label(photos, out, label, 0.85) == (4, 4)
    samples = find_samples(Source(out, kind="soft"))
    assert [sample.photo.name for sample in samples] == ["00.jpg", "02.jpg", "04.jpg", "06.jpg"]
    assert int(samples[0].read()[1].min()) == 200
    with (out / "report.csv").open() as file:
        assert [row["kept"] for row in csv.DictReader(file)] == ["1", "0"] * 4


@pytest.mark.slow
def test_our_own_network_has_a_say_in_the_soft_masks() -> None:
    photo = read_photo((ROOT / "tests" / "photos" / "astronaut.jpg").read_bytes()).pixels
    own = ROOT / "model_store" / "human_segmentation.safetensors"
    weights = load_weights(own)
    ours = probability(reference_engine(weights.network, weights.spec), weights.spec, photo, quality="best")

    class Teaches(Teacher):  # the real one needs a file that is not ours to ship
        def __init__(self, mask: np.ndarray) -> None:
            self.mask = mask

        def label(self, pixels: np.ndarray) -> tuple[np.ndarray, float]:
            return self.mask, 0.99

    agreed, agreement = with_own(Teaches(ours), own)(photo)
    assert agreement == 1.0
    assert np.array_equal(agreed, ours)
    mixed, agreement = with_own(Teaches(255 - ours), own)(photo)
    assert agreement < 0.1
    assert np.abs(mixed.astype(int) - 128).max() <= 1
