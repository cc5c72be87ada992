"""Metrics of this worker for TorchServe's Prometheus endpoint.

A worker has no port. It writes a log line, which the frontend parses; a metric that config/metrics.yaml does not
declare is dropped. Histograms have the frontend's buckets, 5 ms to 10 s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from handler.response import Response
from humanseg.segmentation.result import Summary


class Metrics(Protocol):
    """A metrics backend. The archive uses the same three methods (humanseg.archive.capture.telemetry)."""

    def count(self, name: str, labels: Mapping[str, str], amount: int = 1) -> None:
        """Add `amount`."""

    def gauge(self, name: str, value: float) -> None:
        """Set a gauge."""

    def observe(self, name: str, value: float) -> None:
        """Add to a histogram."""


class TorchServeMetrics:
    """Writes to TorchServe's metrics cache and appends the model's name and version to the labels."""

    def __init__(self, cache: Any, model_name: str, model_version: str) -> None:
        from ts.metrics.metric_type_enum import MetricTypes

        self._cache, self._types = cache, MetricTypes
        self._model = (model_name, model_version)
        self._found: dict[str, Any] = {}

    def count(self, name: str, labels: Mapping[str, str], amount: int = 1) -> None:
        """Add to a counter. The values of `labels` are in the order in which metrics.yaml declares their names."""
        self._update(self._types.COUNTER, name, amount, tuple(labels.values()))

    def gauge(self, name: str, value: float) -> None:
        """Set a gauge."""
        self._update(self._types.GAUGE, name, value, ())

    def observe(self, name: str, value: float) -> None:
        """Add to a histogram: seconds, or a ratio of 0..1."""
        self._update(self._types.HISTOGRAM, name, round(value, 6), ())

    def _update(self, kind: Any, name: str, value: float, labels: tuple[str, ...]) -> None:
        if name not in self._found:
            cached = self._cache.cache.get(kind, {}).get(name)
            # TorchServe without our metrics.yaml does not know this metric; its frontend drops the line.
            names = [*(f"label{index}" for index in range(len(labels))), "model_name", "model_version"]
            self._found[name] = cached or self._cache.add_metric_to_cache(name, "Count", names, kind)
        self._found[name].add_or_update(value, [*labels, *self._model])


def count_response(
    metrics: Metrics, response: Response, output: str, quality: str, error: str | None, key: str | None
) -> None:
    """Count one answered request: by output, quality and status, by client error, and by the API key's name."""
    labels = {"output": output, "quality": quality, "status": str(response.status)}
    metrics.count("humanseg_photos_total", labels)
    if error is not None:
        metrics.count("humanseg_client_errors_total", {"type": error})
    if key is not None:
        metrics.count("humanseg_key_requests_total", {"key": key, "status": str(response.status)})


def observe_photo(metrics: Metrics, summary: Summary, seconds: Mapping[str, float]) -> None:
    """Observe one segmented photo: seconds by stage, coverage and confidence."""
    for stage, took in seconds.items():
        metrics.observe(f"humanseg_{stage}_seconds", took)
    metrics.observe("humanseg_coverage_ratio", summary.coverage)
    metrics.observe("humanseg_confidence_ratio", summary.confidence)
