"""The values of `humanseg segment`'s options, as enums, so that the shell can complete them."""

from __future__ import annotations

from enum import Enum


class Output(str, Enum):
    """The kind of result."""

    mask = "mask"
    probability = "probability"
    cutout = "cutout"
    overlay = "overlay"
    composite = "composite"
    json = "json"


class Format(str, Enum):
    """The file format of the result: png, webp and jpeg for photos; webm, mp4, mov, and png in a folder for clips."""

    png = "png"
    webp = "webp"
    jpeg = "jpeg"
    webm = "webm"
    mp4 = "mp4"
    mov = "mov"


class Quality(str, Enum):
    """Speed or quality."""

    fast = "fast"
    best = "best"


class Keep(str, Enum):
    """Which person regions to keep."""

    main = "main"
    all = "all"
    largest = "largest"


class Crop(str, Enum):
    """How to crop the result."""

    none = "none"
    person = "person"


SUFFIX = {"png": ".png", "webp": ".webp", "jpeg": ".jpg"}
FORMAT = {
    ".png": Format.png,
    ".webp": Format.webp,
    ".jpg": Format.jpeg,
    ".jpeg": Format.jpeg,
    ".webm": Format.webm,
    ".mp4": Format.mp4,
    ".mov": Format.mov,
}
