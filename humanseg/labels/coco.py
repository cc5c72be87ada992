"""COCO JSON of any tool: CVAT, Label Studio, VIA, FiftyOne, Roboflow, our own export.

All annotations of a photo with a person category are merged: polygons (their union, as in COCO), and both forms of
RLE. COCO represents holes by RLE.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from humanseg.labels.drawn import DrawnMask, LabelError, Mask, Options, PhotoRef, Reading, Refusal, Skipped, file_of

LARGEST = 100_000_000  # pixels


def is_coco(content: Any) -> bool:
    """Whether this JSON is a COCO file of instances."""
    return isinstance(content, dict) and all(
        isinstance(content.get(name), list) for name in ("images", "annotations", "categories")
    )


def read_coco(name: str, content: dict[str, Any], options: Options) -> Reading:
    """The masks of a COCO file; messages call it `name`."""
    reading = Reading()
    try:
        persons = {category["id"] for category in content["categories"] if options.is_person([str(category["name"])])}
        images = {image["id"]: image for image in content["images"]}
        drawn: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for annotation in content["annotations"]:
            if annotation["image_id"] not in images:
                reading.refused.append(
                    Refusal(
                        f"{name}: annotation {annotation.get('id')}",
                        f"its image {annotation['image_id']} is not in the file",
                    )
                )
            elif annotation["category_id"] in persons:
                drawn[annotation["image_id"]].append(annotation)
    except (KeyError, TypeError) as error:
        reason = f"invalid COCO ({type(error).__name__}: {error})"
        return Reading(refused=[Refusal(name, reason)])
    if not persons:
        wanted = ", ".join(options.labels)
        names = ", ".join(sorted({str(category["name"]) for category in content["categories"]})) or "none"
        return Reading(refused=[Refusal(name, f"has no category {wanted}, only {names}; use --label")])
    for key, image in images.items():
        source = f"{name}: image {key} ({image.get('file_name')})"
        try:
            if not drawn[key] and not options.empty_is_nobody:
                reading.skipped.append(Skipped(source, "empty"))
                continue
            photo = PhotoRef(file_of(str(image["file_name"])), image.get("request_id"), image.get("photo_sha256"))
            reading.masks.append(DrawnMask(photo, _join(image, drawn[key]), None, source))
        except LabelError as error:
            reading.refused.append(Refusal(source, str(error)))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            reading.refused.append(Refusal(source, f"invalid COCO ({type(error).__name__}: {error})"))
    return reading


def _join(image: dict[str, Any], annotations: list[dict[str, Any]]) -> Mask:
    """uint8 [H, W], 255 where any of the annotations is."""
    width, height = int(image["width"]), int(image["height"])
    if width < 1 or height < 1 or width * height > LARGEST:
        raise LabelError(f"its size is {width}x{height}")
    mask = np.zeros((height, width), np.uint8)
    for annotation in annotations:
        shape = annotation["segmentation"]
        try:
            if isinstance(shape, dict):
                mask[_runs(shape, width, height)] = 255
            elif shape:
                mask[_polygons(shape, width, height)] = 255
            else:
                raise LabelError("has a box but no mask")
        except LabelError as error:
            raise LabelError(f"annotation {annotation.get('id')} {error}") from None
    return mask


def _polygons(polygons: Sequence[Sequence[float]], width: int, height: int) -> Any:
    """The union, bool [height, width], of polygons, each a flat list of x, y in pixels."""
    from pycocotools import mask as coco

    for polygon in polygons:
        if len(polygon) < 6 or len(polygon) % 2 or not np.isfinite(np.asarray(polygon, np.float64)).all():
            raise LabelError("has a polygon of fewer than 3 points")
    return coco.decode(coco.merge(coco.frPyObjects([list(polygon) for polygon in polygons], height, width))).astype(
        bool
    )


def _runs(shape: dict[str, Any], width: int, height: int) -> Any:
    """Run-lengths to bool [height, width]: as a list of counts or as COCO's string."""
    if list(shape["size"]) != [height, width]:
        rle_size = "x".join(map(str, reversed(shape["size"])))
        raise LabelError(f"is for a picture of {rle_size}, but its photo is {width}x{height}")
    text = shape["counts"]
    counts = decompress(text) if isinstance(text, str | bytes) else [int(count) for count in text]
    if min(counts, default=0) < 0 or sum(counts) != width * height:
        raise LabelError(f"has an RLE of {sum(counts)} pixels, but its photo has {width * height}")
    values = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return values.reshape(height, width, order="F")


def decompress(text: str | bytes) -> list[int]:
    """The counts of COCO's string (cocoapi, common/maskApi.c, rleFrString).

    pycocotools does not expose them, and silently accepts a sum below the picture's.

    >>> decompress("63X1O")
    [6, 3, 40, 2]
    """
    data = text.encode() if isinstance(text, str) else text
    counts: list[int] = []
    value = shift = 0
    for byte in data:
        group = byte - 48
        if not 0 <= group < 64 or shift > 60:
            raise LabelError("has an RLE that is not COCO's")
        value |= (group & 0x1F) << shift
        shift += 5
        if group & 0x20:
            continue
        if group & 0x10:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise LabelError("has a truncated RLE")
    return counts
