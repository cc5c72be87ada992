"""The class that TorchServe loads. It shows the request path on one page and contains no image code.

bytes -> request.py -> humanseg.segmentation (photo, pipeline, engine, picture) -> response.py -> bytes, then archive.

A batch passes each step once. If a step fails for one photo, only that photo's client gets an error: an exception
from `handle` would fail the whole batch.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from handler import response
from handler.apikeys import KEY_FIELD, KeyLimit, KeyRing, sent_key
from handler.archiving import open_archive
from handler.clips import ClipRoom, make_clip, progress_response, wants_clip
from handler.corrections import is_correction, keep, read_correction
from handler.errors import FAULTS_OF_THE_CALLER, ClientError, error_type
from handler.facts import public_facts, service_facts
from handler.job import Job
from handler.metrics import TorchServeMetrics, count_response, observe_photo
from handler.options import refuse_without_effect
from handler.pixel_budget import open_budget
from handler.request import PhotoRequest, is_description, is_visit, parse_requests, wanted_type
from handler.settings import handler_settings
from handler.torchserve import keep_repeated_fields, quieten_logs, request_headers
from humanseg.common.apikeys import ApiKey
from humanseg.common.probe import PROBE
from humanseg.segmentation import pipeline
from humanseg.segmentation.augmented import FINEST, predict_augmented
from humanseg.segmentation.engine import make_engine, warm_up
from humanseg.segmentation.frame import Batch, photo_map
from humanseg.segmentation.model_files import GRAPH, ModelInfo
from humanseg.segmentation.photo import read_photo
from humanseg.segmentation.picture import NEEDS_PHOTO
from humanseg.segmentation.pipeline import at_photo_size, preprocess

logger = logging.getLogger(__name__)

CLIP_SHARE = 0.75  # of TorchServe's response timeout: the share that a clip may use


class SegmentationHandler:
    """Photos in, masks out. TorchServe calls `initialize` once in each worker, then `handle` for each batch."""

    def initialize(self, context: Any) -> None:
        """Load settings, weights and archive. Any error stops the load with a message that names it."""
        keep_repeated_fields()
        quieten_logs()
        folder = Path(context.system_properties["model_dir"])
        config = context.model_yaml_config or {}
        try:
            self.settings = handler_settings(config)
            # Set by the container: a JSON line per request costs throughput; access_log.log has the requests anyway.
            self.log_requests = os.environ.get("LOG_REQUESTS") == "1"
            keys = os.environ.get("API_KEYS_FILE")
            state = Path(os.environ.get("STATE_DIR", folder))
            health = os.environ.get("HEALTH_KEY_HASH")
            self.keys = KeyRing(Path(keys), health, used=state / "keys-used") if keys else None
            self.key_limit = None
            if self.settings.photos_per_key:
                self.key_limit = KeyLimit(state / "key-slots", self.settings.photos_per_key)
            self.model = ModelInfo.read(folder)
            self.name, self.version = context.model_name, context.manifest["model"]["modelVersion"]
            self.metrics = TorchServeMetrics(context.metrics, self.name, self.version)
            self.page = (folder / "handler" / "page.html").read_bytes()
            self.openapi = (folder / "docs" / "openapi.yaml").read_bytes()
            self.most_pixels = int(self.settings.max_megapixels * 1e6)
            self.threshold = self.settings.threshold or self.model.spec.threshold
            self.engine = make_engine(
                self.settings.engine,
                graph=folder / GRAPH,
                source=folder / self.model.source if self.model.source else None,
                spec=self.model.spec,
                threads=self.settings.threads or int(os.environ.get("OMP_NUM_THREADS", "1")),
                precision=self.settings.precision,
                gpu=context.system_properties.get("gpu_id"),
            )
            warm_up(self.engine, self.model.spec)
            self.clips = ClipRoom(
                ask=lambda pixels, quality: pipeline.probability(
                    self.engine, self.model.spec, pixels, quality=quality, threshold=self.threshold
                ),
                spec=self.model.spec.as_mapping(),
                threshold=self.threshold,
                max_seconds=self.settings.max_video_seconds,
                deadline=CLIP_SHARE * float(config.get("responseTimeout", 120)),
            )
            self.budget = open_budget(os.environ)
            self.facts = service_facts(
                self.name, self.version, self.model, self.engine.name, self.threshold, self.settings
            )
            self.archive = open_archive(config.get("archive"), self.metrics)
        except Exception as error:
            logger.error("The model was not loaded: %s", error)
            raise
        logger.info("Model %s %s on %s, from %s", self.name, self.version, self.engine.name, folder)

    def handle(self, rows: list[Mapping[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch: one body per row, with status, content type and headers set in `context`."""
        try:
            return self.answer(rows, context)
        finally:
            for taken in (self.budget, self.key_limit):
                if taken:
                    taken.release()

    def answer(self, rows: list[Mapping[str, Any]], context: Any) -> list[bytes]:
        """Each step for the whole batch."""
        jobs = [Job(index, context.get_request_id(index)) for index in range(len(rows))]
        for job, row in zip(jobs, rows, strict=True):
            self.guarded(job, self.decode, row, request_headers(context, job.index))
        self.forward([job for job in jobs if job.response is None])
        for job in jobs:
            if job.response is None:
                self.guarded(job, self.encode)
        for job in jobs:
            self.deliver(job, context)
        return [job.response.body for job in jobs if job.response]

    def decode(self, job: Job, row: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        """Convert a request to the network's frame, or to a response if it needs no network or has several photos."""
        if is_description(headers):
            self.authorize(job, row, headers)
            job.response = response.document_response(
                json.dumps(public_facts(self.facts)).encode(), "application/json"
            )
            return
        if is_visit(row, headers):
            job.response = self.visited(job, row, headers)
            return
        key = self.authorize(job, row, headers)
        row = {name: value for name, value in row.items() if name != KEY_FIELD}
        if is_correction(row):
            correction = read_correction(row, job.request_id, max_pixels=self.most_pixels, admit=self.admit)
            job.response = keep(correction, self.archive, self.version)
            return
        requests = parse_requests(row, headers, max_label=self.settings.max_label)
        if key and self.key_limit:
            self.key_limit.take(key, len(requests))
        if len(requests) > 1:
            self.predict_each(job, requests)
        else:
            self.read(job, requests[0], self.most_pixels)

    def admit(self, pixels: int) -> None:
        """Take so many pixels from the budget that all workers share. Raises Busy."""
        if self.budget:
            self.budget.take(pixels)

    def authorize(self, job: Job, row: Mapping[str, Any], headers: Mapping[str, str]) -> ApiKey | None:
        """Check the API key. Returns its entry, or None if the server has no keys."""
        if self.keys is None:
            return None
        key = self.keys.check(sent_key(headers, row))
        job.key = key.name
        return key

    def visited(self, job: Job, row: Mapping[str, Any], headers: Mapping[str, str]) -> response.Response:
        """The page for a browser, service information for `Accept: application/json`, OpenAPI for YAML."""
        wanted = wanted_type(next((value for name, value in headers.items() if name.lower() == "accept"), ""))
        if wanted in ("application/yaml", "application/openapi+yaml", "text/yaml"):
            return response.document_response(self.openapi, "application/yaml")
        if wanted == "application/json":
            self.authorize(job, row, headers)
            return response.document_response(json.dumps(self.facts).encode(), "application/json")
        return response.document_response(self.page, "text/html; charset=utf-8")

    def predict_each(self, job: Job, requests: list[PhotoRequest | ClientError]) -> None:
        """Answer the photos of one request one after another, to need the memory of one.

        Together they have the pixel limit of one photo: a worker must answer within `responseTimeout`.
        """
        bodies = []
        left = self.most_pixels
        for number, request in enumerate(requests):
            one = Job(job.index, f"{job.request_id}-{number}")
            self.guarded(one, self.read, request, left)
            if one.photo:
                left -= one.photo.width * one.photo.height
            if one.response is None:
                self.forward([one])
            if one.response is None:
                self.guarded(one, self.encode)
            self.count(one)
            assert one.response
            bodies.append(one.response.body)
        job.counted = True
        job.response = response.predictions(bodies, {"x-model-version": self.version})

    def read(self, job: Job, request: PhotoRequest | ClientError, most_pixels: int) -> None:
        """Decode a photo into the network's frame."""
        if isinstance(request, ClientError):
            raise request
        job.request = request
        if not request.photo and request.options.progress:
            job.response = progress_response(request.options.progress)
            return
        if wants_clip(request.photo, request.options):
            job.response = make_clip(request, self.clips, self.origin(job), self.archive)
            return
        refuse_without_effect(request.options, clip=False)
        start = time.perf_counter()
        options, spec = job.request.options, self.model.spec
        closely = options.quality == "best"
        least_side = spec.least_side * FINEST if closely else spec.least_side
        job.photo = read_photo(
            job.request.photo,
            max_pixels=most_pixels,
            least_side=None if options.output in NEEDS_PHOTO else least_side,
            admit=self.admit,
        )
        job.frame = None if closely else preprocess(job.photo.pixels, spec)
        job.seconds["decode"] = time.perf_counter() - start

    def forward(self, jobs: list[Job]) -> None:
        """Run the network once for all photos of a shape; each photo gets its share of the time.

        A photo with test-time augmentation runs alone.
        """
        alike: dict[tuple[int, ...], list[tuple[Job, Batch]]] = {}
        for job in jobs:
            if job.frame is None:
                self.guarded(job, self.forward_augmented)
                continue
            alike.setdefault(job.frame.shape, []).append((job, job.frame))
        for group in alike.values():
            start = time.perf_counter()
            probabilities = self.engine(np.stack([frame for _, frame in group]))
            share = (time.perf_counter() - start) / len(group)
            for (job, _), probability in zip(group, probabilities, strict=True):
                job.probability = probability
                job.seconds["forward"] = share

    def forward_augmented(self, job: Job) -> None:
        """Test-time augmentation of one photo."""
        assert job.photo
        start = time.perf_counter()
        job.probability = predict_augmented(self.engine, self.model.spec, job.photo.pixels, self.threshold)
        job.seconds["forward"] = time.perf_counter() - start

    def encode(self, job: Job) -> None:
        """Turn the probability into the response, and spool the archive record."""
        assert job.request and job.photo and job.probability is not None
        start = time.perf_counter()
        photo, options = job.photo, job.request.options
        probability_map = job.probability
        if job.frame is not None:
            height, width = photo.pixels.shape[:2]
            probability_map = photo_map(job.probability, job.frame, self.model.spec, height, width)
        segmentation = at_photo_size(
            probability_map,
            photo.width,
            photo.height,
            threshold=options.threshold or self.threshold,
            keep=options.keep,
        )
        summary = segmentation.summary(self.model.spec.calibration)
        origin = self.origin(job)
        job.response = response.respond(photo, segmentation, summary, origin, job.request, job.seconds, start)
        if job.request.photo != PROBE:
            observe_photo(self.metrics, summary, job.seconds)
        now = datetime.now(timezone.utc)
        job.response.headers["x-archived"] = self.archive.keep(
            job.request, photo, segmentation, summary, origin, job.seconds, now, job.response
        )

    def origin(self, job: Job) -> response.Origin:
        """Who answers a photo."""
        return response.Origin(job.request_id, self.name, self.version, self.model.weights_sha256)

    def guarded(self, job: Job, step: Any, *arguments: Any) -> None:
        """Run one step for one photo and turn an error into its response."""
        try:
            step(job, *arguments)
        except FAULTS_OF_THE_CALLER as error:
            job.error = error_type(error)
            job.response = response.error_response(error, job.request_id)
        except Exception:
            logger.exception("Request %s failed", job.request_id)
            job.response = response.failure(
                500, "InternalError", "The server failed on this photo. See its log for the cause.", job.request_id
            )

    def deliver(self, job: Job, context: Any) -> None:
        """Pass the response to TorchServe, and count it."""
        answer = job.response
        assert answer
        if job.request and job.request.kserve and answer.status == 200 and job.request.options.output == "json":
            answer = response.predictions([answer.body], answer.headers)
            job.response = answer
        context.set_response_status(answer.status, response.phrase(answer.status), job.index)
        context.set_response_content_type(job.index, answer.content_type)
        for name, value in {**answer.headers, "x-content-type-options": "nosniff"}.items():
            context.set_response_header(job.index, name, value)
        if not job.counted:
            self.count(job)

    def count(self, job: Job) -> None:
        """Count a photo's response, and log it if enabled."""
        answer, options = job.response, job.request.options if job.request else None
        assert answer
        if job.request and job.request.photo == PROBE:
            return  # a health check: it must not count as traffic
        output, quality = (options.output, options.quality) if options else ("none", "none")
        count_response(self.metrics, answer, output, quality, job.error, job.key)
        if self.log_requests:
            said = {
                "request_id": job.request_id,
                "status": answer.status,
                "output": output,
                "error": job.error,
                **({"key": job.key} if job.key else {}),
            }
            milliseconds = {stage: round(1000 * seconds, 1) for stage, seconds in job.seconds.items()}
            archived = answer.headers.get("x-archived")
            logger.info(json.dumps({**said, "milliseconds": milliseconds, "archived": archived}))
