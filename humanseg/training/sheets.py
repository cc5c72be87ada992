"""Contact sheets: photos with their masks, for visual inspection."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from humanseg.training.measure import Result

TILE = 200  # pixels, side of the square each photo is fitted into
COLUMNS = 6


def tile(result: Result) -> NDArray[np.uint8]:
    """BGR uint8 `[TILE, TILE, 3]`: right pixels green, missed ones blue, false ones red, and the IoU."""
    picture = result.pixels[..., ::-1].astype(np.float32)
    for where, colour in (
        (result.predicted & result.true, (0, 255, 0)),
        (~result.predicted & result.true, (255, 0, 0)),
        (result.predicted & ~result.true, (0, 0, 255)),
    ):
        picture[where] = 0.6 * picture[where] + 0.4 * np.array(colour, np.float32)
    scale = TILE / max(picture.shape[:2])
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8)
    out = np.zeros((TILE, TILE, 3), np.uint8)
    out[: small.shape[0], : small.shape[1]] = small[:TILE, :TILE]
    text = f"{result.photo.stem[-14:]} {result.iou:.3f}"
    cv2.putText(out, text, (3, TILE - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    return out


def sheet(results: Sequence[Result], path: Path) -> None:
    """Write a PNG of all results, `COLUMNS` to a row."""
    tiles = [tile(result) for result in results]
    tiles += [np.zeros((TILE, TILE, 3), np.uint8)] * (-len(tiles) % COLUMNS)
    rows = [np.hstack(tiles[start : start + COLUMNS]) for start in range(0, len(tiles), COLUMNS)]
    cv2.imwrite(str(path), np.vstack(rows))
