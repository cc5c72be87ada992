"""PNG masks as tools save them, and several people's masks of one photo."""

from __future__ import annotations

import io
import zipfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from humanseg.labels.drawn import DrawnMask, LabelError, PhotoRef
from humanseg.labels.home import by_photo, read_labels_file
from humanseg.labels.png import decode_png
from humanseg.labels.settle import settle


def png(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "png", **options)
    return file.getvalue()


def palette(index: np.ndarray, *colours: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(index.astype(np.uint8), "P")
    image.putpalette([value for colour in colours for value in colour])
    return image


def pictures(mask: np.ndarray) -> dict[str, Image.Image]:
    person = mask > 0
    black = np.zeros_like(mask)
    return {
        "0/255": Image.fromarray(mask),
        "0/1": Image.fromarray((mask // 255).astype(np.uint8)),
        "one bit": Image.fromarray(person),
        "16 bits": Image.fromarray(np.where(person, 65535, 0).astype(np.uint16)),
        "palette, white on black": palette(person, (0, 0, 0), (255, 255, 255)),
        "palette, CVAT's colour at another index": palette(
            np.where(person, 3, 0), (0, 0, 0), (1, 1, 1), (2, 2, 2), (250, 50, 83)
        ),
        "RGB, a colour on black": Image.fromarray(np.dstack([mask, black, mask // 2])),
        "RGBA, opaque": Image.fromarray(np.dstack([mask, mask, mask, np.full_like(mask, 255)])),
        "RGBA, black person on nothing": Image.fromarray(np.dstack([black, black, black, mask])),
        "grey and alpha": Image.fromarray(np.dstack([mask, mask])),
    }


@pytest.mark.parametrize("kind", list(pictures(np.zeros((2, 2), np.uint8))))
def test_a_mask_is_the_same_however_it_was_saved(ring: np.ndarray, kind: str) -> None:
    assert (decode_png(png(pictures(ring)[kind])) == ring).all()


def test_a_picture_that_is_no_mask_is_refused_with_the_reason(ring: np.ndarray) -> None:
    grey = np.tile(np.arange(61, dtype=np.uint8), (40, 1))
    with pytest.raises(LabelError, match="not binary: it has 61 values"):
        decode_png(png(Image.fromarray(grey)))
    with pytest.raises(LabelError, match="not binary: it has 2 values"):
        decode_png(png(Image.fromarray(np.maximum(ring, 7))))
    with pytest.raises(LabelError, match="single value 7"):
        decode_png(png(Image.fromarray(np.full_like(ring, 7))))
    with pytest.raises(LabelError, match="can't be read"):
        decode_png(b"no picture")


def test_a_folder_or_a_zip_of_pngs_is_read_and_the_bad_one_named(ring: np.ndarray, tmp_path: Path) -> None:
    folder = tmp_path / "mask"
    folder.mkdir()
    (folder / "a.png").write_bytes(png(Image.fromarray(ring)))
    (folder / "b.png").write_bytes(b"no picture")
    reading = read_labels_file(tmp_path)
    assert [mask.photo.stem for mask in reading.masks] == ["a"]
    assert reading.refused[0].source == str(folder / "b.png")
    packed = tmp_path / "labels.zip"
    with zipfile.ZipFile(packed, "w") as file:
        file.write(folder / "a.png", "SegmentationClass/a.png")
    assert [file.photo.file for file in read_labels_file(packed).masks] == ["a.png"]
    (tmp_path / "none").mkdir()
    with pytest.raises(LabelError, match="contains no labels"):
        read_labels_file(tmp_path / "none")
    with pytest.raises(LabelError, match="no such"):
        read_labels_file(tmp_path / "missing.json")


def drawn(mask: np.ndarray | None, who: str, *, hour: int = 1, truth: bool = False) -> DrawnMask:
    time = datetime(2026, 11, 20, hour, tzinfo=timezone.utc)
    return DrawnMask(PhotoRef("a.jpg"), mask, who, f"row of {who}", time, truth)


def test_of_three_people_each_pixel_is_what_most_say(ring: np.ndarray) -> None:
    more, less = ring.copy(), ring.copy()
    more[:3] = 255
    less[18:22] = 0
    mask, who, agreement = settle([drawn(ring, "ada"), drawn(more, "bob"), drawn(less, "eve")])
    assert mask is not None
    assert (mask == ring).all()
    assert who == "ada, bob, eve"
    assert 0.7 < agreement < 1


def test_the_truth_wins_and_of_one_person_the_newest(ring: np.ndarray) -> None:
    other = 255 - ring
    assert settle([drawn(ring, "ada"), drawn(other, "bob", truth=True)])[1] == "bob"
    mask, who, _ = settle([drawn(ring, "ada", hour=9), drawn(other, "ada", hour=8)])
    assert mask is ring
    assert who == "ada"
    assert settle([drawn(None, "ada"), drawn(None, "bob")])[0] is None


def test_people_who_do_not_agree_are_not_averaged(ring: np.ndarray) -> None:
    with pytest.raises(LabelError, match=r"ada, bob agree by 0.00, below .* ground truth"):
        settle([drawn(ring, "ada"), drawn(None, "bob")])
    with pytest.raises(LabelError, match="different sizes"):
        settle([drawn(ring, "ada"), drawn(ring[:20], "bob")])


def test_rows_of_one_photo_are_brought_together(ring: np.ndarray, tmp_path: Path) -> None:
    for folder in ("ada", "bob"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(png(Image.fromarray(ring)))
    groups = list(by_photo(read_labels_file(tmp_path)))
    assert [(photo.file, len(rows)) for photo, rows in groups] == [("a.png", 2)]
