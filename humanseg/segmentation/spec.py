"""A network's specification: the format of its input and output.

A `Spec` is stored in the .mar's model.json. For a network whose file does not contain all of it, it is also stored in
a small YAML file beside the weights, which `build_mar.sh` writes and reads. The names follow Hugging Face's image
processors, Albumentations, OpenVINO's layouts.
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

SIDES = range(16, 2049)  # an input side outside this range is a mistake
COMMENTS = {
    "input_size": "WIDTHxHEIGHT in pixels; with resize: fit, the long side",
    "resize": "fit (keep the aspect ratio, nearly), stretch (to exactly that size), pad (letterbox in black)",
    "multiple": "with resize: fit, both sides are multiples of this",
    "scale": "factor of a pixel's 0..255, applied before mean and std",
    "mean": "subtracted after that, in the order of channel_order",
    "std": "divided by after that",
    "channel_order": "RGB or BGR",
    "layout": "of the input: NCHW or NHWC",
    "output_name": "the graph's output that is the mask; null if there is only one",
    "output_layout": "of the output: NCHW or NHWC",
    "output_activation": "converts the output to probabilities: sigmoid, softmax, or none if it is one",
    "person_channel": "the person's channel of the output",
    "background_channel": "the background's channel if all others are people; else null",
    "threshold": "the probability above which a pixel is a person",
    "peak": "a connected region without a pixel of at least this probability is no person; 0 keeps all regions",
    "calibration": "of the confidence: increasing CONFIDENCE:IOU pairs, linear in between",
}


class SpecError(WeightsError):
    """An invalid key of a spec: one line with the key, the value, and the valid values."""


@dataclass(frozen=True)
class Spec:
    """The format of a network's input and output; `COMMENTS` describes each key.

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
    peak: float = 0.0
    calibration: Calibration = UNCHANGED

    def __post_init__(self) -> None:
        width, height = self.input_size
        for side in (width, height):
            _check(
                side in SIDES,
                "input_size",
                f"{width}x{height}",
                f"between {SIDES[0]} and {SIDES[-1]} pixels per side",
            )
        if self.resize == "fit":
            _check(width == height, "input_size", f"{width}x{height}", "one number with resize: fit, e.g. 320")
            _check(self.multiple > 0, "multiple", self.multiple, "a whole number above 0")
            _check(width % self.multiple == 0, "input_size", width, f"a multiple of {self.multiple}")
        _check(self.scale > 0 and math.isfinite(self.scale), "scale", self.scale, "a number above 0, e.g. 1/255")
        _check(all(map(math.isfinite, self.mean)), "mean", self.mean, "three numbers")
        _check(all(item > 0 and math.isfinite(item) for item in self.std), "std", self.std, "three numbers above 0")
        _check(self.person_channel >= 0, "person_channel", self.person_channel, "0 or more")
        if self.background_channel is not None:
            _check(self.background_channel >= 0, "background_channel", self.background_channel, "0 or more")
        _check(0 < self.threshold < 1, "threshold", self.threshold, "between 0 and 1")
        _check(0 <= self.peak < 1, "peak", self.peak, "0, or between the threshold and 1")

    @property
    def long_side(self) -> int:
        """The long side of the network's frame, pixels."""
        return max(self.input_size)

    @property
    def least_side(self) -> int:
        """The minimum long side, in pixels, of a photo before it is resized to the frame."""
        return self.long_side if self.resize == "fit" else 2 * self.long_side

    def as_mapping(self) -> dict[str, Any]:
        """Plain values for JSON and YAML."""
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        size = f"{self.input_size[0]}x{self.input_size[1]}"
        return {**plain, "input_size": size, "calibration": self.calibration.text()}

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any]) -> Spec:
        """A spec from plain values or texts; missing keys keep their default. Raises SpecError."""
        unknown = sorted(str(key) for key in given if key not in KEYS)
        if unknown:
            raise SpecError(f"unknown key {unknown[0]!r}; known are {', '.join(KEYS)}")
        values = {key: _read(key, value) for key, value in given.items()}
        if "resize" not in values and "x" in str(given.get("input_size", "")):
            values["resize"] = "stretch"  # two sides imply an exact size
        return cls(**values)


KEYS = tuple(field.name for field in fields(Spec))
_TYPES = get_type_hints(Spec)


def spec_file(weights: Path) -> Path:
    """The path of the spec file, beside `weights`."""
    return weights.with_name(f"{weights.name}.yaml")


def read_spec_file(path: Path) -> dict[str, Any]:
    """Read a spec file without validating it as a whole; empty if there is no file. Raises SpecError."""
    if not path.is_file():
        return {}
    try:
        found = yaml.safe_load(path.read_text()) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SpecError(f"{path}: not readable as YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(found, dict):
        raise SpecError(f"{path}: must contain keys and values, e.g. resize: stretch")
    try:
        Spec.from_mapping(found)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None
    return found


def write_spec_file(path: Path, spec: Spec) -> None:
    """Write `spec` with a comment on each key."""
    lines = [f"# Input and output format of {path.stem}, read by build_mar.sh. Correct it if it is wrong."]
    for key, value in spec.as_mapping().items():
        text = yaml.safe_dump(value, default_flow_style=True, width=200).strip().removesuffix("...").strip()
        lines.append(f"{key}: {text}  # {COMMENTS[key]}")
    path.write_text("\n".join(lines) + "\n")


def _read(key: str, value: Any) -> Any:
    """Convert the value of `key`, a text, or a list to the key's type."""
    if key == "input_size":
        return _size(value)
    if key in ("mean", "std"):
        return _triple(key, value)
    if key == "scale":
        return _number(key, value)
    if key in ("threshold", "peak"):
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
    match = {item.lower(): item for item in allowed}.get(str(value).lower())
    _check(match is not None, key, value, f"one of {', '.join(allowed)}")
    return match


def _size(value: Any) -> tuple[int, int]:
    parts = [str(item) for item in value] if isinstance(value, (list, tuple)) else str(value).lower().split("x")
    _check(
        len(parts) in (1, 2) and all(part.strip().isdecimal() for part in parts),
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
            f"calibration is {str(value)[:200]!r}; it must be increasing pairs, e.g. 0:0 0.9:0.8 1:1"
        ) from None


def _triple(key: str, value: Any) -> Triple:
    parts = value.split(",") if isinstance(value, str) else value
    parts = list(parts) if isinstance(parts, (list, tuple)) else [parts]
    _check(len(parts) in (1, 3), key, value, "one number, or three, e.g. 0.485,0.456,0.406")
    numbers = [_number(key, part) for part in parts]
    return (numbers[0], numbers[0], numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1], numbers[2])


def _number(key: str, value: Any) -> float:
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(Fraction(value.strip())) if isinstance(value, str) else float(value)
    except (ValueError, TypeError, ZeroDivisionError, OverflowError):
        raise SpecError(f"{key} is {value!r}; it must be a number, e.g. 0.5 or 1/255") from None


def _check(good: bool, key: str, value: Any, wanted: str) -> None:
    if not good:
        raise SpecError(f"{key} is {value!r}; it must be {wanted}")
