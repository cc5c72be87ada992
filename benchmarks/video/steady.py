"""IoU and flicker of masks, frame by frame and smoothed, on scenes with known masks (scenes.py)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from benchmarks.video import scenes
from benchmarks.video.inputs import portrait
from humanseg.segmentation import mask as masks
from humanseg.segmentation.frame import to_frame_size
from humanseg.segmentation.photo import Pixels
from humanseg.video.convert import Network
from humanseg.video.steady import Steady

UNDETECTED = "flat"  # a drawing that the network hardly detects: apart from the means


@dataclass(frozen=True)
class Row:
    """One person in one scene: mean IoU and flicker, frame by frame and smoothed."""

    person: str
    scene: str
    iou: tuple[float, float]
    flicker: tuple[float, float]


def print_steadiness(network: Network, seeds: Sequence[int]) -> None:
    """Print each scene with each person, and the means."""
    rows = [row for seed in seeds for row in steadiness(network, seed)]
    detected = [row for row in rows if row.person != UNDETECTED]
    for person, scene in dict.fromkeys((row.person, row.scene) for row in rows):
        print(_line(f"{person}, {scene}", [row for row in rows if (row.person, row.scene) == (person, scene)]))
    for scene in scenes.PLANS:
        print(_line(f"all but {UNDETECTED}, {scene}", [row for row in detected if row.scene == scene]))
    print(_line(f"all but {UNDETECTED}", detected))
    print(_line("all", rows))


def _line(title: str, rows: list[Row]) -> str:
    iou, smoothed = np.mean([row.iou for row in rows], axis=0)
    flicker, less = np.mean([row.flicker for row in rows], axis=0)
    ratio = f"x {less / flicker:.2f}" if flicker > 0.001 else "hardly detected"
    return f"{title:24} IoU {iou:.4f} -> {smoothed:.4f}   flicker {flicker:.4f} {ratio}"


def steadiness(network: Network, seed: int) -> Iterator[Row]:
    """Measure every person in every scene of a seed."""
    for name, (person, alpha) in people(network).items():
        for scene, plan in scenes.PLANS.items():
            yield _measured(network, name, scene, scenes.clip(plan, person, alpha, seed))


def _measured(network: Network, person: str, scene: str, moments: Iterator[scenes.Moment]) -> Row:
    steady = Steady()
    before: list[Any] = [None, None]
    ious: tuple[list[float], list[float]] = ([], [])
    flickers: tuple[list[float], list[float]] = ([], [])
    for moment in moments:
        small = to_frame_size(moment.frame, network.spec)
        raw = network.ask(small).astype(np.float32) / 255
        for at, probability in enumerate((raw, steady(raw, small))):
            large = masks.to_photo_size(probability, *scenes.SIZE)
            mask = large > network.threshold * 255
            alpha = masks.soft_alpha(large, network.threshold).astype(np.float32) / 255
            ious[at].append(float((mask & moment.truth).sum() / max(1, (mask | moment.truth).sum())))
            if before[at] is not None and moment.known.any():
                flickers[at].append(scenes.flicker(alpha, before[at], moment))
            before[at] = alpha
    mean = [float(np.mean(values)) for values in (*ious, *flickers)]
    return Row(person, scene, (mean[0], mean[1]), (mean[2], mean[3]))


def people(network: Network) -> dict[str, tuple[Pixels, Pixels]]:
    """Who moves: a picture, uint8 [h, w, 3], and the alpha of the person in it, uint8 [h, w]."""
    from skimage import data

    def cut(picture: Pixels) -> tuple[Pixels, Pixels]:
        height, width = picture.shape[:2]
        probability = network.ask(to_frame_size(picture, network.spec)) / np.float32(255)
        return picture, masks.soft_alpha(masks.to_photo_size(probability, width, height), network.threshold)

    camera = np.asarray(cv2.cvtColor(data.camera(), cv2.COLOR_GRAY2RGB), np.uint8)
    return {
        "portrait": cut(portrait()),
        "man": cut(camera),
        "drawn": scenes.drawn_person(),
        UNDETECTED: scenes.flat_person(),
    }
