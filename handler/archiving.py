"""Connects the handler to the archive: turns a segmented photo into an exchange, and settings into an archive."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from datetime import datetime
from typing import TYPE_CHECKING, Any

from handler.metrics import Metrics
from handler.options import Options
from handler.request import PhotoRequest
from handler.response import Origin, Response
from humanseg.archive.capture.correction import Correction
from humanseg.archive.capture.hook import Archive, Outcome
from humanseg.archive.capture.record import ClipFrame, Exchange
from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.common.names import state_dir
from humanseg.common.probe import PROBE
from humanseg.segmentation.appearance import appearance_of
from humanseg.segmentation.photo import Photo
from humanseg.segmentation.picture import encode
from humanseg.segmentation.result import Segmentation, Summary

if TYPE_CHECKING:
    from humanseg.video.sampled import Sampled


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
            consent=options.consent,
            label=options.label,
            appearance=lambda: astuple(appearance_of(photo.pixels)),
        )
        return str(self._archive.keep(exchange).value)

    def keep_correction(self, correction: Correction) -> str:
        """Spool a corrected mask. Never raises; "spooled", "declined" or "dropped"."""
        return str(self._archive.keep_correction(correction).value)

    def wants_frames(self, options: Options) -> bool:
        """Whether frames of a clip with these options are to be kept."""
        return self._archive.wants_frames(options.consent)

    def keep_frames(
        self, request: PhotoRequest, sampled: Sequence[Sampled], origin: Origin, time: datetime
    ) -> tuple[str, int]:
        """Spool a record for each sampled frame of a clip.

        Returns (what became of the clip, number of records): "spooled" where one frame was, else "dropped" where one
        was, else "sampled-out", or "declined" without frames.
        """
        options = request.options
        digest = hashlib.sha256(request.photo).hexdigest()
        outcomes = [
            self._archive.keep(
                Exchange(
                    request_id=f"{origin.request_id}-{number}",
                    time=time,
                    model_name=origin.model_name,
                    model_version=origin.model_version,
                    weights_sha256=origin.weights_sha256,
                    photo=frame.photo.read_bytes(),
                    photo_format="jpeg",
                    orientation=1,
                    width=frame.width,
                    height=frame.height,
                    mask_png=frame.mask.read_bytes,
                    options=options.given(),
                    coverage=frame.coverage,
                    confidence=frame.confidence,
                    consent=options.consent,
                    label=options.label,
                    appearance=lambda frame=frame: frame.appearance,  # type: ignore[misc]
                    clip=ClipFrame(origin.request_id, frame.seconds, digest),
                )
            )
            for number, frame in enumerate(sampled)
        ]
        ranked = (Outcome.SPOOLED, Outcome.DROPPED, Outcome.SAMPLED_OUT)
        became = next((outcome for outcome in ranked if outcome in outcomes), Outcome.DECLINED)
        return str(became.value), outcomes.count(Outcome.SPOOLED)


def is_mask(options: Options) -> bool:
    """Whether the response is the full mask as a PNG, so that it need not be encoded again."""
    return (options.output, options.picture_format, options.crop) == ("mask", "png", "none")


def open_archive(section: Mapping[str, Any] | None, metrics: Metrics) -> PhotoArchive:
    """Start the archive that the `archive:` section and the environment configure, with its uploader."""
    settings = ArchiveSettings.from_mapping(section)
    return PhotoArchive(Archive.start(settings, state_dir(), metrics=metrics))
