"""Data sets: what is read, what is refused by name, and which photos are held out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from humanseg.training.samples import DataError, Sample, Source, check, find_samples, fingerprint, held_out, split

MakeData = Callable[..., Path]


def test_a_missing_mask_is_named(make_data: MakeData) -> None:
    folder = make_data()
    (folder / "mask" / "03.png").unlink()
    with pytest.raises(DataError, match=r"03\.jpg: its mask .*03\.png is missing"):
        find_samples(Source(folder))


def test_an_empty_folder_is_named_with_the_layout_that_is_expected(tmp_path: Path) -> None:
    (tmp_path / "img").mkdir()
    with pytest.raises(DataError, match=r"no photos; expected img/NAME\.jpg and mask/NAME\.png"):
        find_samples(Source(tmp_path))


def test_every_bad_file_gets_a_line_of_its_own(make_data: MakeData) -> None:
    folder = make_data()
    (folder / "img" / "00.jpg").write_bytes(b"no picture")
    (folder / "mask" / "01.png").write_bytes(b"no picture")
    cv2.imwrite(str(folder / "mask" / "02.png"), np.zeros((10, 20), np.uint8))
    cv2.imwrite(str(folder / "mask" / "03.png"), np.tile(np.arange(72, dtype=np.uint8), (96, 1)))
    problems = check(find_samples(Source(folder)))
    assert len(problems) == 4
    assert "00.jpg: can't be read" in problems[0]
    assert "01.png: can't be read" in problems[1]
    assert "mask is 20x10, its photo 72x96" in problems[2]
    assert "not binary, it has 72 grey levels" in problems[3]


def test_grey_masks_are_fine_where_they_are_meant_to_be_soft(make_data: MakeData) -> None:
    folder = make_data(photos=1)
    cv2.imwrite(str(folder / "mask" / "00.png"), np.tile(np.arange(72, dtype=np.uint8), (96, 1)))
    samples = find_samples(Source(folder, kind="soft"))
    assert check(samples) == []
    assert samples[0].read()[1][0].tolist() == list(range(72))


def test_masks_of_0_and_1_mean_the_same_as_0_and_255(make_data: MakeData) -> None:
    folder = make_data(photos=1)
    before = find_samples(Source(folder))[0].read()[1]
    cv2.imwrite(str(folder / "mask" / "00.png"), before // 255)
    samples = find_samples(Source(folder))
    assert check(samples) == []
    np.testing.assert_array_equal(samples[0].read()[1], before)


def test_a_duplicate_under_another_name_is_in_the_same_part(make_data: MakeData) -> None:
    folder = make_data(photos=12)
    for photo in sorted((folder / "img").glob("*.jpg")):
        shutil.copyfile(photo, photo.with_name(f"copy-{photo.name}"))
        shutil.copyfile(folder / "mask" / f"{photo.stem}.png", folder / "mask" / f"copy-{photo.stem}.png")
    training, out = split(find_samples(Source(folder)), 0.5)
    assert training
    assert out
    assert not {sample.digest() for sample in training} & {sample.digest() for sample in out}


def test_frames_of_one_clip_are_in_the_same_part(make_data: MakeData) -> None:
    folder = make_data(photos=12)
    lines = [{"name": f"{at:02d}", "clip_sha256": f"{at % 3:02x}" * 32 if at < 9 else None} for at in range(12)]
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    samples = find_samples(Source(folder))
    for share in (0.001, 0.005, 0.01):  # the digests begin with 0, 1 / 256 and 2 / 256
        parts = [{sample.photo.stem for sample in part} for part in split(samples, share)]
        for clip in range(3):
            frames = {f"{at:02d}" for at in range(9) if at % 3 == clip}
            assert any(frames <= part for part in parts)
    assert {"00", "03", "06"} <= parts[1]
    (folder / "manifest.jsonl").write_text('{"clip_sha256": "zz"}\n')
    with pytest.raises(DataError, match="not a manifest"):
        find_samples(Source(folder))


def test_the_split_does_not_change_when_photos_are_added_or_renamed(make_data: MakeData) -> None:
    folder = make_data(photos=10)
    before = {sample.digest(): held_out(sample, 0.4) for sample in find_samples(Source(folder))}
    (folder / "img" / "00.jpg").rename(folder / "img" / "zz.jpg")
    (folder / "mask" / "00.png").rename(folder / "mask" / "zz.png")
    (folder / "img" / "01.jpg").unlink()
    after = {sample.digest(): held_out(sample, 0.4) for sample in find_samples(Source(folder))}
    assert all(before[digest] == flag for digest, flag in after.items())


def test_the_share_held_out_is_about_what_was_asked_for(tmp_path: Path) -> None:
    samples = []
    for index in range(2000):
        path = tmp_path / f"{index}.jpg"
        path.write_bytes(str(index).encode())
        samples.append(Sample(path))
    assert len(split(samples, 0.25)[1]) / 2000 == pytest.approx(0.25, abs=0.04)


def test_the_fingerprint_follows_the_content_and_not_the_place(make_data: MakeData, tmp_path: Path) -> None:
    folder = make_data()
    first = fingerprint(find_samples(Source(folder)))
    moved = folder.rename(tmp_path / "elsewhere")
    assert fingerprint(find_samples(Source(moved))) == first
    shutil.copyfile(moved / "mask" / "00.png", moved / "mask" / "01.png")
    assert fingerprint(find_samples(Source(moved))) != first


def test_coco_polygons_and_run_lengths_of_persons_become_the_mask(make_data: MakeData, tmp_path: Path) -> None:
    from pycocotools import mask as coco_mask

    photos = make_data(photos=2) / "img"
    square = np.zeros((96, 72), np.uint8)
    square[10:30, 20:40] = 1
    packed = coco_mask.encode(np.asfortranarray(square))
    counts = [20 * 96 + 10, *([20, 76] * 19), 20, 32 * 96 + 66]
    content = {
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}],
        "images": [{"id": 7, "file_name": "00.jpg"}, {"id": 8, "file_name": "01.jpg"}],
        "annotations": [
            {"image_id": 7, "category_id": 1, "segmentation": [[50, 60, 59, 60, 59, 69, 50, 69]]},
            {
                "image_id": 7,
                "category_id": 1,
                "segmentation": {"size": [96, 72], "counts": packed["counts"].decode()},
            },
            {"image_id": 7, "category_id": 2, "segmentation": [[0, 0, 5, 0, 5, 5, 0, 5]]},
            {"image_id": 8, "category_id": 1, "segmentation": {"size": [96, 72], "counts": counts}},
        ],
    }
    (photos.parent / "persons.json").write_text(json.dumps(content))
    shutil.rmtree(photos.parent / "mask")
    both, run_lengths = (sample.read()[1] > 0 for sample in find_samples(Source(photos.parent)))
    np.testing.assert_array_equal(run_lengths, square > 0)
    expected = square > 0
    expected[60:70, 50:60] = True
    np.testing.assert_array_equal(both, expected)


def test_a_coco_file_whose_photo_is_missing_names_the_photo(tmp_path: Path) -> None:
    content = {"categories": [], "images": [{"id": 1, "file_name": "gone.jpg"}], "annotations": []}
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"gone\.jpg is missing"):
        find_samples(Source(tmp_path))
