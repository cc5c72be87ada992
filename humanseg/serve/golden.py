"""Golden predictions: the results of a .mar's weights for two pictures, recorded in it at build time.

`humanseg release` repeats them on a server that has just loaded the .mar, before the version gets traffic. This
detects a wrong engine, a broken file, or different preprocessing. One picture is the public-domain portrait of Eileen
Collins (NASA), the other a grey gradient without people.
"""

from __future__ import annotations

import base64
import io
import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from humanseg.segmentation.spec import Spec

NAME = "golden.json"
PORTRAIT = Path(__file__).with_name("golden.jpg")
CELLS = 16  # per side; the mean probability of a cell is compared
# Allowed mean difference of the cells: workers compute in bfloat16, the recording is in float32. With the shipped
# weights the difference is 0.011 (one uncertain cell changes by 0.17). Another size gives 0.03, the weights of
# another run, or swapped red and blue, 0.05.
TOLERANCE = 0.02


@dataclass(frozen=True)
class Golden:
    """One picture and its recorded result. photo: the file, base64. cells: CELLS rows of mean probability, 0..1."""

    name: str
    photo: str
    cells: tuple[tuple[float, ...], ...]

    @property
    def photo_bytes(self) -> bytes:
        """The picture's file."""
        return base64.b64decode(self.photo)

    def difference(self, probability: NDArray[np.uint8]) -> float:
        """The mean difference of a result, uint8 [H, W], 255 = certain, from the recorded cells: 0..1."""
        return float(np.abs(cells(probability) - np.array(self.cells)).mean())


def pictures() -> dict[str, bytes]:
    """The pictures by name, as files whose bytes never change."""
    ramp = np.tile(np.linspace(60, 200, 192, dtype=np.uint8), (128, 1))
    file = io.BytesIO()
    Image.fromarray(ramp).save(file, "png")
    return {"portrait": PORTRAIT.read_bytes(), "nobody": file.getvalue()}


def cells(probability: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean probability, 0..1, of each of CELLS x CELLS cells of a picture, uint8 [H, W] with 255 = certain."""
    rows = np.array_split(probability / 255, CELLS)
    return np.array([[cell.mean() for cell in np.array_split(row, CELLS, axis=1)] for row in rows])


def write_golden(graph: Path, spec: Spec, folder: Path) -> None:
    """Write golden.json into `folder`: the results of the network in `graph` with OpenVINO in float32."""
    from humanseg.segmentation.engine import OpenVinoEngine
    from humanseg.segmentation.photo import read_photo
    from humanseg.segmentation.pipeline import probability

    engine = OpenVinoEngine(graph, spec, threads=1, precision="float32")
    made = []
    for name, data in pictures().items():
        predicted = probability(engine, spec, read_photo(data).pixels)
        # Rounded, so that differences in the last bit between CPUs rarely change the .mar's bytes.
        rows = tuple(tuple(round(float(cell), 2) for cell in row) for row in cells(predicted))
        made.append(Golden(name, base64.b64encode(data).decode(), rows))
    (folder / NAME).write_text(json.dumps([asdict(item) for item in made], indent=1) + "\n")


def drift(graph: Path, spec: Spec, folder: Path) -> float:
    """The difference of this machine's precision from the recording of `write_golden`: mean over the cells, 0..1.

    0 if the CPU has no bfloat16. Above TOLERANCE, a release to servers on such machines would fail.
    """
    from humanseg.segmentation.engine import OpenVinoEngine
    from humanseg.segmentation.photo import read_photo
    from humanseg.segmentation.pipeline import probability

    engine = OpenVinoEngine(graph, spec, threads=1, precision="auto")
    if "bfloat16" not in engine.name:
        return 0.0
    recorded = _golden((folder / NAME).read_text())
    return max(item.difference(probability(engine, spec, read_photo(item.photo_bytes).pixels)) for item in recorded)


def _golden(text: str | bytes) -> tuple[Golden, ...]:
    return tuple(Golden(**{**entry, "cells": tuple(map(tuple, entry["cells"]))}) for entry in json.loads(text))


def read_golden(mar: Path) -> tuple[Golden, ...]:
    """The golden predictions in a .mar; empty if it was built without. Raises OSError, BadZipFile."""
    with zipfile.ZipFile(mar) as archive:
        if NAME not in archive.namelist():
            return ()
        return _golden(archive.read(NAME))
