"""Loads a weights file into a network.

`.safetensors` of `humanseg train` and `humanseg export` contain the architecture, the input size and the decision
threshold. For any other checkpoint the architecture is detected (`humanseg.segmentation.architectures`), and missing
information gets a default, unless a YAML file beside it or the caller's options provide it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from humanseg.segmentation.architectures import Recognised, recognise
from humanseg.segmentation.checkpoint import SHARD_INDEX, Checkpoint, read_checkpoint
from humanseg.segmentation.errors import WeightsError
from humanseg.segmentation.graph import TITLES, graph_kind
from humanseg.segmentation.spec import SIDES, Spec, SpecError, read_spec_file, spec_file
from humanseg.segmentation.unet import EfficientUNet, UNet

Network = UNet | EfficientUNet  # networks that can be trained further
TUTORIAL_SIZE = 240  # the long side of the tutorial's training size (240x160)
USUAL_SIZE = 256


@dataclass(frozen=True)
class Weights:
    """A network in eval mode on the CPU, with the information for serving.

    architecture: see `humanseg.segmentation.architectures`. sha256: hash of the file. notes: assumptions. whole: the
    file contains only these weights, so that no `part` is needed to read it again.
    """

    architecture: str
    network: nn.Module = field(repr=False)
    spec: Spec
    sha256: str
    notes: tuple[str, ...] = ()
    whole: bool = True


def load_weights(path: Path, options: Mapping[str, Any] | None = None, *, part: str | None = None) -> Weights:
    """Read the weights in `path`, a file or a `save_pretrained` folder.

    Args:
        path: as in `humanseg.segmentation.checkpoint.read_checkpoint`.
        options: keys of the spec that override the file and the YAML file beside it.
        part: which of several copies of the weights to use; see `architectures.recognise`.

    Raises:
        WeightsError: it can't be read, contains no supported network, or the spec is invalid.
    """
    kind = graph_kind(path)
    if kind is not None:
        raise WeightsError(f"{path}: is {TITLES[kind]}, which can be served but not trained further")
    checkpoint = read_checkpoint(path)
    recognised = recognise(path, checkpoint, part)
    inferred = _inferred(path, checkpoint, recognised)
    given = {**read_spec_file(spec_file(path)), **(options or {})}
    try:
        spec = Spec.from_mapping({**inferred, **given})
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None
    notes = _notes(checkpoint, recognised, spec, given)
    return Weights(
        recognised.architecture,
        recognised.network,
        spec,
        _sha256(path),
        notes,
        whole=part is None and not recognised.others,
    )


def network_of(path: Path, checkpoint: Checkpoint) -> Network:
    """The trainable network in a checkpoint read from `path`. Raises WeightsError for any other."""
    return trainable(path, recognise(path, checkpoint).network)


def trainable(path: Path, network: nn.Module) -> Network:
    """Return `network` if `humanseg train` can continue from it. Raises WeightsError with the reason otherwise."""
    if isinstance(network, EfficientUNet) or (isinstance(network, UNet) and network.plain):
        return network
    raise WeightsError(
        f"{path}: this network can be served, but training supports only this project's own network and a "
        "classic U-Net with batch norm and one output, because the input and output formats of others differ"
    )


def architecture_of(network: Network) -> str:
    """Its name in the metadata."""
    return "unet" if isinstance(network, UNet) else "efficient_unet"


def save_weights(
    path: Path,
    network: nn.Module,
    *,
    architecture: str | None = None,
    input_size: int,
    threshold: float,
    **notes: str,
) -> None:
    """Write a file for `load_weights`; `notes` are further metadata: origin, the spec's `peak`, `calibration`."""
    metadata = {
        "architecture": architecture or architecture_of(network),  # type: ignore[arg-type]
        "input_size": str(input_size),
        "threshold": repr(float(threshold)),
        **notes,
    }
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, str(path), metadata)


def _inferred(path: Path, checkpoint: Checkpoint, found: Recognised) -> dict[str, Any]:
    """The spec that a checkpoint contains."""
    if found.outputs > 2:
        raise WeightsError(
            f"{path}: has {found.outputs} output classes; a person mask needs 1, or 2 with the background"
        )
    usual = TUTORIAL_SIZE if found.architecture == "unet" else USUAL_SIZE
    default = max(found.multiple, round(usual / found.multiple) * found.multiple)
    inferred: dict[str, Any] = {
        "multiple": found.multiple,
        "input_size": _input_size(path, checkpoint.metadata, default, found.multiple),
        "threshold": _threshold(path, checkpoint.metadata),
        "output_activation": "sigmoid" if found.outputs == 1 else "softmax",
        "person_channel": found.outputs - 1,
    }
    inferred |= {key: checkpoint.metadata[key] for key in ("peak", "calibration") if key in checkpoint.metadata}
    if found.mean and found.std:
        inferred |= {"mean": found.mean, "std": found.std}
    return inferred


def _notes(checkpoint: Checkpoint, found: Recognised, spec: Spec, given: Mapping[str, Any]) -> tuple[str, ...]:
    """Assumptions, for information that neither the file nor the options contain."""
    notes = []
    if found.others:
        notes.append(
            f"it contains several copies of the weights: {found.part!r} is used; --checkpoint-part selects "
            + " or ".join(repr(other) for other in found.others)
        )
    if "input_size" not in checkpoint.metadata and "input_size" not in given:
        notes.append(f"its training size is unknown: {spec.long_side} is assumed (--input-size)")
    if "architecture" not in checkpoint.metadata and not {"mean", "std", "scale"} & given.keys():
        what = "ImageNet's mean and std" if found.mean else "pixels as 0..1"
        notes.append(f"its input is assumed to have {what} (--mean, --std, --scale)")
    return tuple(notes)


def _input_size(path: Path, metadata: Mapping[str, str], default: int, multiple: int) -> int:
    text = metadata.get("input_size", str(default))
    if not text.isdecimal() or int(text) not in SIDES or int(text) % multiple:
        raise WeightsError(
            f"{path}: input_size is {text!r}; it must be a multiple of {multiple} in {SIDES[0]}..{SIDES[-1]}"
        )
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


def _sha256(path: Path) -> str:
    """The hash of a file, or of all weights files of a folder or sharded file, ordered by name."""
    parts = [path]
    if path.is_dir() or path.name.endswith(SHARD_INDEX):
        folder = path if path.is_dir() else path.parent
        parts = sorted(item for item in folder.iterdir() if item.suffix in (".safetensors", ".bin", ".json"))
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.read_bytes())
    return digest.hexdigest()
