"""The validated options of a request, independent of how they were sent."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields

from handler.errors import BadOption, UnknownOption
from humanseg.common.effects import OUTPUTS, without_effect
from humanseg.segmentation.regions import KEEP, MAIN
from humanseg.video.kinds import CONTAINERS

FORMATS = ("png", "webp", "jpeg", *CONTAINERS)
QUALITY = ("fast", "best")
CROP = ("none", "person")


@dataclass(frozen=True)
class Options:
    """The requested result. `None` means the server's setting (threshold) or not given.

    format: None means png for a photo, and for a clip webm (cutout) or mp4.
    progress: an id chosen by the client for polling the progress of a clip.
    """

    output: str = "mask"
    format: str | None = None
    threshold: float | None = None
    background: str = "#ffffff"
    quality: str = "fast"
    keep: str = MAIN
    crop: str = "none"
    archive: str | None = None
    label: str | None = None
    progress: str | None = None

    @property
    def picture_format(self) -> str:
        """In what a photo is answered."""
        return self.format or "png"

    @property
    def consent(self) -> bool | None:
        """Whether the sender agrees to be archived; None: nothing was said."""
        return None if self.archive is None else self.archive == "yes"

    def given(self) -> dict[str, str]:
        """The options that differ from their defaults, as strings, without consent and label."""
        default = Options()
        return {
            field.name: str(getattr(self, field.name))
            for field in fields(self)
            if field.name not in ("archive", "label", "progress")
            and getattr(self, field.name) != getattr(default, field.name)
        }


OPTION_NAMES = tuple(field.name for field in fields(Options))


def parse_options(given: Mapping[str, str], *, max_label: int = 200) -> Options:
    """Validate option strings. Raises UnknownOption or BadOption with the option's name and its valid values."""
    unknown = [name for name in given if name not in OPTION_NAMES]
    if unknown:
        raise UnknownOption(
            f"Unknown option {some(unknown)}. "
            f"The photo goes in 'image', 'data' or 'file'; options are {', '.join(OPTION_NAMES)}."
        )
    output = _choice(given, "output", OUTPUTS)
    wanted = _choice(given, "format", FORMATS) if "format" in given else None
    if output == "cutout" and wanted == "jpeg":
        raise BadOption("format=jpeg has no transparency, which output=cutout needs. Use format=png or format=webp.")
    return Options(
        output=output,
        format=wanted,
        threshold=_threshold(given["threshold"]) if "threshold" in given else None,
        background=_background(given.get("background", "#ffffff")),
        quality=_choice(given, "quality", QUALITY),
        keep=_choice(given, "keep", KEEP),
        crop=_choice(given, "crop", CROP),
        archive=_choice(given, "archive", ("yes", "no")) if "archive" in given else None,
        label=_label(given["label"], max_label) if "label" in given else None,
        progress=_progress(given["progress"]) if "progress" in given else None,
    )


def refuse_without_effect(options: Options, *, clip: bool) -> None:
    """Raise BadOption for an option that would change nothing in the answer to this photo or clip."""
    given = {name: None if value is None else str(value) for name, value in vars(options).items()}
    if reason := without_effect(given, clip=clip):
        raise BadOption(reason)


def some(names: Collection[str]) -> str:
    """Format at most three of the client's names, each truncated to 40 characters, and the number of the others.

    >>> some(["b", "a" * 50, "c", "d", "e"])
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'b', 'c' and 2 more"
    """
    shown = ", ".join(repr(name[:40]) for name in sorted(names)[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3:,} more"


def _choice(given: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    value = given.get(name, allowed[0]).strip().lower()
    if value not in allowed:
        raise BadOption(f"{name}={given[name][:40]!r} is not one of {', '.join(allowed)}.")
    return value


def _threshold(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < 1:
        raise BadOption(f"threshold={text[:40]!r} is not a number between 0 and 1, such as 0.5.")
    return value


def _background(text: str) -> str:
    value = text.strip().lower()
    if value != "blur" and not re.fullmatch(r"#[0-9a-f]{6}", value):
        raise BadOption(f"background={text[:40]!r} is neither a colour such as #00ff88 nor blur.")
    return value


def _progress(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{16,64}", text):
        raise BadOption("progress must be 16 to 64 hexadecimal digits, chosen at random.")
    return text


def _label(text: str, longest: int) -> str:
    if len(text) > longest or not text.isprintable():
        raise BadOption(f"label must be at most {longest} printable characters.")
    return text
