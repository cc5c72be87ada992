"""Finds photos and masks on disk, splits them, and reports every invalid file before training starts.

A data set is one folder. Three layouts are read:
- `img/NAME.jpg` with `mask/NAME.png` (0 = background, 255 or 1 = person), same size;
- `img/NAME.jpg` alone, for photos without people (`empty`);
- a COCO JSON file (`*.json` in the folder, or the file itself), with its photos in the same folder, `img/` or
  `images/`: every annotation of the category `person` is drawn into the mask.
A `manifest.jsonl` beside them, as the archive's export writes it, says which photos are frames of one clip.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Kind = Literal["masks", "soft", "empty", "distractors"]
Pixels = NDArray[np.uint8]
PHOTOS = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


class DataError(ValueError):
    """Invalid files in a data set; the message has one line per file."""


@dataclass(frozen=True)
class Source:
    """A data set in a recipe. `weight` is its sampling weight among all sources, in any unit.

    kind: `masks` (ground truth, binary), `soft` (8-bit grey, of a teacher), `empty` (without people), or
    `distractors` (cut-outs of animals and objects with their alpha as the mask).
    leave_out: names (without suffix) of photos to exclude.
    hold_out: held-out share of its photos; None uses the run's setting.
    """

    path: Path
    weight: float = 1.0
    kind: Kind = "masks"
    leave_out: tuple[str, ...] = ()
    hold_out: float | None = None


@dataclass(frozen=True)
class Sample:
    """One photo and its mask: a file, COCO polygons or RLE, or nothing (no person).

    clip: SHA-256 of the clip that the photo is a frame of; None for a photo.
    """

    photo: Path
    mask: Path | None = None
    shapes: tuple[Any, ...] = ()
    soft: bool = False
    clip: bytes | None = None

    def read(self) -> tuple[Pixels, Pixels]:
        """RGB uint8 `[H, W, 3]` and mask uint8 `[H, W]`, 255 = person."""
        pixels = cv2.imread(str(self.photo), cv2.IMREAD_COLOR_RGB)
        if pixels is None:
            raise DataError(f"{self.photo}: can't be read as a picture")
        height, width = pixels.shape[:2]
        mask = np.zeros((height, width), np.uint8)
        if self.mask is not None:
            drawn = cv2.imread(str(self.mask), cv2.IMREAD_GRAYSCALE)
            if drawn is None:
                raise DataError(f"{self.mask}: can't be read as a picture")
            mask = drawn if self.soft else np.where(drawn > 0, np.uint8(255), np.uint8(0))
        for shape in self.shapes:
            _draw(shape, mask)
        return pixels, mask  # type: ignore[return-value]

    def digest(self) -> bytes:
        """SHA-256 of the photo's bytes, independent of its name."""
        return hashlib.sha256(self.photo.read_bytes()).digest()


def find_samples(source: Source) -> list[Sample]:
    """All samples of a source in a stable order. Raises DataError if files are missing."""
    annotation = _coco_file(source.path)
    samples = _folder(source) if annotation is None else _coco(annotation)
    clips = _clips((annotation.parent if annotation else source.path) / "manifest.jsonl")
    kept = [
        replace(sample, clip=clips.get(sample.photo.stem))
        for sample in samples
        if sample.photo.stem not in source.leave_out
    ]
    if not kept:
        raise DataError(f"{source.path}: no photos; expected img/NAME.jpg and mask/NAME.png, or a COCO JSON")
    return kept


def held_out(sample: Sample, share: float) -> bool:
    """Whether a photo is held out, by its content only, so that duplicates stay in one split.

    Frames of one clip are near-duplicates: the hash of the clip decides for all of them.
    """
    return int.from_bytes((sample.clip or sample.digest())[:8], "big") < share * 2**64


def split(samples: Sequence[Sample], share: float) -> tuple[list[Sample], list[Sample]]:
    """(training part, held-out part); about `share` of the photos are held out."""
    flags = [held_out(sample, share) for sample in samples]
    return (
        [sample for sample, out in zip(samples, flags, strict=True) if not out],
        [sample for sample, out in zip(samples, flags, strict=True) if out],
    )


def check(samples: Sequence[Sample]) -> list[str]:
    """One line per invalid file: unreadable, another size than its photo, not binary."""
    problems: list[str] = []
    for sample in samples:
        photo = cv2.imread(str(sample.photo), cv2.IMREAD_COLOR)
        if photo is None:
            problems.append(f"{sample.photo}: can't be read as a picture")
            continue
        if sample.mask is None:
            continue
        mask = cv2.imread(str(sample.mask), cv2.IMREAD_GRAYSCALE)
        if mask is None:
            problems.append(f"{sample.mask}: can't be read as a picture")
        elif mask.shape != photo.shape[:2]:
            problems.append(
                f"{sample.mask}: mask is {mask.shape[1]}x{mask.shape[0]}, its photo {photo.shape[1]}x{photo.shape[0]}"
            )
        elif not sample.soft and not _is_binary(mask):
            values = np.unique(mask)
            problems.append(
                f"{sample.mask}: mask is not binary, it has {values.size} grey levels; "
                "use 0 and 255, or pass the folder as --soft"
            )
    return problems


def fingerprint(samples: Sequence[Sample]) -> str:
    """SHA-256 over all photos and masks, independent of the folders' paths."""
    whole = hashlib.sha256()
    for sample in samples:
        whole.update(sample.digest())
        if sample.mask is not None:
            whole.update(hashlib.sha256(sample.mask.read_bytes()).digest())
        if sample.shapes:
            whole.update(json.dumps(sample.shapes, sort_keys=True, default=list).encode())
    return whole.hexdigest()


def _is_binary(mask: Any) -> bool:
    values = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    return values.size <= 2 and (values.size < 2 or int(values[0]) == 0)


def _clips(manifest: Path) -> dict[str, bytes]:
    """SHA-256 of the clip of each photo that is a frame of one, by the photo's name."""
    if not manifest.is_file():
        return {}
    samples = {}
    try:
        for line in manifest.read_text().splitlines():
            row = json.loads(line)
            if row.get("clip_sha256"):
                samples[row["name"]] = bytes.fromhex(row["clip_sha256"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{manifest}: not a manifest of `humanseg archive export` ({error})") from None
    return samples


def _folder(source: Source) -> list[Sample]:
    folder = source.path / "img" if (source.path / "img").is_dir() else source.path
    if not folder.is_dir():
        raise DataError(f"{source.path}: no such folder")
    photos = sorted(path for path in folder.iterdir() if path.suffix.lower() in PHOTOS)
    if source.kind == "empty":
        return [Sample(photo) for photo in photos]
    samples, missing = [], []
    for photo in photos:
        mask = source.path / "mask" / f"{photo.stem}.png"
        if not mask.is_file():
            missing.append(f"{photo}: its mask {mask} is missing")
        samples.append(Sample(photo, mask, soft=source.kind in ("soft", "distractors")))
    missing = [line for line in missing if Path(line.split(":")[0]).stem not in source.leave_out]
    if missing:
        raise DataError("\n".join(missing))
    return samples


def _coco_file(path: Path) -> Path | None:
    if path.suffix == ".json":
        return path
    files = sorted(path.glob("*.json")) if path.is_dir() and not (path / "mask").is_dir() else []
    return files[0] if files else None


def _coco(annotation: Path) -> list[Sample]:
    try:
        content = json.loads(annotation.read_text())
        persons = {item["id"] for item in content["categories"] if item["name"] == "person"}
        samples = {}
        for image in content["images"]:
            name = PurePath(image["file_name"])
            if name.is_absolute() or ".." in name.parts:  # an untrusted file must not select paths
                raise DataError(f"{annotation}: its photo {image['file_name']} is outside its folder")
            places = [annotation.parent / part / name for part in (".", "img", "images")]
            photo = next((place for place in places if place.is_file()), None)
            if photo is None:
                raise DataError(f"{annotation}: its photo {image['file_name']} is missing")
            samples[image["id"]] = Sample(photo)
        for item in content["annotations"]:
            if item["category_id"] in persons and item["image_id"] in samples:
                sample = samples[item["image_id"]]
                shape = item["segmentation"]
                shapes = tuple(shape) if isinstance(shape, list) else (shape,)
                samples[item["image_id"]] = replace(sample, shapes=sample.shapes + shapes)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise DataError(f"{annotation}: not a COCO annotation file ({type(error).__name__}: {error})") from None
    return list(samples.values())


def _draw(shape: Any, mask: Any) -> None:
    """Draw one COCO polygon (flat list of x, y) or RLE (column by column) into `mask`, in place."""
    if isinstance(shape, dict):
        counts = shape["counts"]
        if isinstance(counts, str):
            from pycocotools import mask as coco_mask

            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # its C part is older than numpy 2
                decoded = coco_mask.decode({**shape, "counts": counts.encode()})
            mask[decoded > 0] = 255
            return
        values = np.repeat(np.arange(len(counts)) % 2, counts).astype(bool)
        mask[values.reshape(shape["size"], order="F")] = 255
        return
    points = np.rint(np.asarray(shape, np.float64).reshape(-1, 2)).astype(np.int32)
    cv2.fillPoly(mask, [points], 255)
