"""Golden predictions: what a .mar's own weights made of two pictures when it was built, kept inside it.

`humanseg release` asks a server that has just loaded the .mar the same, before anybody else is answered by it. A
wrong engine, a broken file, other preprocessing: each shows here. One picture is the public-domain portrait of
Eileen Collins (NASA), the other a grey gradient with nobody in it.
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
CELLS = 16  # each way; the mean probability of a cell is compared
# Cells may differ by so much in the mean: workers calculate in bfloat16, the recording is in float32. With the
# shipped weights that makes 0.011 (one cell, where the network is unsure, moves by 0.17). Another size makes 0.03,
# the weights of another run, or red and blue exchanged, 0.05.
TOLERANCE = 0.02


@dataclass(frozen=True)
class Golden:
    """One picture and what was made of it. photo: the file, base64. cells: CELLS rows of mean probability, 0..1."""

    name: str
    photo: str
    cells: tuple[tuple[float, ...], ...]

    @property
    def photo_bytes(self) -> bytes:
        """The picture's file."""
        return base64.b64decode(self.photo)

    def difference(self, probability: NDArray[np.uint8]) -> float:
        """How far an answer, uint8 [H, W] with 255 = certain, is from the recorded one: mean over the cells, 0..1."""
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
    """Write golden.json into `folder`: what OpenVINO in float32 makes of the pictures with the network in `graph`."""
    from humanseg.segmentation.engine import OpenVinoEngine
    from humanseg.segmentation.photo import read_photo
    from humanseg.segmentation.pipeline import probability

    engine = OpenVinoEngine(graph, spec, threads=1, precision="float32")
    made = []
    for name, data in pictures().items():
        found = probability(engine, spec, read_photo(data).pixels)
        # Rounded, so that another CPU's last bit seldom makes other bytes of the same .mar.
        rows = tuple(tuple(round(float(cell), 2) for cell in row) for row in cells(found))
        made.append(Golden(name, base64.b64encode(data).decode(), rows))
    (folder / NAME).write_text(json.dumps([asdict(each) for each in made], indent=1) + "\n")


def drift(graph: Path, spec: Spec, folder: Path) -> float:
    """How far this machine's own precision is from what `write_golden` recorded: mean over the cells, 0..1.

    0 where the CPU has no bfloat16. Above TOLERANCE, servers on such machines would be refused a release.
    """
    from humanseg.segmentation.engine import OpenVinoEngine
    from humanseg.segmentation.photo import read_photo
    from humanseg.segmentation.pipeline import probability

    engine = OpenVinoEngine(graph, spec, threads=1, precision="auto")
    if "bfloat16" not in engine.name:
        return 0.0
    recorded = _golden((folder / NAME).read_text())
    return max(each.difference(probability(engine, spec, read_photo(each.photo_bytes).pixels)) for each in recorded)


def _golden(text: str | bytes) -> tuple[Golden, ...]:
    return tuple(Golden(**{**each, "cells": tuple(map(tuple, each["cells"]))}) for each in json.loads(text))


def read_golden(mar: Path) -> tuple[Golden, ...]:
    """The golden predictions inside a .mar; none in one that was built without. Raises OSError, BadZipFile."""
    with zipfile.ZipFile(mar) as archive:
        if NAME not in archive.namelist():
            return ()
        return _golden(archive.read(NAME))
