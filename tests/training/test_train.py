"""Whole runs on tiny data: the trainer learns, goes on exactly where it was cut off, and records what it did."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import humanseg.training.loop as loop
from humanseg.common.settings import SettingsError
from humanseg.segmentation.errors import WeightsError
from humanseg.segmentation.unet import EfficientUNet, UNet
from humanseg.segmentation.weights import load_weights, save_weights
from humanseg.training.loop import start_network, train
from humanseg.training.measure import measure_samples
from humanseg.training.samples import DataError, Source, find_samples
from humanseg.training.settings import Settings, read_recipe

MakeData = Callable[..., Path]

# What Fabric and torch say about themselves at start; not ours to fix.
pytestmark = [pytest.mark.filterwarnings("ignore:.*num_workers.*:UserWarning")]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A very small classic U-Net to start from: the loop is the same, the steps take milliseconds."""
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    torch.manual_seed(0)
    save_weights(path, UNet((4, 8)), input_size=64, threshold=0.5)
    return path


def tiny(folder: Path, start: Path | str, **changes: object) -> Settings:
    """A run of a few steps at 64x64 without worker processes."""
    plain = Settings(
        data=(Source(folder),),
        size=64,
        samples=48,
        batch_size=8,
        hold_out=0.0,
        precision="32-true",
        init=str(start),
        workers=0,
        eval_interval=10_000,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


class CutOffError(Exception):
    """Stands for the power going out."""


def cut_off_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Make the run die in the middle, right after a checkpoint at step `steps`."""
    real, seen = loop.segmentation_loss, [0]

    def failing(*arguments: object) -> torch.Tensor:
        seen[0] += 1
        if seen[0] > steps:
            raise CutOffError
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "segmentation_loss", failing)


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_weights_as_an_unbroken_one(
    make_data: MakeData, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny(make_data(), start)
    whole = load_file(train(settings, tmp_path / "whole", quiet=True))
    settings = replace(settings, save_every=0.0)
    with monkeypatch.context() as patch:
        cut_off_after(patch, 3)
        with pytest.raises(CutOffError):
            train(settings, tmp_path / "broken", quiet=True)
    assert not (tmp_path / "broken" / "weights.safetensors").exists()
    resumed = load_file(train(settings, tmp_path / "broken", resume=True, quiet=True))
    assert whole.keys() == resumed.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=0, atol=0, msg=name)


@pytest.mark.slow
def test_a_teacher_counts_by_its_share_of_the_target(make_data: MakeData, start: Path, tmp_path: Path) -> None:
    settings = tiny(make_data(), start, samples=16, scenes=0.0, empty=0.0)
    alone = load_file(train(settings, tmp_path / "alone", quiet=True))
    unheard = replace(settings, distil=str(start), distil_drawn=0.0)
    taught = replace(settings, distil=str(start), distil_drawn=1.0)
    unheard_weights = load_file(train(unheard, tmp_path / "unheard", quiet=True))
    taught_weights = load_file(train(taught, tmp_path / "taught", quiet=True))
    name = "final_conv.weight"
    assert torch.equal(unheard_weights[name], alone[name])
    assert not torch.equal(taught_weights[name], alone[name])


class Leaning(nn.Module):
    """Sees more people the further right it looks."""

    def forward(self, photo: torch.Tensor) -> torch.Tensor:
        return torch.linspace(-2, 2, photo.shape[3]).expand(photo.shape[0], 1, *photo.shape[2:])


def test_a_teachers_two_looks_have_no_side() -> None:
    teacher, photo = Leaning(), torch.rand(2, 3, 32, 48)
    seen = loop.teacher_probability(teacher, photo)
    alone = teacher(photo).sigmoid()
    torch.testing.assert_close(seen, (alone + alone.flip(-1)) / 2, rtol=0, atol=1e-5)
    torch.testing.assert_close(seen, seen.flip(-1), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_another_seed_gives_other_weights(make_data: MakeData, start: Path, tmp_path: Path) -> None:
    settings = tiny(make_data(), start, samples=16)
    first = load_file(train(settings, tmp_path / "a", quiet=True))
    second = load_file(train(replace(settings, seed=1), tmp_path / "b", quiet=True))
    assert not torch.equal(first["final_conv.weight"], second["final_conv.weight"])


def test_named_parts_start_anew_and_the_rest_goes_on(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, other = EfficientUNet((8, 8, 8, 8, 8)), EfficientUNet()
    path = tmp_path / "start.safetensors"
    save_weights(path, other, input_size=64, threshold=0.5)
    new = start_network(str(path), ("finest",)).state_dict()
    for name, tensor in other.state_dict().items():
        if not name.startswith("finest"):
            assert torch.equal(new[name], tensor), name
    assert not torch.equal(new["finest.pointwise.weight"], other.state_dict()["finest.pointwise.weight"])
    save_weights(path, network, input_size=64, threshold=0.5)
    with pytest.raises(SettingsError, match=r"init: .* does not match the network"):
        start_network(str(path), ("finest",))


def test_renew_names_what_is_there_and_needs_a_weights_file(tmp_path: Path) -> None:
    path = tmp_path / "start.safetensors"
    save_weights(path, EfficientUNet(), input_size=64, threshold=0.5)
    for wrong in ("finset", ""):
        with pytest.raises(SettingsError, match=f"reinit: no tensor name in .* starts with '{wrong}'"):
            start_network(str(path), ("finest", wrong))
    for init in ("imagenet", str(tmp_path / "gone.safetensors"), __file__):
        with pytest.raises(SettingsError, match="with reinit it must be a .safetensors weights file"):
            start_network(init, ("finest",))


def test_a_damaged_start_is_named(tmp_path: Path) -> None:
    (tmp_path / "start.safetensors").write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        start_network(str(tmp_path / "start.safetensors"), ("finest",))


def test_a_file_that_lacks_more_than_what_starts_anew_is_refused(start: Path) -> None:
    with pytest.raises(SettingsError, match=r"does not match the network at '.*'; reinit covers only finest"):
        start_network(str(start), ("finest",))


@pytest.mark.slow
def test_the_run_folder_says_what_was_done(make_data: MakeData, start: Path, tmp_path: Path) -> None:
    settings = tiny(make_data(photos=12), start, hold_out=0.4)
    weights = train(settings, tmp_path / "run", quiet=True)
    facts = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert facts["settings"]["samples"] == 48
    assert facts["photos"] < 12
    assert len(facts["data_sha256"]) == 64
    assert "git_revision" in facts
    log = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert log[0] == "step,time,loss,learning_rate,samples_per_second,held_out_iou"
    assert log[-1].split(",")[0] == "6"
    assert 0.0 <= float(log[-1].split(",")[-1]) <= 1.0
    assert (tmp_path / "run" / "sheets" / "000006.png").stat().st_size > 1000
    loaded = load_weights(weights)
    assert (loaded.architecture, loaded.spec.long_side, loaded.spec.threshold) == ("unet", 64, 0.5)


@pytest.mark.slow
def test_training_goes_on_from_given_weights(make_data: MakeData, start: Path, tmp_path: Path) -> None:
    settings = tiny(make_data(), start, samples=8, learning_rate=1e-9, warmup=0.0)
    second = load_file(train(settings, tmp_path / "run", quiet=True))
    for name, tensor in load_file(start).items():
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(second[name], tensor, rtol=0, atol=1e-6, msg=name)


def test_bad_data_stops_the_run_before_its_folder_is_made(make_data: MakeData, start: Path, tmp_path: Path) -> None:
    good, bad = make_data("good"), make_data("bad")
    (bad / "img" / "01.jpg").write_bytes(b"broken")
    (bad / "img" / "02.jpg").write_bytes(b"broken")
    settings = tiny(good, start, data=(Source(good), Source(bad), Source(tmp_path / "none")))
    with pytest.raises(DataError) as error:
        train(settings, tmp_path / "run", quiet=True)
    lines = str(error.value).splitlines()
    assert ["01.jpg" in lines[0], "02.jpg" in lines[1], "none: no such folder" in lines[2]] == [True] * 3
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sise: 256", "unknown key 'sise'"),
        ("size: 250", "size is 250, but must be a multiple of 32"),
        ("scenes: 1.5", "scenes is 1.5, but must be a number from 0 to 1"),
        ("data: [somewhere]", "'somewhere' is not a source"),
        ("data: [{path: a, kind: drawn}]", "kind is 'drawn'; it must be one of masks, soft, empty"),
    ],
)
def test_a_wrong_recipe_is_refused_by_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=message.replace("(", r"\(")):
        read_recipe(path)


def test_the_committed_recipes_can_be_read() -> None:
    recipes = sorted(Path(loop.__file__).parent.glob("recipe*.yaml"))
    assert recipes
    for path in recipes:
        assert read_recipe(path).data, path


@pytest.mark.slow
def test_the_trainer_overfits_eight_photos(make_data: MakeData, start: Path, tmp_path: Path) -> None:
    folder = make_data()
    changes = {"size": 128, "samples": 8 * 70, "learning_rate": 4e-3, "ema_decay": 0.8, "grad_clip": 5.0}
    settings = tiny(folder, "imagenet", augment="none", **changes)
    weights = load_weights(train(settings, tmp_path / "run", quiet=True))
    results = measure_samples(weights, find_samples(Source(folder)))
    assert min(result.iou for result in results) > 0.98


@pytest.mark.slow
def test_the_imagenet_start_fills_the_whole_encoder() -> None:
    network, random = loop.start_network("imagenet"), loop.start_network("random")
    encoder = [name for name, _ in network.named_parameters() if name.startswith(("stem.", "stages."))]
    filled, empty = dict(network.named_parameters()), dict(random.named_parameters())
    assert len(encoder) > 80
    assert not any(torch.equal(filled[name], empty[name]) for name in encoder)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.stages.modules())
