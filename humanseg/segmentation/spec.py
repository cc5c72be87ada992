"""What serving must know of a network: how a photo goes into it, and what comes out.

A `Spec` stands in the .mar's model.json, and for a network that says less than all of it in a small YAML file beside
its weights, which `build_mar.sh` writes and reads. The names are those of the field: Hugging Face's image processors,
Albumentations, OpenVINO's layouts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import yaml

from humanseg.segmentation.calibration import UNCHANGED, Calibration
from humanseg.segmentation.errors import WeightsError

Resize = Literal["fit", "stretch", "pad"]
ChannelOrder = Literal["RGB", "BGR"]
Layout = Literal["NCHW", "NHWC"]
Activation = Literal["sigmoid", "softmax", "none"]
Triple = tuple[float, float, float]

SIDES = range(16, 2049)  # an input side outside of this is a mistake
COMMENTS = {
    "input_size": "WIDTHxHEIGHT in pixels; with resize: fit the long side of a photo of any shape",
    "resize": "fit (keep the shape, nearly), stretch (to exactly that size), pad (keep the shape, black around it)",
    "multiple": "what both sides must be a multiple of, with resize: fit",
    "scale": "a pixel's 0..255 is multiplied by it, before mean and std",
    "mean": "subtracted after that, in the order of channel_order",
    "std": "divided by after that",
    "channel_order": "RGB or BGR",
    "layout": "of what goes in: NCHW or NHWC",
    "output_name": "name of the graph's output that is the mask; null for the only one",
    "output_layout": "of what comes out: NCHW or NHWC",
    "output_activation": "what makes probabilities of it: sigmoid, softmax, or none where they come out",
    "person_channel": "the output's channel that is the person",
    "background_channel": "the channel that is the background, where all others are persons; else null",
    "threshold": "the probability above which a pixel is a person",
    "calibration": "what the network's confidence means: CONFIDENCE:IOU pairs, rising; straight lines in between",
}


class SpecError(WeightsError):
    """A key of a spec that can't be: one line that names the key, what came, and what it takes."""


@dataclass(frozen=True)
class Spec:
    """How a photo goes into a network and what comes out; `COMMENTS` has a line on each.

    The network gets float32 `(pixel * scale - mean) / std`, pixel in 0..255.
    """

    input_size: tuple[int, int] = (256, 256)  # (width, height)
    resize: Resize = "fit"
    multiple: int = 32
    scale: float = 1 / 255
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)
    channel_order: ChannelOrder = "RGB"
    layout: Layout = "NCHW"
    output_name: str | None = None
    output_layout: Layout = "NCHW"
    output_activation: Activation = "sigmoid"
    person_channel: int = 0
    background_channel: int | None = None
    threshold: float = 0.5
    calibration: Calibration = UNCHANGED

    def __post_init__(self) -> None:
        width, height = self.input_size
        for side in (width, height):
            _check(
                side in SIDES, "input_size", f"{width}x{height}", f"between {SIDES[0]} and {SIDES[-1]} pixels a side"
            )
        if self.resize == "fit":
            _check(width == height, "input_size", f"{width}x{height}", "one number with resize: fit, as in 320")
            _check(self.multiple > 0, "multiple", self.multiple, "a whole number above 0")
            _check(width % self.multiple == 0, "input_size", width, f"a multiple of {self.multiple}")
        _check(self.scale > 0 and math.isfinite(self.scale), "scale", self.scale, "a number above 0, as in 1/255")
        _check(all(map(math.isfinite, self.mean)), "mean", self.mean, "three numbers")
        _check(all(each > 0 and math.isfinite(each) for each in self.std), "std", self.std, "three numbers above 0")
        _check(self.person_channel >= 0, "person_channel", self.person_channel, "0 or more")
        if self.background_channel is not None:
            _check(self.background_channel >= 0, "background_channel", self.background_channel, "0 or more")
        _check(0 < self.threshold < 1, "threshold", self.threshold, "between 0 and 1")

    @property
    def long_side(self) -> int:
        """The long side of the network's frame, pixels."""
        return max(self.input_size)

    @property
    def least_side(self) -> int:
        """The long side, in pixels, below which a photo must not be shrunk before it is brought to the frame."""
        return self.long_side if self.resize == "fit" else 2 * self.long_side

    def as_mapping(self) -> dict[str, Any]:
        """Plain values for JSON and YAML."""
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        size = f"{self.input_size[0]}x{self.input_size[1]}"
        return {**plain, "input_size": size, "calibration": self.calibration.text()}

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any]) -> Spec:
        """A spec from plain values or texts; what is not given keeps its default. Raises SpecError."""
        unknown = sorted(str(key) for key in given if key not in KEYS)
        if unknown:
            raise SpecError(f"unknown key {unknown[0]!r}; known are {', '.join(KEYS)}")
        values = {key: _read(key, value) for key, value in given.items()}
        if "resize" not in values and "x" in str(given.get("input_size", "")):
            values["resize"] = "stretch"  # who names both sides means both
        return cls(**values)


KEYS = tuple(each.name for each in fields(Spec))
_TYPES = get_type_hints(Spec)


def spec_file(weights: Path) -> Path:
    """Where the spec of the weights in `weights` is kept: beside them."""
    return weights.with_name(f"{weights.name}.yaml")


def read_spec_file(path: Path) -> dict[str, Any]:
    """What a spec file says, not yet checked as a whole; nothing where there is no file. Raises SpecError."""
    if not path.is_file():
        return {}
    try:
        found = yaml.safe_load(path.read_text()) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SpecError(f"{path}: not readable as YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(found, dict):
        raise SpecError(f"{path}: must hold keys and values, such as resize: stretch")
    try:
        Spec.from_mapping(found)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None
    return found


def write_spec_file(path: Path, spec: Spec) -> None:
    """Write `spec` with a comment on each key."""
    lines = [
        f"# How photos go into {path.stem} and what comes out; build_mar.sh reads it again. Change what is wrong."
    ]
    for key, value in spec.as_mapping().items():
        text = yaml.safe_dump(value, default_flow_style=True, width=200).strip().removesuffix("...").strip()
        lines.append(f"{key}: {text}  # {COMMENTS[key]}")
    path.write_text("\n".join(lines) + "\n")


def _read(key: str, value: Any) -> Any:
    """The value of `key` in its own type, from that, a text, or a list."""
    if key == "input_size":
        return _size(value)
    if key in ("mean", "std"):
        return _triple(key, value)
    if key == "scale":
        return _number(key, value)
    if key == "threshold":
        return _number(key, value)
    if key == "calibration":
        return _calibration(value)
    if key == "output_name":
        return None if value in (None, "") else str(value)
    if key in ("multiple", "person_channel", "background_channel"):
        if value is None and key == "background_channel":
            return None
        text = str(value)
        _check(not isinstance(value, bool) and text.isdecimal(), key, value, "a whole number")
        return int(text)
    allowed = get_args(_TYPES[key])
    match = {each.lower(): each for each in allowed}.get(str(value).lower())
    _check(match is not None, key, value, f"one of {', '.join(allowed)}")
    return match


def _size(value: Any) -> tuple[int, int]:
    parts = [str(each) for each in value] if isinstance(value, (list, tuple)) else str(value).lower().split("x")
    _check(
        len(parts) in (1, 2) and all(each.strip().isdecimal() for each in parts),
        "input_size",
        value,
        "320 or 320x240",
    )
    return int(parts[0]), int(parts[-1])


def _calibration(value: Any) -> Calibration:
    try:
        return value if isinstance(value, Calibration) else Calibration.from_text(str(value))
    except ValueError:
        raise SpecError(
            f"calibration is {str(value)[:200]!r}; it must be rising pairs, as in 0:0 0.9:0.8 1:1"
        ) from None


def _triple(key: str, value: Any) -> Triple:
    parts = value.split(",") if isinstance(value, str) else value
    parts = list(parts) if isinstance(parts, (list, tuple)) else [parts]
    _check(len(parts) in (1, 3), key, value, "one number, or three as in 0.485,0.456,0.406")
    numbers = [_number(key, each) for each in parts]
    return (numbers[0], numbers[0], numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1], numbers[2])


def _number(key: str, value: Any) -> float:
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(Fraction(value.strip())) if isinstance(value, str) else float(value)
    except (ValueError, TypeError, ZeroDivisionError, OverflowError):
        raise SpecError(f"{key} is {value!r}; it must be a number, as in 0.5 or 1/255") from None


def _check(good: bool, key: str, value: Any, wanted: str) -> None:
    if not good:
        raise SpecError(f"{key} is {value!r}; it must be {wanted}")
