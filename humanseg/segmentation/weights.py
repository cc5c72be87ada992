"""A file of weights to a network that is ready to answer.

Two kinds of files are read:
- `.safetensors`, as `humanseg train` and `humanseg export` write them. The metadata says the
  architecture, the input size and the decision threshold.
- `.pth`, `.pth.tar`, `.pt` of the classic tutorial U-Net: the state dict itself, or a dict that holds it
  under `state_dict`. Width and depth are recognised from the tensors. Read with `weights_only=True`, so
  a file can't run code.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from humanseg.segmentation.calibration import UNCHANGED, Calibration
from humanseg.segmentation.photo import FRAME_STEP
from humanseg.segmentation.unet import EfficientUNet, UNet

Architecture = Literal["unet", "efficient_unet"]
Network = UNet | EfficientUNet
TELLTALES: dict[str, Architecture] = {
    "final_conv.weight": "unet",
    "stem.weight": "efficient_unet",
}

TUTORIAL_SIZE = 240  # the long side the tutorial's checkpoints were trained at (240x160)
SIZES = range(32, 2049)  # an input side outside of this is a damaged file


class WeightsError(ValueError):
    """The file holds no weights that can be served; the message is one line and names the file."""


@dataclass(frozen=True)
class Weights:
    """A network in eval mode on the CPU, and what serving must know of it.

    `input_size` is the long side of its input in pixels, `threshold` the probability above which a
    pixel is a person, `sha256` the hash of the file, `calibration` what its confidence means.
    """

    network: Network
    input_size: int
    threshold: float
    sha256: str
    calibration: Calibration = UNCHANGED

    @property
    def architecture(self) -> Architecture:
        """Its name in the metadata."""
        return architecture_of(self.network)


def load_weights(path: Path) -> Weights:
    """Read the weights in `path`. Raises WeightsError when it can't be read as one of the two networks."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        metadata, state = read_safetensors(path)
    else:
        metadata, state = {}, _read_checkpoint(path)
    network = network_of(path, state, metadata.get("architecture"))
    if isinstance(network, UNet):
        multiple = 2 ** len(network.features)
        default_size = max(multiple, round(TUTORIAL_SIZE / multiple) * multiple)
    else:
        multiple, default_size = 32, 256
    return Weights(
        network=network.eval(),
        input_size=_input_size(path, metadata, default_size, multiple),
        threshold=_threshold(path, metadata),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        calibration=_calibration(path, metadata),
    )


def network_of(path: Path, state: Mapping[str, Tensor], architecture: str | None = None) -> Network:
    """The network that the tensors of `path` fill; without `architecture` it is recognised from them.

    Raises WeightsError when they are not those of one of the two networks.
    """
    architecture = architecture or next((kind for name, kind in TELLTALES.items() if name in state), None)
    network: Network
    try:
        if architecture == "unet":
            network = UNet(_unet_features(path, state))
        elif architecture == "efficient_unet":
            network = EfficientUNet(_decoder_widths(path, state))
        else:
            raise WeightsError(f"{path}: neither a classic U-Net (no final_conv.weight) nor weights of this project")
        network.load_state_dict(dict(state))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"{path}: tensors do not fit a {architecture}: {reason[:300]}") from None
    return network


def architecture_of(network: Network) -> Architecture:
    """Its name in the metadata."""
    return "unet" if isinstance(network, UNet) else "efficient_unet"


def save_weights(
    path: Path,
    network: Network,
    *,
    input_size: int,
    threshold: float,
    calibration: Calibration = UNCHANGED,
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write what `load_weights` reads; `notes` are further metadata (where the weights come from)."""
    metadata = {
        "architecture": architecture_of(network),
        "input_size": str(input_size),
        "threshold": repr(float(threshold)),
        "calibration": calibration.text(),
        **(notes or {}),
    }
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, str(path), metadata)


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a file. Raises WeightsError when it is damaged."""
    try:
        with safe_open(str(path), framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator)
            return file.metadata() or {}, state
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({error})") from None


def _read_checkpoint(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler meets noise with every kind of exception
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(f"{path}: not a readable PyTorch checkpoint ({first[:200]})") from None
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{path}: holds no state dict, neither by itself nor under the key state_dict")
    if not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"{path}: the state dict holds something that is no tensor")
    # A network wrapped for several GPUs saves its names behind "module."
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def _unet_features(path: Path, state: Mapping[str, Tensor]) -> tuple[int, ...]:
    features: list[int] = []
    while (first := state.get(f"downs.{len(features)}.conv.0.weight")) is not None:
        channels = 3 if not features else features[-1]
        if first.ndim != 4 or first.shape[1] != channels:
            raise WeightsError(
                f"{path}: downs.{len(features)} takes {first.shape[1] if first.ndim > 1 else 0} channels, "
                f"expected {channels}"
            )
        features.append(first.shape[0])
    if not features:
        raise WeightsError(f"{path}: no downs.0.conv.0.weight; this is no classic U-Net")
    if 2 ** len(features) > FRAME_STEP:
        raise WeightsError(f"{path}: halves the photo {len(features)} times; 5 times is the most that is served")
    if any(deeper != 2 * width for width, deeper in itertools.pairwise(features)):
        raise WeightsError(f"{path}: channels are {features}; each must be twice the one before")
    out = state.get("final_conv.weight")
    if out is not None and out.shape[0] != 1:
        raise WeightsError(f"{path}: answers {out.shape[0]} classes; a person mask needs exactly 1")
    return tuple(features)


def _decoder_widths(path: Path, state: Mapping[str, Tensor]) -> tuple[int, ...]:
    names = [*(f"ups.{index}.pointwise.weight" for index in range(4)), "finest.pointwise.weight"]
    for name in names:
        if name not in state:
            raise WeightsError(
                f"{path}: {name} is missing; weights of an older network can only start a training run, "
                "see humanseg/training/README.md"
            )
    return tuple(state[name].shape[0] for name in names)


def _input_size(path: Path, metadata: Mapping[str, str], default: int, multiple: int) -> int:
    text = metadata.get("input_size", str(default))
    if not text.isdecimal() or int(text) not in SIZES or int(text) % multiple:
        raise WeightsError(f"{path}: input_size is {text!r}; it must be a multiple of {multiple} in 32..2048")
    return int(text)


def _threshold(path: Path, metadata: Mapping[str, str]) -> float:
    text = metadata.get("threshold", "0.5")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value < 1.0:
        raise WeightsError(f"{path}: threshold is {text!r}; it must be between 0 and 1")
    return value


def _calibration(path: Path, metadata: Mapping[str, str]) -> Calibration:
    text = metadata.get("calibration")
    if text is None:
        return UNCHANGED
    try:
        return Calibration.from_text(text)
    except ValueError as error:
        raise WeightsError(f"{path}: calibration can't be read: {error}") from None
