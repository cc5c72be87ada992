"""Soft masks for unlabelled photos, from MediaPipe's selfie segmentation as a teacher.

The teacher (Apache-2.0, npm `@mediapipe/selfie_segmentation`, 256x256, about 5 ms a photo) is accurate on people who
fill its square and blurs a full-length figure. It is therefore run twice: on the whole photo, and on squares that
slide along the detected person; each pass is averaged with its mirror image. Photos on which the two passes disagree
are dropped. This is knowledge distillation (Hinton et al. 2015) with the self-agreement filter of semi-supervised
segmentation (Ouali et al., "CCT", 2020).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 256
MINIMUM_AGREEMENT = 0.85  # IoU of the two passes; below it neither is trusted


class Teacher:
    """MediaPipe's `.tflite`, run with LiteRT on `threads` threads."""

    def __init__(self, model: Path, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter: Any = Interpreter(model_path=str(model), num_threads=threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def _square(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        photo = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0
        passes = []
        for mirror in (False, True):
            shown = photo[:, ::-1] if mirror else photo
            self._interpreter.set_tensor(self._input, np.ascontiguousarray(shown[None]))
            self._interpreter.invoke()
            probability = self._interpreter.get_tensor(self._output).reshape(SIDE, SIDE).copy()
            passes.append(probability[:, ::-1] if mirror else probability)
        mean: NDArray[np.float32] = (passes[0] + passes[1]) / 2
        return mean

    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probability float32 `[H, W]` of an RGB photo uint8 `[H, W, 3]`, in one pass over the whole photo."""
        height, width = pixels.shape[:2]
        probability: NDArray[np.float32] = cv2.resize(
            self._square(pixels), (width, height), interpolation=cv2.INTER_LINEAR
        )  # type: ignore[assignment]
        return probability

    def label(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
        """Soft mask uint8 `[H, W]` (255 = certainly person) and the agreement (IoU, 0..1) of the two passes."""
        height, width = pixels.shape[:2]
        whole = self.predict(pixels)
        rows, columns = np.nonzero(whole > 0.5)
        if rows.size < 0.01 * height * width:
            return np.zeros((height, width), np.uint8), 0.0
        top, bottom = int(rows.min()), int(rows.max()) + 1
        centre = int((columns.min() + columns.max() + 1) // 2)
        person = max(int(columns.max() - columns.min()), int(0.4 * (bottom - top)))
        side = min(int(1.25 * person), height, width)
        left = min(max(centre - side // 2, 0), width - side)
        first = max(top - side // 8, 0)
        total, weight = np.zeros_like(whole), np.zeros_like(whole)
        start = first
        while True:
            start = min(start, height - side)
            window = (slice(start, start + side), slice(left, left + side))
            total[window] += self.predict(pixels[window])
            weight[window] += 1.0
            if start + side >= min(bottom + side // 8, height):
                break
            start += side // 2
        near = np.where(weight > 0, total / np.maximum(weight, 1.0), whole)
        union = np.count_nonzero((near > 0.5) | (whole > 0.5))
        agreement = np.count_nonzero((near > 0.5) & (whole > 0.5)) / max(union, 1)
        mixed = np.where(weight > 0, 0.7 * near + 0.3 * whole, whole)
        return np.rint(mixed * 255.0).astype(np.uint8), float(agreement)


def with_own(teacher: Teacher, own: Path) -> Callable[[NDArray[np.uint8]], tuple[NDArray[np.uint8], float]]:
    """A labeller that combines the teacher and our own network: their mean, and the IoU of both as agreement.

    They fail on different photos (the teacher on full-length figures, ours on unseen framings), so their agreement
    indicates a reliable mask: co-training (Blum and Mitchell 1998). Ours is that of `quality=best`: what the network
    sees in several passes it then learns to see in one (Radosavovic et al., "Data Distillation", 2018).
    """
    from humanseg.segmentation.engine import reference_engine
    from humanseg.segmentation.pipeline import probability
    from humanseg.segmentation.weights import load_weights

    weights = load_weights(own)
    engine = reference_engine(weights.network, weights.spec)

    def label(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
        taught, _ = teacher.label(pixels)
        ours = probability(engine, weights.spec, pixels, quality="best")
        union = np.count_nonzero((taught > 127) | (ours > 127))
        agreement = np.count_nonzero((taught > 127) & (ours > 127)) / max(union, 1)
        mean = (taught.astype(np.uint16) + ours + 1) // 2
        return mean.astype(np.uint8), agreement

    return label
