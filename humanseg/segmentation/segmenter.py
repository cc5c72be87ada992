"""Segmentation as a library, without a server: loads weights and segments photos."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from humanseg.segmentation import picture, pipeline
from humanseg.segmentation.calibration import UNCHANGED, Calibration
from humanseg.segmentation.engine import Engine
from humanseg.segmentation.models import load_model, reference
from humanseg.segmentation.photo import Photo, Pixels, read_photo
from humanseg.segmentation.regions import MAIN
from humanseg.segmentation.result import Segmentation, Summary
from humanseg.segmentation.spec import Spec


@dataclass(frozen=True)
class SegmentedPhoto:
    """A segmented photo. The pictures are Pillow images of the photo's upright size."""

    photo: Photo
    segmentation: Segmentation
    calibration: Calibration = UNCHANGED

    @property
    def summary(self) -> Summary:
        """Coverage, confidence and bounding box."""
        return self.segmentation.summary(self.calibration)

    def mask(self) -> Image.Image:
        """The mask: white is person, black is background (mode "L")."""
        return Image.fromarray(self.segmentation.mask)

    def probability(self) -> Image.Image:
        """255 = certainly a person (mode "L")."""
        return Image.fromarray(self.segmentation.probability)

    def cutout(self) -> Image.Image:
        """The person on a transparent background (mode "RGBA")."""
        return self._draw("cutout")

    def overlay(self) -> Image.Image:
        """The photo with the person tinted."""
        return self._draw("overlay")

    def composite(self, background: str = "#ffffff") -> Image.Image:
        """The person on a colour (`#rrggbb`) or on the blurred photo ("blur")."""
        return self._draw("composite", background)

    def _draw(self, output: str, background: str = "#ffffff") -> Image.Image:
        drawn: Pixels = picture.draw(self.photo, self.segmentation, output, background)
        image = Image.fromarray(drawn)
        if self.photo.icc_profile:
            image.info["icc_profile"] = self.photo.icc_profile
        return image


class Segmenter:
    """Segments people in photos.

    >>> segmenter = Segmenter.load("model_store/human_segmentation.safetensors")  # doctest: +SKIP
    >>> segmenter("photo.jpg").cutout().save("cutout.png")  # doctest: +SKIP
    """

    def __init__(self, engine: Engine, spec: Spec) -> None:
        self.engine, self.spec = engine, spec

    @classmethod
    def load(cls, weights: str | os.PathLike[str], *, threads: int = 0) -> Segmenter:
        """Load a segmenter that runs on the CPU in float32: a checkpoint in PyTorch, a graph in OpenVINO.

        Args:
            weights: a file of `humanseg train`, or a checkpoint or graph that `build_mar.sh` accepts.
            threads: of PyTorch; 0 keeps the default.

        Raises:
            WeightsError: the file contains no supported network.
        """
        model = load_model(Path(weights))
        return cls(reference(model, threads=threads), model.spec)

    def __call__(
        self,
        photo: str | os.PathLike[str] | bytes,
        *,
        threshold: float | None = None,
        keep: str = MAIN,
        quality: str = "fast",
        max_pixels: int = 50_000_000,
    ) -> SegmentedPhoto:
        """Segment one photo.

        Args:
            photo: a path, or the bytes of a JPEG, PNG, WebP, GIF, TIFF, BMP, HEIC or AVIF file.
            threshold: 0..1 exclusive; None uses the one stored with the weights.
            keep: "main" (the people whom the photo is about), "all", or "largest" for the largest region only.
            quality: "fast", or "best" for test-time augmentation.
            max_pixels: larger photos are rejected.

        Raises:
            PhotoError: the photo cannot be read; the message has the cause and the fix.
            OSError: the file cannot be opened.
        """
        data = photo if isinstance(photo, bytes) else Path(photo).read_bytes()
        read = read_photo(data, max_pixels=max_pixels)
        found = pipeline.segment(self.engine, self.spec, read.pixels, threshold=threshold, keep=keep, quality=quality)
        return SegmentedPhoto(read, found, self.spec.calibration)
