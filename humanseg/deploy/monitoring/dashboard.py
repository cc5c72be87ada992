"""The Grafana dashboard, generated from one table.

    python -m humanseg.deploy.monitoring.dashboard > deploy/monitoring/dashboard.json

Each panel answers one question about the service. Queries use the recording rules, so that the dashboard and the
alerts are consistent.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 8, 7  # of a panel; a row has 24 columns


@dataclass(frozen=True)
class Panel:
    """One graph: `queries` is (PromQL, legend) pairs, `unit` is Grafana's name for one."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    alarm: float | None = None  # the alert's threshold


def or_zero(query: str) -> str:
    """`query`, or 0 for a counter without samples."""
    return f"{query} or vector(0)"


def mean(histogram: str) -> str:
    """The mean of a histogram over an hour, by model version."""
    return " / ".join(
        f'sum by (model_version) (rate({histogram}_{part}{{job="humanseg"}}[1h]))' for part in ("sum", "count")
    )


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Availability",
        (
            Panel("Servers scraped", "short", (('up{job="humanseg"}', "{{instance}}"),)),
            Panel(
                "Worker starts in 15 minutes",
                "short",
                (("instance:humanseg_worker_starts:changes15m", "{{instance}}"),),
                alarm=2,
            ),
            Panel(
                "Share of 5xx",
                "percentunit",
                (("instance:humanseg_errors:share5m", "{{instance}}"),),
                alarm=0.01,
            ),
        ),
    ),
    (
        "Traffic and latency",
        (
            Panel(
                "Photos per second, by status",
                "short",
                (('sum by (status) (rate(humanseg_photos_total{job="humanseg"}[5m]))', "{{status}}"),),
            ),
            Panel(
                "Photos per second, by output",
                "short",
                (('sum by (output) (rate(humanseg_photos_total{job="humanseg"}[5m]))', "{{output}}"),),
            ),
            Panel(
                "Request latency, p95 (upper estimate)",
                "s",
                (("instance:humanseg_request_seconds:p95", "{{instance}}"),),
                alarm=3,
            ),
            Panel(
                "Mean queue time",
                "s",
                (("instance:humanseg_queue_seconds:mean5m", "{{instance}}"),),
                alarm=1,
            ),
            Panel(
                "Mean time in TorchServe",
                "s",
                (("instance:humanseg_inference_seconds:mean5m", "{{instance}}"),),
            ),
            Panel(
                "Latency by step, p95",
                "s",
                (
                    ("max(instance:humanseg_decode_seconds:p95)", "decode"),
                    ("max(instance:humanseg_forward_seconds:p95)", "forward"),
                    ("max(instance:humanseg_encode_seconds:p95)", "encode"),
                ),
            ),
        ),
    ),
    (
        "Photos",
        (
            Panel(
                "Mean share of person pixels",
                "percentunit",
                ((mean("humanseg_coverage_ratio"), "{{model_version}}"),),
            ),
            Panel(
                "Mean confidence",
                "percentunit",
                ((mean("humanseg_confidence_ratio"), "{{model_version}}"),),
            ),
            Panel(
                "Client errors per second",
                "short",
                (('sum by (type) (rate(humanseg_client_errors_total{job="humanseg"}[5m]))', "{{type}}"),),
            ),
        ),
    ),
    (
        "Archive",
        (
            Panel(
                "Records per second",
                "short",
                (
                    ('sum(rate(archive_spooled_total{job="humanseg"}[5m]))', "spooled"),
                    ('sum(rate(archive_shipped_total{job="humanseg"}[5m]))', "shipped"),
                ),
            ),
            Panel(
                "Age of the oldest record in the spool",
                "s",
                (("instance:humanseg_archive_oldest_seconds:max", "{{instance}}"),),
                alarm=900,
            ),
            Panel(
                "Segments in the spool",
                "short",
                (('max by (instance) (archive_spool_segments{job="humanseg"})', "{{instance}}"),),
            ),
            Panel(
                "Bytes in the spool",
                "bytes",
                (('max by (instance) (archive_spool_bytes{job="humanseg"})', "{{instance}}"),),
            ),
            Panel(
                "Records dropped or quarantined per hour",
                "short",
                (
                    (or_zero('sum(increase(archive_dropped_total{job="humanseg"}[1h]))'), "dropped"),
                    (or_zero('sum(increase(archive_rejected_total{job="humanseg"}[1h]))'), "quarantined"),
                ),
                alarm=0,
            ),
            Panel(
                "Upload time, p95",
                "s",
                (
                    (
                        "histogram_quantile(0.95, sum by (instance, le) "
                        '(rate(archive_upload_seconds_bucket{job="humanseg"}[5m])))',
                        "{{instance}}",
                    ),
                ),
            ),
        ),
    ),
    (
        "The machine",
        (
            Panel("CPU", "percent", (('max by (instance) (CPUUtilization{job="humanseg"})', "{{instance}}"),)),
            Panel(
                "Memory",
                "percent",
                (('max by (instance) (MemoryUtilization{job="humanseg"})', "{{instance}}"),),
            ),
            Panel(
                "Disk",
                "percent",
                (('max by (instance) (DiskUtilization{job="humanseg"})', "{{instance}}"),),
                alarm=85,
            ),
        ),
    ),
)


def dashboard() -> dict[str, Any]:
    """The dashboard in Grafana's JSON model (schema 39: Grafana 10 and later)."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS:
        panels.append(
            {
                "type": "row",
                "title": title,
                "gridPos": {"x": 0, "y": top, "w": 24, "h": 1},
                "collapsed": False,
            }
        )
        top += 1
        for place, panel in enumerate(row):
            x, y = place % 3 * WIDTH, top + place // 3 * HEIGHT
            panels.append(_graph(panel, {"x": x, "y": y, "w": WIDTH, "h": HEIGHT}))
        top += -(-len(row) // 3) * HEIGHT
    return {
        "title": "humanseg",
        "uid": "humanseg",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]
        },
        "panels": [{"id": number, **panel} for number, panel in enumerate(panels, 1)],
    }


def _graph(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    custom: dict[str, Any] = {}
    if panel.alarm is not None:
        steps.append({"color": "red", "value": panel.alarm})
        custom = {"thresholdsStyle": {"mode": "line"}}
    return {
        "type": "timeseries",
        "title": panel.title,
        "gridPos": place,
        "datasource": source,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "custom": custom,
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": source, "expr": expr, "legendFormat": legend}
            for number, (expr, legend) in enumerate(panel.queries)
        ],
    }


if __name__ == "__main__":
    json.dump(dashboard(), sys.stdout, indent=1)
    print()
