"""What all parts share: a clip of the portrait, and the network in this process."""

from __future__ import annotations

import threading
import zipfile
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image

from benchmarks.servers import ROOT
from benchmarks.video import scenes
from humanseg.segmentation import pipeline
from humanseg.segmentation.engine import make_engine
from humanseg.segmentation.model_files import GRAPH, ModelInfo
from humanseg.segmentation.photo import Pixels
from humanseg.video.convert import Network

SIZE = (1280, 720)
PORTRAIT = ROOT / "tests" / "photos" / "astronaut.jpg"


def portrait() -> Pixels:
    """The portrait of the tests: uint8 [512, 512, 3]."""
    with Image.open(PORTRAIT) as picture:
        return np.asarray(picture.convert("RGB"))


def make_clip(path: Path, count: int) -> Path:
    """The portrait moving over a photograph, 1280x720 at 25 frames a second, H.264."""
    behind = cv2.resize(scenes.backgrounds()[0], SIZE)
    person, alpha = portrait(), np.full((512, 512), 255, np.uint8)
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=25, options={"preset": "veryfast", "crf": "18"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for index in range(count):
            place = np.array([[1.3, 0, 100 + 2 * (index % 200)], [0, 1.3, 60]], np.float32)
            front = cv2.warpAffine(person, place, SIZE)
            share = cv2.warpAffine(alpha, place, SIZE)[..., None] / 255
            picture = (share * front + (1 - share) * behind).astype(np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(stream.encode(None))
    return path


def local_network(mar: Path, folder: Path) -> Network:
    """The network of a .mar in this process, on one thread. folder: where the .mar is unpacked."""
    with zipfile.ZipFile(mar) as archive:
        archive.extractall(folder)
    model = ModelInfo.read(folder)
    engine = make_engine("openvino", graph=folder / GRAPH, source=None, spec=model.spec, threads=1, precision="auto")
    lock = threading.Lock()

    def ask(pixels: Pixels) -> Pixels:
        with lock:
            return pipeline.probability(engine, model.spec, pixels)

    return Network(model.spec, model.spec.threshold, "", ask)
