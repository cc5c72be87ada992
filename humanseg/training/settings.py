"""The settings of a training run: one frozen dataclass, read from a YAML recipe or the command line."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from humanseg.training.samples import Kind, Source


class SettingsError(ValueError):
    """A setting is wrong; the message names the key, the value and what is allowed."""


@dataclass(frozen=True)
class Settings:
    """What a run does. Every random choice follows from `seed`, so the same settings give the same run."""

    data: tuple[Source, ...] = ()
    size: int = 256  # side of the network's square, pixels; a multiple of 32
    samples: int = 20_000  # photos shown in the whole run
    stop_after: int = 0  # samples after which the run ends although its schedule is longer; 0 turns it off
    batch: int = 16  # photos in a step, over all devices
    learning_rate: float = 1e-3  # highest, of the decoder (AdamW, cosine down to a hundredth)
    frozen_stages: int = 0  # of the encoder that keep their weights, from the finest on; saves their backward pass
    encoder_rate: float = 0.3  # the encoder's learning rate as a share of the decoder's
    weight_decay: float = 1e-4
    warmup: float = 0.04  # share of the steps in which the rate rises from 0
    clip: float = 1.0  # highest norm of the gradient
    ema_decay: float = 0.998  # of the weights that ship; 0 keeps the last step's
    scenes: float = 0.25  # share of samples composed of cut-outs and backgrounds; 0 turns it off
    empty: float = 0.12  # share of samples with nobody in them; 0 turns it off
    whole: float = 0.3  # share of whole photos among the others; the rest are portraits, faces and parts
    relight: float = 0.12  # share of samples in hard light: dark, coloured, flat, against the light; 0 turns it off
    distil: str = ""  # weights file of a frozen teacher, which sees the sample undisturbed, and its mirror image
    distil_drawn: float = 0.25  # the teacher's share of the target where the mask was drawn or composed
    distil_soft: float = 0.5  # the same where the mask is soft, a teacher's already
    augment: Literal["phone", "none"] = "phone"  # none: whole photos as they are
    hold_out: float = 0.05  # share of photos kept for validation, chosen by content hash
    hold_out_empty: float = 0.33  # the same for photos with nobody in them
    edge_weight: float = 4.0  # extra weight of pixels at the mask's edge; 0 turns it off
    precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed"
    init: str = "imagenet"  # imagenet, random, or a weights file to go on from
    renew: tuple[str, ...] = ()  # what of the file is left out and starts anew, by how names start: finest
    workers: int = 1  # processes that prepare samples
    threads: int = 2  # of the CPU, for the network; 0 leaves the choice to torch
    save_every: float = 120.0  # seconds between checkpoints
    report_every: int = 4_000  # samples between validations and sheets of masks
    seed: int = 0
    notes: dict[str, str] = field(default_factory=dict)  # goes into the weights' metadata

    def __post_init__(self) -> None:
        def need(ok: bool, key: str, allowed: str) -> None:
            if not ok:
                raise SettingsError(f"{key} is {getattr(self, key)!r}; it must be {allowed}")

        need(self.size > 0 and self.size % 32 == 0, "size", "a multiple of 32, such as 256")
        for key in ("samples", "batch", "report_every"):
            need(getattr(self, key) >= 1, key, "at least 1")
        for key in ("scenes", "empty", "warmup", "whole", "relight", "distil_drawn", "distil_soft"):
            need(0 <= getattr(self, key) <= 1, key, "a share in 0..1")
        for key in ("hold_out", "hold_out_empty", "ema_decay"):
            need(0 <= getattr(self, key) < 1, key, "in 0..1, below 1")
        need(self.learning_rate > 0, "learning_rate", "above 0, such as 0.001")
        need(self.scenes + self.empty <= 1, "scenes", "so small that scenes + empty is at most 1")
        need(self.augment in ("phone", "none"), "augment", "phone or none")
        need(self.precision in ("32-true", "bf16-mixed"), "precision", "32-true or bf16-mixed")

    @property
    def steps(self) -> int:
        """Of the whole schedule."""
        return max(1, self.samples // self.batch)

    @property
    def last_step(self) -> int:
        """At which the run ends."""
        return min(self.steps, self.stop_after // self.batch) if self.stop_after else self.steps


def read_recipe(path: Path, **changes: Any) -> Settings:
    """Settings from a YAML file; `changes` win over it. Raises SettingsError naming a wrong key."""
    content = yaml.safe_load(path.read_text())
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: not a recipe; expected `key: value` lines")
    known = {item.name for item in fields(Settings)}
    unknown = sorted(set(content) - known)
    if unknown:
        raise SettingsError(f"{path}: unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
    try:
        content["data"] = tuple(_source(item) for item in content.get("data", ()))
        renew = content.get("renew", ())
        content["renew"] = (renew,) if isinstance(renew, str) else tuple(renew)
        return replace(Settings(**content), **changes)
    except TypeError as error:
        raise SettingsError(f"{path}: {error}") from None


def _source(item: Any) -> Source:
    if not isinstance(item, dict) or "path" not in item:
        raise SettingsError(f"data: {item!r} is no source; expected path, and weight, kind, leave_out if need be")
    kind = item.get("kind", "masks")
    if kind not in get_args(Kind):
        raise SettingsError(f"data: kind is {kind!r}; it must be one of {', '.join(get_args(Kind))}")
    names = tuple(str(name) for name in item.get("leave_out", ()))
    return Source(Path(item["path"]), float(item.get("weight", 1.0)), kind, names, item.get("hold_out"))


def as_plain(settings: Settings) -> dict[str, Any]:
    """The settings as JSON can hold them."""
    plain = asdict(settings)
    plain["data"] = [{**item, "path": str(item["path"])} for item in plain["data"]]
    return plain
