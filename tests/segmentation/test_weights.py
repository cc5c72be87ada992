"""Files of weights: every kind that people have is recognised, and every wrong one is named in one line."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from humanseg.segmentation.errors import WeightsError
from humanseg.segmentation.unet import EfficientUNet, UNet
from humanseg.segmentation.weights import load_weights, save_weights
from tests.segmentation.networks import trained

FORMS = [(name, wrapped) for name in ("checkpoint.pth.tar", "unet.pth", "unet.pt") for wrapped in (True, False)]
CHECKPOINTS = [(features, *form) for features in ([8, 16, 32, 64], [12, 24, 48]) for form in FORMS]
CHECKPOINTS.append(([64, 128, 256, 512], "checkpoint.pth.tar", True))  # the full width once is enough


@pytest.mark.parametrize(("features", "name", "wrapped"), CHECKPOINTS)
def test_a_tutorial_checkpoint_of_any_width_and_depth_answers_as_it_did(
    tmp_path: Path, features: list[int], name: str, wrapped: bool
) -> None:
    network = trained(features)
    state = network.state_dict()
    optimizer = torch.optim.Adam(network.parameters()).state_dict()
    torch.save({"state_dict": state, "optimizer": optimizer} if wrapped else state, tmp_path / name)
    weights = load_weights(tmp_path / name)
    assert weights.architecture == "unet"
    assert weights.spec.long_side == 240
    assert weights.spec.threshold == 0.5
    assert not weights.network.training
    photo = torch.rand(1, 3, 48, 64)
    with torch.inference_mode():
        torch.testing.assert_close(weights.network(photo), network(photo))


def test_a_checkpoint_saved_from_several_gpus_is_recognised(tmp_path: Path) -> None:
    state = {f"module.{name}": tensor for name, tensor in trained([8, 16]).state_dict().items()}
    torch.save(state, tmp_path / "a.pth")
    assert load_weights(tmp_path / "a.pth").architecture == "unet"


def test_the_input_size_of_a_deep_unet_can_be_halved_at_every_level(tmp_path: Path) -> None:
    torch.save(UNet((2, 4, 8, 16, 32)).state_dict(), tmp_path / "a.pth")
    assert load_weights(tmp_path / "a.pth").spec.long_side % 32 == 0


@pytest.mark.parametrize("network", [UNet((4, 8)), EfficientUNet(), EfficientUNet((32, 24, 16, 12, 8))])
def test_what_is_saved_is_what_is_loaded(tmp_path: Path, network: UNet | EfficientUNet) -> None:
    path = tmp_path / "a.safetensors"
    save_weights(path, network.eval(), input_size=96, threshold=0.42, source="a test")
    weights = load_weights(path)
    assert (weights.spec.long_side, weights.spec.threshold) == (96, 0.42)
    assert weights.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    photo = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        torch.testing.assert_close(weights.network(photo), network(photo), rtol=0, atol=0)


def test_the_efficient_unet_says_how_to_pad_an_odd_size() -> None:
    with pytest.raises(ValueError, match="input is 100x64; .* pad it to 128x64"):
        EfficientUNet()(torch.zeros(1, 3, 100, 64))


def saved(path: Path, state: object) -> Path:
    torch.save(state, path)
    return path


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    flag = tmp_path / "was-run"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (str(flag),))

    with pytest.raises(WeightsError, match="runs code from the file"):
        load_weights(saved(tmp_path / "a.pth", {"state_dict": Trap()}))
    assert not flag.exists()


def test_every_wrong_file_is_one_line_that_names_it(tmp_path: Path) -> None:
    classic = UNet((4, 8)).state_dict()
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "empty.pth").write_bytes(b"")
    torch.save(classic, tmp_path / "cut.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "cut.pth").read_bytes()[:2000])
    three = {**classic, "final_conv.weight": torch.zeros(3, 4, 1, 1), "final_conv.bias": torch.zeros(3)}
    grey = {**classic, "downs.0.conv.0.weight": torch.zeros(4, 1, 3, 3)}
    partial = {name: tensor for name, tensor in classic.items() if not name.startswith("bottleneck")}
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    older = {name: tensor for name, tensor in EfficientUNet().state_dict().items() if "finest" not in name}
    save_file(classic, tmp_path / "size.safetensors", {"architecture": "unet", "input_size": "97"})
    save_file(classic, tmp_path / "threshold.safetensors", {"architecture": "unet", "threshold": "1.5"})
    save_file(classic, tmp_path / "peak.safetensors", {"architecture": "unet", "peak": "1.0"})
    expected = {
        tmp_path / "gone.pth": "no such file",
        tmp_path / "text.pth": "not a readable PyTorch checkpoint",
        tmp_path / "text.safetensors": "not a readable safetensors file",
        tmp_path / "empty.pth": "not a readable PyTorch checkpoint",
        tmp_path / "cut.pth": "not a readable PyTorch checkpoint",
        saved(tmp_path / "list.pth", [torch.zeros(1)]): "contains no named tensors",
        saved(tmp_path / "none.pth", {}): "contains no named tensors",
        saved(tmp_path / "numbers.pth", {"epoch": 3}): "contains no named tensors",
        saved(tmp_path / "resnet.pth", {"conv1.weight": torch.zeros(1)}): "neither a classic U-Net",
        saved(tmp_path / "three.pth", three): "has 3 output classes",
        saved(tmp_path / "grey.pth", grey): "has 1 input channels, expected 3",
        saved(tmp_path / "partial.pth", partial): "do not fit a unet",
        saved(tmp_path / "grown.pth", {**classic, "downs.2.conv.0.weight": torch.zeros(1)}): "do not fit a unet",
        saved(tmp_path / "graph.onnx", {}): "an ONNX graph, which can be served but not trained",
        saved(tmp_path / "older.pth", older): "finest.pointwise.weight is missing; weights of an older network",
        tmp_path / "other.safetensors": "neither a classic U-Net",
        tmp_path / "size.safetensors": "input_size is '97'",
        tmp_path / "threshold.safetensors": "threshold is '1.5'",
        tmp_path / "peak.safetensors": "peak is 1.0; it must be 0, or between the threshold and 1",
    }
    for path, message in expected.items():
        with pytest.raises(WeightsError) as error:
            load_weights(path)
        assert message in str(error.value), path
        assert str(error.value).startswith(str(path))
        assert "\n" not in str(error.value)
