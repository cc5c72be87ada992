"""Label Studio's JSON and JSON-MIN exports: one mask per submitted annotation.

The regions of an annotation are merged: brush strokes, bitmasks and polygons that are labelled as a person or
unlabelled. Cancelled annotations are skipped, and so are those without a region, unless the options say that they
mean an empty photo. Shapes that are not masks (a box, an ellipse) are rejected.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import cv2
import numpy as np

from humanseg.labels.brush import decode_brush
from humanseg.labels.drawn import DrawnMask, LabelError, Mask, Options, PhotoRef, Reading, Refusal, Skipped, file_of
from humanseg.labels.png import decode_png

MASKS = {"brushlabels", "brush", "bitmasklabels", "bitmask", "polygonlabels", "polygon"}
SHAPES = {"rectanglelabels", "rectangle", "ellipselabels", "ellipse", "keypointlabels", "keypoint", "vectorlabels"}
FIXED = 256  # cv2 draws polygons in 1/256 of a pixel
SHIFT = 8


def is_label_studio(content: Any) -> bool:
    """Whether this JSON is an export of tasks."""
    return isinstance(content, list) and all(isinstance(task, dict) and "id" in task for task in content)


def read_label_studio(name: str, tasks: list[dict[str, Any]], options: Options) -> Reading:
    """The masks of an export; messages call its file `name`."""
    reading = Reading()
    for task in tasks:
        full = isinstance(task.get("annotations"), list)
        photo = photo_of(task)
        for annotation in task["annotations"] if full else [_from_min(task)]:
            source = f"{name}: task {task['id']} annotation {annotation.get('id')}"
            if annotation.get("was_cancelled"):
                reading.skipped.append(Skipped(source, "cancelled"))
                continue
            if annotation.get("id") is None:  # JSON-MIN lists unopened tasks, too
                reading.skipped.append(Skipped(source, "not labelled"))
                continue
            try:
                mask, regions = _join(annotation.get("result") or [], options)
                if regions == 0 and not options.empty_is_nobody:
                    reading.skipped.append(Skipped(source, "empty"))
                    continue
                reading.masks.append(
                    DrawnMask(
                        photo,
                        mask,
                        _annotator(annotation.get("completed_by")),
                        source,
                        _time(annotation.get("updated_at") or annotation.get("created_at")),
                        bool(annotation.get("ground_truth")),
                    )
                )
            except LabelError as error:
                reading.refused.append(Refusal(source, str(error)))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                reading.refused.append(Refusal(source, f"invalid Label Studio export ({_say(error)})"))
    return reading


def photo_of(task: Mapping[str, Any]) -> PhotoRef:
    """The task's photo: by our export's keys, else by the first address in it."""
    data: Mapping[str, Any] = task["data"] if isinstance(task.get("data"), dict) else task
    address = data.get("image") or next((value for value in data.values() if _looks_like_file(value)), "")
    return PhotoRef(file_of(str(address)), data.get("request_id"), data.get("photo_sha256"))


def _looks_like_file(value: Any) -> bool:
    return isinstance(value, str) and file_of(value).lower().endswith((".jpg", ".jpeg", ".png", ".webp", ".bmp"))


def _from_min(task: Mapping[str, Any]) -> dict[str, Any]:
    """JSON-MIN's flat row as an annotation; a region's `value` is merged into the region."""
    regions = [
        {**region, "value": region, "type": _kind(region)}
        for value in task.values()
        if isinstance(value, list)
        for region in value
        if isinstance(region, dict)
    ]
    return {
        "id": task.get("annotation_id"),
        "completed_by": task.get("annotator"),
        "updated_at": task.get("updated_at"),
        "result": regions,
    }


def _kind(region: Mapping[str, Any]) -> str:
    kind = next((name for name in sorted(MASKS | SHAPES) if name in region), None)
    return kind or ("brush" if "rle" in region else "polygon" if "points" in region else "")


def _join(regions: list[dict[str, Any]], options: Options) -> tuple[Mask | None, int]:
    """(the merged mask of all person regions, number of regions); the mask is None without regions."""
    whole: Mask | None = None
    count = 0
    for region in regions:
        kind = str(region.get("type", "")).lower()
        if kind not in MASKS | SHAPES:
            continue  # a choice, a rating, a text
        count += 1
        if not options.is_person(_labels(region["value"])):
            continue
        if kind in SHAPES:
            raise LabelError(f"has a region of type {kind}, which is not a mask; use the brush or a polygon")
        mask = _draw(kind, region)
        if whole is not None and whole.shape != mask.shape:
            raise LabelError("has regions of pictures of different sizes")
        whole = mask if whole is None else np.maximum(whole, mask)
    return whole, count


def _labels(value: Mapping[str, Any]) -> list[str]:
    lists = (value.get(name) for name in ("brushlabels", "bitmasklabels", "polygonlabels", "labels"))
    return next((names for names in lists if names), [])


def _draw(kind: str, region: Mapping[str, Any]) -> Mask:
    """One region's mask, uint8 [H, W], 0/255."""
    width, height = region.get("original_width"), region.get("original_height")
    if not (isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0):
        raise LabelError("a region has no original_width and original_height")
    if region.get("image_rotation"):
        raise LabelError(f"the picture was rotated by {region['image_rotation']} degrees during labelling")
    value = region["value"]
    if kind.startswith("brush"):
        if value.get("format", "rle") != "rle" or "rle" not in value:
            raise LabelError("a brush region has no run-lengths (rle)")
        return decode_brush(value["rle"], width, height)
    if kind.startswith("bitmask"):
        return _bitmask(value["imageDataURL"], width, height)
    points = np.asarray(value["points"], np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3 or not np.isfinite(points).all():
        raise LabelError("a polygon has fewer than 3 points")
    mask = np.zeros((height, width), np.uint8)
    # In percent of the picture; pixel centres lie at halves.
    corners = np.rint((points / 100 * (width, height) - 0.5) * FIXED).astype(np.int32)
    cv2.fillPoly(mask, [corners], 255, shift=SHIFT)
    return mask


def _bitmask(url: str, width: int, height: int) -> Mask:
    try:
        data = base64.b64decode(url.partition("base64,")[2], validate=True)
    except binascii.Error:
        raise LabelError("a bitmask is not a base64 picture") from None
    mask = decode_png(data)
    if mask.shape != (height, width):
        raise LabelError(f"a bitmask is {mask.shape[1]}x{mask.shape[0]}, but its picture is {width}x{height}")
    return mask


def _annotator(annotator: Any) -> str | None:
    """`completed_by` is a number, an address, or an object with both."""
    if isinstance(annotator, dict):
        annotator = annotator.get("email") or annotator.get("id")
    return None if annotator is None else str(annotator)


def _time(text: Any) -> datetime | None:
    with contextlib.suppress(TypeError, ValueError, AttributeError):
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    return None


def _say(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def task_photos(tasks: list[dict[str, Any]]) -> Iterator[tuple[str, PhotoRef]]:
    """Every task's number and photo, for the PNGs that Label Studio names after their task."""
    for task in tasks:
        yield str(task["id"]), photo_of(task)
