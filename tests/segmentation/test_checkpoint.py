"""Checkpoints as people save them: each wrapping, prefix, format and dtype gives the network that was trained."""

from __future__ import annotations

import argparse
import collections
import datetime
import json
import pathlib
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from humanseg.segmentation.errors import WeightsError
from humanseg.segmentation.weights import load_weights
from tests.segmentation.networks import CopiedUNet, TutorialUNet, trained, used
from tests.segmentation.smp import import_smp

State = dict[str, Tensor]
PHOTO = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network() -> TutorialUNet:
    return trained([4, 8])


def answers_alike(path: Path, network: nn.Module, tolerance: float = 1e-5, **options: Any) -> None:
    """The file is read as the network that was saved."""
    weights = load_weights(path, **options)
    with torch.inference_mode():
        torch.testing.assert_close(weights.network(PHOTO), network(PHOTO), rtol=tolerance, atol=tolerance)


def under(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def other(state: State) -> State:
    """A copy of weights that are not the ones to be taken."""
    return {name: tensor + 1 if tensor.is_floating_point() else tensor.clone() for name, tensor in state.items()}


def adam(network: nn.Module) -> dict[str, Any]:
    """An optimizer's state after a step: mappings of tensors that are no weights."""
    optimizer = torch.optim.Adam(network.parameters())
    network(PHOTO).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


WRAPPINGS: dict[str, Callable[[State], Any]] = {
    "bare": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "model": lambda s: {"model": s, "step": 1},
    "model_state_dict": lambda s: {"epoch": 1, "model_state_dict": s, "loss": torch.tensor(0.5)},
    "module deep inside": lambda s: {"run": {"networks": {"generator": s}}},
    "DataParallel": lambda s: {"state_dict": under("module.", s)},
    "torch.compile": lambda s: under("_orig_mod.", s),
    "compiled, then wrapped": lambda s: under("module._orig_mod.", s),
    "wrapped, then compiled": lambda s: under("_orig_mod.module.", s),
    "Lightning": lambda s: {
        "state_dict": {**under("model.", s), "criterion.pos_weight": torch.ones(1)},
        "pytorch-lightning_version": "2.5.0",
        "hyper_parameters": {"lr": 1e-3},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.9)}},
    },
    "a nest of names": lambda s: {"state_dict": under("model.net._orig_mod.unet.module.", s)},
    "the loss beside it": lambda s: {**s, "criterion.weight": torch.ones(3), "loss_fn.pos_weight": torch.ones(1)},
    "facts beside it": lambda s: {**s, "mask_values": [0, 255]},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_every_wrapping_gives_the_same_network(tmp_path: Path, network: TutorialUNet, wrapping: str) -> None:
    torch.save(WRAPPINGS[wrapping](network.state_dict()), tmp_path / "a.pt")
    answers_alike(tmp_path / "a.pt", network)


def test_an_optimizer_beside_the_weights_is_no_network(tmp_path: Path) -> None:
    network = trained([4, 8])
    torch.save({"model": network.state_dict(), "optimizer": adam(network)}, tmp_path / "a.pth")
    answers_alike(tmp_path / "a.pth", network.eval())


@pytest.mark.parametrize("suffix", ["pt", "pth", "pth.tar", "ckpt", "bin", "weights"])
@pytest.mark.parametrize("zipped", [True, False])
def test_every_suffix_and_both_formats_of_torch_save(
    tmp_path: Path, network: TutorialUNet, suffix: str, zipped: bool
) -> None:
    path = tmp_path / f"a.{suffix}"
    torch.save({"model": network.state_dict()}, path, _use_new_zipfile_serialization=zipped)
    answers_alike(path, network)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float16, 5e-3), (torch.bfloat16, 5e-2), (torch.float64, 1e-5)]
)
def test_every_floating_point_type_is_served_in_float32(
    tmp_path: Path, network: TutorialUNet, dtype: torch.dtype, tolerance: float
) -> None:
    state = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
    torch.save(state, tmp_path / "a.pt")
    save_file(state, tmp_path / "a.safetensors")
    for name in ("a.pt", "a.safetensors"):
        answers_alike(tmp_path / name, network, tolerance)
        assert {weight.dtype for weight in load_weights(tmp_path / name).network.parameters()} == {torch.float32}


@pytest.mark.parametrize("device", ["cuda:0", "mps:0", "xpu:0"])
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_saved_on_an_accelerator_are_read_without_one(
    tmp_path: Path, network: TutorialUNet, monkeypatch: pytest.MonkeyPatch, device: str, zipped: bool
) -> None:
    """The file names the device of each tensor; here that name is all there is of it."""
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: device)
    torch.save(network.state_dict(), tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    monkeypatch.undo()
    if zipped:
        assert device.encode() in (tmp_path / "a.pth").read_bytes()
    answers_alike(tmp_path / "a.pth", network)


AVERAGED: dict[str, Callable[[State, State], Any]] = {
    "timm": lambda s, ema: {"state_dict": s, "state_dict_ema": ema},
    "YOLO's kind": lambda s, ema: {"model": s, "ema": ema},
    "torch.optim": lambda s, ema: {"model": s, "averaged": {**under("module.", ema), "n_averaged": torch.ones(())}},
    "in one state dict": lambda s, ema: {"state_dict": {**under("model.", s), **under("model_ema.module.", ema)}},
    "ours": lambda s, ema: {"network": s, "average": ema},
}


@pytest.mark.parametrize("kind", AVERAGED)
def test_averaged_weights_are_taken_where_a_file_has_both(tmp_path: Path, network: TutorialUNet, kind: str) -> None:
    state = network.state_dict()
    torch.save(AVERAGED[kind](other(state), state), tmp_path / "a.pt")
    answers_alike(tmp_path / "a.pt", network)
    assert "several copies" in " ".join(load_weights(tmp_path / "a.pt").notes)


def test_another_copy_can_be_named(tmp_path: Path, network: TutorialUNet) -> None:
    state = network.state_dict()
    torch.save({"model": state, "ema": other(state)}, tmp_path / "a.pt")
    answers_alike(tmp_path / "a.pt", network, part="model")
    with pytest.raises(WeightsError, match=r"has no part 'teacher'; it has 'model', 'ema'"):
        load_weights(tmp_path / "a.pt", part="teacher")


def test_a_file_of_several_copies_is_no_file_of_the_one_that_was_named(tmp_path: Path, network: TutorialUNet) -> None:
    """The builder copies a whole .safetensors as it is: a worker would take the average out of this one."""
    state = network.state_dict()
    save_file({**under("model.", state), **under("ema.", other(state))}, tmp_path / "both.safetensors")
    save_file({**under("model.", state)}, tmp_path / "one.safetensors")
    assert not load_weights(tmp_path / "both.safetensors").whole
    assert not load_weights(tmp_path / "both.safetensors", part="model").whole
    assert load_weights(tmp_path / "one.safetensors").whole
    answers_alike(tmp_path / "both.safetensors", network, part="model")


def test_metadata_that_is_mere_data_is_let_through(tmp_path: Path, network: TutorialUNet) -> None:
    beside = {
        "best": np.float64(0.9),
        "count": np.int64(3),
        "scores": np.arange(3, dtype=np.float32),
        "args": argparse.Namespace(lr=1e-3, out=pathlib.Path("runs/1")),
        "when": datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
        "took": datetime.timedelta(seconds=3),
        "history": collections.defaultdict(list, {"loss": [1.0, 0.5]}),
        "names": {"background", "person"},
        "order": collections.OrderedDict(a=1),
    }
    for zipped in (True, False):
        torch.save(
            {"model": network.state_dict(), **beside}, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped
        )
        answers_alike(tmp_path / "a.pt", network)


def test_a_windows_path_is_read_on_linux(tmp_path: Path, network: TutorialUNet) -> None:
    torch.save({"model": network.state_dict(), "out": pathlib.PosixPath("runs")}, tmp_path / "a.pt",
               _use_new_zipfile_serialization=False)  # fmt: skip
    # In the legacy format a pickle stands plain in the file: the name can be exchanged for the other class's.
    data = (tmp_path / "a.pt").read_bytes()
    assert b"PosixPath" in data
    (tmp_path / "a.pt").write_bytes(data.replace(b"cpathlib\nPosixPath\n", b"cpathlib\nWindowsPath\n"))
    answers_alike(tmp_path / "a.pt", network)


@pytest.mark.slow
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickled_module_is_refused_with_its_class_and_the_way_out(tmp_path: Path, zipped: bool) -> None:
    network = trained([4, 8])
    path = tmp_path / "whole.pt"
    torch.save(network, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError) as error:
        load_weights(path)
    first, *lines = str(error.value).splitlines()
    assert first.startswith(str(path))
    assert "tests.segmentation.networks.TutorialUNet" in first
    assert len(lines) == 3
    program = "import tests.segmentation.networks\n" + "\n".join(line.strip() for line in lines)
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)  # as it says
    answers_alike(tmp_path / "whole.clean.pt", network)


def test_the_way_out_keeps_a_state_dict_that_stood_beside_an_object(tmp_path: Path, network: TutorialUNet) -> None:
    class Config:
        pass

    globals()["Config"] = Config
    Config.__qualname__ = "Config"
    torch.save({"state_dict": network.state_dict(), "config": Config()}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=r"contains an object of \S*test_checkpoint\.Config"):
        load_weights(tmp_path / "a.pt")


def test_sharded_and_folder_forms_of_hugging_face(tmp_path: Path, network: TutorialUNet) -> None:
    state = network.state_dict()
    names = sorted(state)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, chosen in parts.items():
        save_file({name: state[name] for name in chosen}, tmp_path / file)
    index = {"weight_map": {name: file for file, chosen in parts.items() for name in chosen}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    answers_alike(tmp_path / "model.safetensors.index.json", network)
    answers_alike(tmp_path, network)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(WeightsError, match="refers to model-00002-of-00002.safetensors, which is not in its folder"):
        load_weights(tmp_path)


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("bilinear", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_most_copied_unet_is_recognised(tmp_path: Path, classes: int, bilinear: bool) -> None:
    torch.manual_seed(1)
    network = used(CopiedUNet(classes, bilinear, width=4))
    torch.save({**network.state_dict(), "mask_values": [0, 1]}, tmp_path / "checkpoint_epoch5.pth")
    answers_alike(tmp_path / "checkpoint_epoch5.pth", network)
    weights = load_weights(tmp_path / "checkpoint_epoch5.pth")
    assert weights.architecture == "inc_unet"
    assert weights.spec.output_activation == ("sigmoid" if classes == 1 else "softmax")
    assert weights.spec.person_channel == classes - 1


class Plain(nn.Module):
    """A classic U-Net without batch norm, with biases, of widths that are no doublings, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.downs = nn.ModuleList([self.double(3, 6), self.double(6, 10)])
        self.bottleneck = self.double(10, 14)
        self.ups = nn.ModuleList(
            [
                nn.ConvTranspose2d(14, 10, 2, 2),
                self.double(20, 10),
                nn.ConvTranspose2d(10, 6, 2, 2),
                self.double(12, 6),
            ]
        )
        self.final_conv = nn.Conv2d(6, 2, 1)

    @staticmethod
    def double(channels: int, out: int) -> nn.Module:
        holder = nn.Module()
        holder.conv = nn.Sequential(
            *(nn.Conv2d(channels, out, 3, 1, 1), nn.ReLU(), nn.Conv2d(out, out, 3, 1, 1), nn.ReLU())
        )
        return holder

    def forward(self, x: Tensor) -> Tensor:
        ways = []
        for down in self.downs:
            x = down.conv(x)  # type: ignore[operator, union-attr]
            ways.append(x)
            x = nn.functional.max_pool2d(x, 2)
        x = self.bottleneck.conv(x)  # type: ignore[operator]
        for index in (0, 2):
            x = torch.cat((ways.pop(), self.ups[index](x)), 1)
            x = self.ups[index + 1].conv(x)  # type: ignore[operator, union-attr]
        answer: Tensor = self.final_conv(x)
        return answer


def test_a_unet_of_any_widths_without_norm_and_with_biases_is_recognised(tmp_path: Path) -> None:
    torch.manual_seed(2)
    network = Plain().eval()
    torch.save(network.state_dict(), tmp_path / "a.pt")
    answers_alike(tmp_path / "a.pt", network)
    assert load_weights(tmp_path / "a.pt").spec.output_activation == "softmax"


def test_a_unet_with_more_in_it_is_not_taken_for_one(tmp_path: Path, network: TutorialUNet) -> None:
    torch.save({**network.state_dict(), "attention.0.weight": torch.ones(4)}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=r"tensors do not fit a unet: .*attention\.0\.weight"):
        load_weights(tmp_path / "a.pt")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "options"),
    [
        ("mobilenet_v2", {}),
        ("resnet18", {"encoder_depth": 4, "decoder_channels": (64, 32, 16, 8), "classes": 2}),
        ("timm-skresnet18", {"decoder_attention_type": "scse"}),
    ],
)
def test_smp_s_unet_is_recognised_with_its_encoder(tmp_path: Path, encoder: str, options: dict[str, Any]) -> None:
    smp = import_smp()
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = used(smp.Unet(encoder, encoder_weights=None, **options))
    torch.save({"model": under("model.", network.state_dict())}, tmp_path / "a.pth")
    network.save_pretrained(tmp_path / "folder")
    for path in (tmp_path / "a.pth", tmp_path / "folder"):
        weights = load_weights(path)
        assert weights.architecture == "smp_unet"
        photo = torch.rand(1, 3, 64, 96)
        with torch.inference_mode():
            torch.testing.assert_close(weights.network(photo), network(photo))


@pytest.mark.slow
def test_smp_s_other_networks_are_refused_by_name(tmp_path: Path) -> None:
    smp = import_smp()
    smp.UnetPlusPlus("resnet18", encoder_weights=None).save_pretrained(tmp_path / "folder")
    with pytest.raises(WeightsError, match="UnetPlusPlus|neither a classic U-Net"):
        load_weights(tmp_path / "folder")
