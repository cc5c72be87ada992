"""Connects the handler to the archive: turns a segmented photo into an exchange, and settings into an archive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple
from datetime import datetime
from typing import Any

from handler.metrics import Metrics
from handler.options import Options
from handler.request import PhotoRequest
from handler.response import Origin, Response
from humanseg.archive.capture.hook import Archive
from humanseg.archive.capture.record import Exchange
from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.common.names import state_dir
from humanseg.common.probe import PROBE
from humanseg.segmentation.appearance import appearance_of
from humanseg.segmentation.photo import Photo
from humanseg.segmentation.picture import encode
from humanseg.segmentation.result import Segmentation, Summary


class PhotoArchive:
    """The archive as the handler sees it."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def keep(
        self,
        request: PhotoRequest,
        photo: Photo,
        segmentation: Segmentation,
        summary: Summary,
        origin: Origin,
        seconds: Mapping[str, float],
        time: datetime,
        response: Response,
    ) -> str:
        """Spool the record. Never raises; "spooled", "declined", "sampled-out" or "dropped"."""
        options = request.options
        if request.photo == PROBE:  # readiness and health checks are not user photos
            return "declined"
        exchange = Exchange(
            request_id=origin.request_id,
            time=time,
            model_name=origin.model_name,
            model_version=origin.model_version,
            weights_sha256=origin.weights_sha256,
            photo=request.photo,
            photo_format=photo.format,
            orientation=photo.orientation,
            width=summary.width,
            height=summary.height,
            mask_png=lambda: response.body if is_mask(options) else encode(segmentation.mask, "png"),
            options=options.given(),
            coverage=summary.coverage,
            confidence=summary.confidence,
            stage_seconds=seconds,
            consent=None if options.archive is None else options.archive == "yes",
            label=options.label,
            appearance=lambda: astuple(appearance_of(photo.pixels)),
        )
        return str(self._archive.keep(exchange).value)


def is_mask(options: Options) -> bool:
    """Whether the response is the full mask as a PNG, so that it need not be encoded again."""
    return (options.output, options.format, options.crop) == ("mask", "png", "none")


def open_archive(section: Mapping[str, Any] | None, metrics: Metrics) -> PhotoArchive:
    """Start the archive that the `archive:` section and the environment configure, with its uploader."""
    settings = ArchiveSettings.from_mapping(section)
    return PhotoArchive(Archive.start(settings, state_dir(), metrics=metrics))
