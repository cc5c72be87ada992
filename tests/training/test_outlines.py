"""Coarse outlines: the network decides at the edge, the drawing everywhere else."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from humanseg.training.outlines import Map, Predict, refine, refine_all
from humanseg.training.samples import Pixels, Source, find_samples


def person(shift: int = 0) -> Pixels:
    """A figure as a person would see it: an ellipse, uint8 [240, 320], 255 = person."""
    mask = np.zeros((240, 320), np.uint8)
    cv2.ellipse(mask, (160 + shift, 120), (40, 90), 0, 0, 360, 255, -1)
    return mask


def photo(mask: Pixels) -> Pixels:
    return np.repeat(np.where(mask[..., None] > 127, np.uint8(220), np.uint8(30)), 3, axis=2)


def coarse(mask: Pixels) -> Pixels:
    """The same figure with few corners, cut within as polygons are."""
    outline = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0][0]
    drawn = np.zeros_like(mask)
    cv2.fillPoly(drawn, [np.ascontiguousarray(outline[:: len(outline) // 12].reshape(-1, 1, 2))], 255)
    return drawn


def sees_brightness(pixels: Pixels) -> Map:
    return (pixels[..., 0] > 127).astype(np.float32)


def blind(pixels: Pixels) -> Map:
    return np.zeros(pixels.shape[:2], np.float32)


def iou(one: Pixels, other: Pixels) -> float:
    both = np.count_nonzero((one > 127) & (other > 127))
    return both / np.count_nonzero((one > 127) | (other > 127))


def test_a_network_that_agrees_moves_the_outline_to_the_persons() -> None:
    true = person()
    drawn = coarse(true)
    refined = refine(photo(true), drawn, sees_brightness)
    assert iou(drawn, true) < 0.96
    assert iou(refined, true) > iou(drawn, true) + 0.02


@pytest.mark.parametrize("predict", [blind, lambda pixels: sees_brightness(np.roll(pixels, 60, axis=1))])
def test_a_network_that_disagrees_changes_nobodys_mask_but_blurs_its_edge(predict: Predict) -> None:
    true = person()
    drawn = coarse(true)
    refined = refine(photo(true), drawn, predict)
    assert iou(refined, drawn) > 0.97
    assert np.array_equal(refined[120, 140:180], drawn[120, 140:180])  # the inside is the drawing's
    assert len(np.unique(refined)) > 10


def test_nothing_outside_the_band_changes() -> None:
    """A second person whom nobody drew stays background, though the network sees it."""
    drawn = person(-70)
    shown = np.maximum(drawn, person(90))
    refined = refine(photo(shown), drawn, sees_brightness)
    assert not refined[:, 215:].any()


def test_the_frames_edge_is_no_outline() -> None:
    drawn = np.zeros((240, 320), np.uint8)
    drawn[100:, 100:220] = 255  # cut off by the lower edge
    refined = refine(photo(drawn), drawn, blind)
    assert (refined[-1, 120:200] == 255).all()


def test_bystanders_become_background_but_parts_of_the_main_person_stay(tmp_path: Path) -> None:
    mask = person()
    mask[118:124] = 0  # a table hides the waist
    cv2.circle(mask, (190, 60), 6, 255, -1)  # a hand, within the person's box
    cv2.circle(mask, (290, 100), 12, 255, -1)  # somebody far away
    for folder in ("img", "mask"):
        (tmp_path / "drawn" / folder).mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "drawn" / "img" / "0.jpg"), photo(mask))
    cv2.imwrite(str(tmp_path / "drawn" / "mask" / "0.png"), mask)
    for share, bystander in ((0.08, False), (0.0, True)):
        out = tmp_path / str(share)
        refine_all(find_samples(Source(tmp_path / "drawn")), out, blind, share)
        (sample,) = find_samples(Source(out, kind="soft"))
        refined = sample.read()[1]
        assert (refined[:, 260:].max() > 200) == bystander
        assert iou(refined[:, :260], mask[:, :260]) > 0.95


def test_a_photo_without_a_person_stays_without() -> None:
    nobody = np.zeros((240, 320), np.uint8)
    assert not refine(photo(nobody), nobody, sees_brightness).any()


def test_a_folder_becomes_a_source_of_soft_masks_and_a_second_start_goes_on(tmp_path: Path) -> None:
    for folder in ("img", "mask"):
        (tmp_path / "drawn" / folder).mkdir(parents=True)
    for number, shift in enumerate((0, 30)):
        true = person(shift)
        cv2.imwrite(str(tmp_path / "drawn" / "img" / f"{number}.jpg"), photo(true))
        cv2.imwrite(str(tmp_path / "drawn" / "mask" / f"{number}.png"), coarse(true))
    seen = []

    def predict(pixels: Pixels) -> Map:
        seen.append(pixels.shape)
        return sees_brightness(pixels)

    samples = find_samples(Source(tmp_path / "drawn"))
    out = tmp_path / "refined"
    assert refine_all(samples[:1], out, predict) == 1
    assert refine_all(samples, out, predict) == 2
    assert len(seen) == 2  # each photo once
    soft = find_samples(Source(out, kind="soft"))
    assert [sample.photo.name for sample in soft] == ["0.jpg", "1.jpg"]
    assert all(iou(sample.read()[1], person(shift)) > 0.96 for sample, shift in zip(soft, (0, 30), strict=True))
