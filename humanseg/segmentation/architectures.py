"""Detects the network of a set of tensors from their names and shapes, and builds it.

efficient_unet    the network that ships (`humanseg.segmentation.unet.EfficientUNet`)
unet              the classic U-Net with `downs`, `ups`, `bottleneck`, `final_conv`
inc_unet          the U-Net with `inc`, `down1`, `up1`, `outc` (milesial/Pytorch-UNet), bilinear or transposed
smp_unet          segmentation_models.pytorch's `Unet`, if that package is installed
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from humanseg.segmentation.checkpoint import Checkpoint, TensorSet
from humanseg.segmentation.errors import WeightsError
from humanseg.segmentation.inc_unet import IncUNet
from humanseg.segmentation.unet import EfficientUNet, UNet

# Averaged weights (exponential moving average, stochastic weight averaging) are the ones that people evaluate.
AVERAGED = re.compile(r"(?:^|[^a-z])(?:ema|swa|averaged?|shadow)(?:[^a-z]|$)", re.IGNORECASE)
NO_NETWORK = re.compile(r"(?:criterion|loss|metric|n_averaged|train_|val_|valid_|test_)", re.IGNORECASE)
LAYOUTS = (
    "the classic U-Net (downs, ups, bottleneck, final_conv), the one with inc, down1, up1, outc, "
    "segmentation_models.pytorch's Unet, and this project's own"
)
# Normalisation of nearly all smp encoders; the package would need network access for each.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
COMMON_ENCODERS = ("resnet34", "resnet18", "resnet50", "mobilenet_v2", "efficientnet-b0", "efficientnet-b4")


@dataclass(frozen=True)
class Recognised:
    """A network filled with its tensors, on the CPU, in eval mode.

    architecture: see this module. part: the location of the tensors in the file ("state_dict, model."). others:
    further locations with the same network's tensors. multiple: both sides of its input must be a multiple of this.
    outputs: its channels. mean, std: normalisation of its encoder, if known.
    """

    architecture: str
    network: nn.Module
    multiple: int
    outputs: int
    part: str = ""
    others: tuple[str, ...] = ()
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class _Found:
    """Tensors of one network, by the network's names for them."""

    architecture: str
    part: str
    state: dict[str, Tensor] = field(repr=False)


def recognise(path: Path, checkpoint: Checkpoint, part: str | None = None) -> Recognised:
    """Find the network in a checkpoint read from `path`.

    If a file has several copies of the weights, an averaged one is used; `part` selects another (from
    `Recognised.others`). Raises WeightsError if there is no supported network, or its tensors do not fit.
    """
    candidates = [candidate for tensor_set in checkpoint.sets for candidate in _candidates(tensor_set)]
    if not candidates:
        raise WeightsError(_unknown(path, checkpoint))
    if part is not None:
        named = [item for item in candidates if part in (item.part, *re.split(r"[/, ]+", item.part))]
        if not named:
            raise WeightsError(f"{path}: has no part {part!r}; it has {_listed(candidates)}")
        candidates = named
    best = min(candidates, key=lambda each: (not AVERAGED.search(each.part), len(each.part)))
    kind = KINDS[best.architecture]
    try:
        recognised = kind.build(path, best.state, checkpoint.config)
        _load(recognised.network, best.state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"{path}: tensors do not fit a {best.architecture}: {reason[:300]}") from None
    others = tuple(item.part for item in candidates if item is not best)
    recognised.network.eval()
    return Recognised(
        best.architecture,
        recognised.network,
        recognised.multiple,
        recognised.outputs,
        best.part,
        others,
        recognised.mean,
        recognised.std,
    )


def _listed(found: list[_Found]) -> str:
    return ", ".join(repr(item.part) if item.part else "top level" for item in found)


def _candidates(tensor_set: TensorSet) -> Iterator[_Found]:
    """Networks in a set of tensors: each is identified by one tensor's name, whose leading part is the prefix."""
    for architecture, kind in KINDS.items():
        for name in tensor_set.tensors:
            prefix = name.removesuffix(kind.telltale)
            if prefix != name and (not prefix or prefix.endswith(".")) and prefix + kind.beside in tensor_set.tensors:
                state = {
                    key.removeprefix(prefix): tensor
                    for key, tensor in tensor_set.tensors.items()
                    if key.startswith(prefix)
                }
                yield _Found(architecture, ", ".join(filter(None, (tensor_set.name, prefix.rstrip(".")))), state)


def _load(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load the tensors into `network`. Counters missing in old files stay 0; training-only tensors are ignored."""
    counters = {name: item for name, item in network.state_dict().items() if name.endswith("num_batches_tracked")}
    network.load_state_dict(
        {**counters, **{name: item for name, item in state.items() if not NO_NETWORK.match(name)}}
    )


def _unknown(path: Path, checkpoint: Checkpoint) -> str:
    largest = max(checkpoint.sets, key=lambda each: len(each.tensors))
    names = list(largest.tensors)[:3]
    if any(name.endswith("ups.0.pointwise.weight") for name in largest.tensors):
        return (
            f"{path}: finest.pointwise.weight is missing; weights of an older network can start a training, "
            "see humanseg/training/README.md"
        )
    return (
        f"{path}: neither a classic U-Net nor another supported network; its tensors begin with {', '.join(names)}. "
        f"Supported are {LAYOUTS}. Export any other network as a graph: ONNX or torch.export (.pt2)"
    )


def _efficient_unet(path: Path, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> Recognised:
    names = [*(f"ups.{index}.pointwise.weight" for index in range(4)), "finest.pointwise.weight"]
    for name in names:
        if name not in state:
            raise WeightsError(f"{path}: {name} is missing from weights of this project's network")
    network = EfficientUNet(tuple(state[name].shape[0] for name in names))
    return Recognised("efficient_unet", network, 32, 1)


def _unet(path: Path, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> Recognised:
    features: list[int] = []
    while (first := state.get(f"downs.{len(features)}.conv.0.weight")) is not None:
        features.append(first.shape[0])
    _rgb(path, state["downs.0.conv.0.weight"])
    bottleneck = state.get("bottleneck.conv.0.weight")
    outputs = state["final_conv.weight"].shape[0]
    network = UNet(
        features,
        bottleneck=None if bottleneck is None else bottleneck.shape[0],
        outputs=outputs,
        norm=_has(state, "running_mean"),
        bias="downs.0.conv.0.bias" in state,
    )
    return Recognised("unet", network, max(16, 2 ** len(features)), outputs)


def _inc_unet(path: Path, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> Recognised:
    norm = _has(state, "running_mean")
    second = 3 if norm else 2

    def widths(name: str) -> tuple[int, int]:
        first, last = (state.get(f"{name}.double_conv.{index}.weight") for index in (0, second))
        if first is None or last is None:
            raise WeightsError(f"{path}: {name}.double_conv does not have the two convolutions of a U-Net")
        return first.shape[0], last.shape[0]

    def count(pattern: str) -> int:
        found = {int(match[1]) for name in state if (match := re.match(pattern, name))}
        return max(found, default=0)

    depth = count(r"down(\d+)\.maxpool_conv\.")
    if not depth or depth != count(r"up(\d+)\.conv\."):
        raise WeightsError(
            f"{path}: has {depth} down blocks but another number of up blocks; a U-Net has equal numbers"
        )
    _rgb(path, state["inc.double_conv.0.weight"])
    transposed = None
    if "up1.up.weight" in state:
        transposed = [state[f"up{index}.up.weight"].shape[1] for index in range(1, depth + 1)]
    outputs = state["outc.conv.weight"].shape[0]
    network = IncUNet(
        [widths("inc"), *(widths(f"down{index}.maxpool_conv.1") for index in range(1, depth + 1))],
        [widths(f"up{index}.conv") for index in range(1, depth + 1)],
        transposed,
        outputs=outputs,
        norm=norm,
        bias="inc.double_conv.0.bias" in state,
    )
    return Recognised("inc_unet", network, max(16, 2**depth), outputs)


def _smp_unet(path: Path, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> Recognised:
    try:
        import segmentation_models_pytorch as smp
    except Exception as error:  # a torchvision incompatible with torch raises RuntimeError
        raise WeightsError(
            f"{path}: weights of segmentation_models.pytorch's Unet, and that package can't be imported here "
            f"({type(error).__name__}: {str(error).splitlines()[0][:120]}). Install it with: pip install "
            "segmentation-models-pytorch; or export the network as a graph, which needs no package"
        ) from None
    if config.get("_model_class", "Unet") != "Unet":
        raise WeightsError(
            f"{path}: is segmentation_models.pytorch's {config['_model_class']}; only its Unet is supported"
        )
    outputs = state["segmentation_head.0.weight"].shape[0]
    if config:
        given = {key: value for key, value in config.items() if not key.startswith("_")}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about encoders whose names will change
            network = smp.Unet(**{**given, "encoder_weights": None, "activation": None, "aux_params": None})
    else:
        network = _smp_search(path, state, outputs)
    depth = int(getattr(network.encoder, "_depth", 5))
    return Recognised("smp_unet", network, max(32, 2**depth), outputs, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def _smp_search(path: Path, state: Mapping[str, Tensor], outputs: int) -> nn.Module:
    """No tensor's name contains the encoder: build each one on the meta device until the tensors match."""
    import segmentation_models_pytorch as smp

    channels: list[int] = []
    while (last := state.get(f"decoder.blocks.{len(channels)}.conv2.0.weight")) is not None:
        channels.append(last.shape[0])
    options = {
        "encoder_weights": None,
        "encoder_depth": len(channels),
        "decoder_channels": tuple(channels),
        "decoder_use_norm": "batchnorm" if _has(state, "decoder.blocks.0.conv1.1.running_mean") else False,
        "decoder_attention_type": "scse" if _has(state, "attention1.attention.cSE") else None,
        "classes": outputs,
    }
    shapes = {name: tensor.shape for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    names = smp.encoders.get_encoder_names()
    for name in sorted(names, key=lambda each: each not in COMMON_ENCODERS):
        try:
            with torch.device("meta"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                drawn = smp.Unet(name, **options)
        except Exception:  # an encoder without this depth
            continue
        wanted = {key: tensor.shape for key, tensor in drawn.state_dict().items()}
        wanted = {key: shape for key, shape in wanted.items() if not key.endswith("num_batches_tracked")}
        if wanted.keys() <= shapes.keys() and all(shapes[key] == shape for key, shape in wanted.items()):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                network: nn.Module = smp.Unet(name, **options)
            return network
    raise WeightsError(
        f"{path}: a Unet of segmentation_models.pytorch whose encoder candidates none of its {len(names)}. "
        "Save it with save_pretrained(), whose folder names the encoder, or export it as a graph"
    )


def _has(state: Mapping[str, Tensor], part: str) -> bool:
    return any(part in name for name in state)


def _rgb(path: Path, first: Tensor) -> None:
    channels = first.shape[1] if first.ndim == 4 else 0
    if channels != 3:
        raise WeightsError(f"{path}: has {channels} input channels, expected 3: a photo is RGB")


@dataclass(frozen=True)
class _Kind:
    """telltale, beside: two tensors that together identify this architecture."""

    telltale: str
    beside: str
    build: Callable[[Path, Mapping[str, Tensor], Mapping[str, Any]], Recognised]


KINDS: dict[str, _Kind] = {
    "efficient_unet": _Kind("finest.pointwise.weight", "stem.weight", _efficient_unet),
    "unet": _Kind("final_conv.weight", "downs.0.conv.0.weight", _unet),
    "inc_unet": _Kind("outc.conv.weight", "inc.double_conv.0.weight", _inc_unet),
    "smp_unet": _Kind("segmentation_head.0.weight", "decoder.blocks.0.conv1.0.weight", _smp_unet),
}
