"""The settings of a training run: one frozen dataclass, read from a YAML recipe or the command line."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from humanseg.common.settings import SettingsError, check, integer, number, one_of
from humanseg.training.samples import Kind, Source


@dataclass(frozen=True)
class Settings:
    """The settings of a run. Every random choice is derived from `seed`, so the same settings give the same run."""

    data: tuple[Source, ...] = ()
    size: int = integer(256, least=32, most=4096)  # long side of the input, pixels; a multiple of 32
    samples: int = integer(20_000, least=1, most=10**12)  # samples in the whole run
    stop_after: int = 0  # end the run early after this many samples; 0 turns this off
    batch_size: int = integer(16, least=1, most=65536)  # photos per step, over all devices
    # peak learning rate of the decoder (AdamW, cosine down to a hundredth)
    learning_rate: float = number(1e-3, least=1e-9, most=10)
    frozen_stages: int = 0  # number of frozen encoder stages, from the finest on; saves their backward pass
    encoder_rate: float = 0.3  # the encoder's learning rate as a share of the decoder's
    weight_decay: float = 1e-4
    warmup: float = number(0.04, least=0, most=1)  # share of the steps with a linear warm-up
    grad_clip: float = 1.0  # maximum gradient norm
    ema_decay: float = number(0.998, least=0, most=0.999999)  # of the shipped weights; 0 uses the last step's
    # share of composed scenes; 0 turns this off
    scenes: float = number(0.25, least=0, most=1)
    empty: float = number(0.12, least=0, most=1)  # share of samples without people; 0 turns this off
    # share of whole photos among the others; the rest are portraits, faces and crops
    whole: float = number(0.3, least=0, most=1)
    # share of samples in hard light: dark, coloured, flat, backlit; 0 turns this off
    relight: float = number(0.12, least=0, most=1)
    distil: str = ""  # weights file of a frozen teacher, which gets the unaugmented colours, and the mirror image
    # the teacher's share of the target for ground-truth or composed masks, and for masks of another teacher
    distil_drawn: float = number(0.25, least=0, most=1)
    distil_soft: float = number(0.5, least=0, most=1)
    augment: Literal["phone", "none"] = one_of("phone", "none")  # none: whole, unchanged photos
    hold_out: float = number(0.05, least=0, most=0.999)  # share of photos held out for validation, by content hash
    hold_out_empty: float = number(0.33, least=0, most=0.999)  # the same for photos without people
    edge_weight: float = 4.0  # additional weight of pixels at the mask's edge; 0 turns this off
    precision: Literal["32-true", "bf16-mixed"] = one_of("bf16-mixed", "32-true")
    init: str = "imagenet"  # imagenet, random, or a weights file
    reinit: tuple[str, ...] = ()  # prefixes of tensor names to initialise anew, e.g. finest
    workers: int = 1  # processes of the data loader
    threads: int = 2  # CPU threads of the network; 0 uses torch's default
    save_every: float = 120.0  # seconds between checkpoints
    eval_interval: int = integer(4_000, least=1, most=10**12)  # samples between evaluations
    seed: int = 0
    notes: dict[str, str] = field(default_factory=dict)  # stored in the weights' metadata

    def __post_init__(self) -> None:
        check(self)
        if self.size % 32:
            raise SettingsError(f"size is {self.size!r}, but must be a multiple of 32, for example 256.")
        if self.scenes + self.empty > 1:
            raise SettingsError(f"scenes is {self.scenes!r}, but scenes + empty must be at most 1.")

    @property
    def steps(self) -> int:
        """Steps of the whole schedule."""
        return max(1, self.samples // self.batch_size)

    @property
    def last_step(self) -> int:
        """Step at which the run ends."""
        return min(self.steps, self.stop_after // self.batch_size) if self.stop_after else self.steps


def read_recipe(path: Path, **changes: Any) -> Settings:
    """Read settings from a YAML file; `changes` override it. Raises SettingsError with the invalid key."""
    content = yaml.safe_load(path.read_text())
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: not a recipe; expected `key: value` lines")
    known = {item.name for item in fields(Settings)}
    unknown = sorted(set(content) - known)
    if unknown:
        raise SettingsError(f"{path}: unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
    try:
        content["data"] = tuple(_source(item) for item in content.get("data", ()))
        reinit = content.get("reinit", ())
        content["reinit"] = (reinit,) if isinstance(reinit, str) else tuple(reinit)
        return replace(Settings(**content), **changes)
    except TypeError as error:
        raise SettingsError(f"{path}: {error}") from None


def _source(item: Any) -> Source:
    if not isinstance(item, dict) or "path" not in item:
        raise SettingsError(
            f"data: {item!r} is not a source; expected path, and optionally weight, kind, leave_out, hold_out"
        )
    kind = item.get("kind", "masks")
    if kind not in get_args(Kind):
        raise SettingsError(f"data: kind is {kind!r}; it must be one of {', '.join(get_args(Kind))}")
    names = tuple(str(name) for name in item.get("leave_out", ()))
    return Source(Path(item["path"]), float(item.get("weight", 1.0)), kind, names, item.get("hold_out"))


def as_plain(settings: Settings) -> dict[str, Any]:
    """The settings as plain values for JSON."""
    plain = asdict(settings)
    plain["data"] = [{**item, "path": str(item["path"])} for item in plain["data"]]
    return plain
