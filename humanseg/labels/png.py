"""Masks as PNG files, in all common forms.

0/255, 0/1, 1 bit, 16 bits; a palette (CVAT's, where black is the background); RGB with one colour on black; RGBA,
where a varying alpha decides. A picture with more than two values is rejected, except Label Studio's exports
(`task-N-annotation-M-by-WHO-LABEL-K.png`): these are the alpha of a brush with a soft edge and are thresholded at one
half.
"""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from humanseg.labels.drawn import DrawnMask, LabelError, Mask, Options, PhotoRef, Reading, Refusal

# task-57-annotation-12-by-ada@example.org-mask-person-0.png
TASK_FILE = re.compile(r"task-(?P<task>\d+)-annotation-(?P<annotation>\d+)-by-(?P<who>[\w@.]*)-(?P<rest>.+)-\d+")
LARGEST = 100_000_000  # pixels


def read_pngs(paths: Iterable[Path], tasks: Mapping[str, PhotoRef], options: Options) -> Reading:
    """The masks of PNG files. `tasks`: the photo of each of Label Studio's task numbers."""
    reading = Reading()
    of_task: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in paths:
        if match := TASK_FILE.fullmatch(path.stem):
            of_task[match["task"], match["annotation"]].append(path)
            continue
        try:
            mask = decode_png(path.read_bytes())
            reading.masks.append(DrawnMask(PhotoRef(path.name), mask, None, str(path)))
        except (LabelError, OSError) as error:
            reading.refused.append(Refusal(str(path), str(error)))
    for (task, _), layers in of_task.items():
        try:
            if task not in tasks:
                raise LabelError(f"the photo of task {task} is unknown; put the project's JSON export beside it")
            if joined := _layers(layers, options):
                reading.masks.append(DrawnMask(tasks[task], *joined, str(layers[0])))
        except (LabelError, OSError) as error:
            reading.refused.append(Refusal(str(layers[0]), str(error)))
    return reading


def _layers(paths: list[Path], options: Options) -> tuple[Mask, str | None] | None:
    """The merged person layers of one annotation, and the annotator."""
    whole: Mask | None = None
    who = None
    for path in paths:
        match = TASK_FILE.fullmatch(path.stem)
        assert match
        # FROM_NAME-LABEL[-LABEL...]; "no_label" for an unlabelled region
        names = match["rest"].split("-")[1:]
        if not options.is_person([name for name in names if name != "no_label"]):
            continue
        mask = decode_png(path.read_bytes(), soft=True)
        if whole is not None and whole.shape != mask.shape:
            raise LabelError("its layers are of different sizes")
        whole, who = mask if whole is None else np.maximum(whole, mask), match["who"] or None
    return None if whole is None else (whole, who)


def decode_png(data: bytes, *, soft: bool = False) -> Mask:
    """The mask in a picture file, uint8 [H, W], 255 = person. soft: a grey of 128 and more is a person, too.

    Raises:
        LabelError: not a picture, or one with more than two values.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > LARGEST:
                raise LabelError(f"is {image.width}x{image.height}")
            image.load()
            values = _values(image)
    except LabelError:
        raise
    except Exception as error:  # decoders raise all kinds of exceptions on invalid data
        raise LabelError(f"can't be read as a picture ({error})") from None
    levels = np.unique(values)
    if soft and values.dtype == np.uint8:
        person = values > 127
    elif levels.size > 2 or (levels.size == 2 and levels[0] != 0):
        raise LabelError(f"is not binary: it has {levels.size} values; save it with 0 and 255 only")
    else:
        if levels.size == 1 and 1 < levels[0] < 255:
            raise LabelError(
                f"has the single value {levels[0]}, which is ambiguous: all person, or nobody? Use 0 or 255"
            )
        person = values > 0
    return np.where(person, np.uint8(255), np.uint8(0))


def _values(image: Image.Image) -> NDArray[Any]:
    """One value per pixel, [H, W], 0 = background."""
    if image.mode == "P":
        index = np.asarray(image)
        if set(np.unique(index).tolist()) <= {0, 1}:
            return index
        return _colours(np.asarray(image.convert("RGB")))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        whole = np.asarray(image.convert("RGBA"))
        alpha = whole[:, :, 3]
        return alpha if alpha.min() < 255 else _colours(whole[:, :, :3])
    if image.mode in ("1", "L", "I", "I;16", "I;16B"):
        return np.asarray(image).astype(np.uint8 if image.mode in ("1", "L") else np.int64)
    return _colours(np.asarray(image.convert("RGB")))


def _colours(pixels: NDArray[np.uint8]) -> NDArray[Any]:
    """Map uint8 [H, W, 3] to one value per colour, [H, W]; black is 0, greys keep their value."""
    red, green, blue = np.moveaxis(pixels.astype(np.int64), 2, 0)
    grey = bool((red == green).all() and (green == blue).all())
    return np.asarray(red if grey else (red << 16) | (green << 8) | blue)
