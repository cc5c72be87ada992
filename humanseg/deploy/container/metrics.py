"""Metrics for the fleet's scaling and alarms, as log lines that CloudWatch converts to metrics.

The embedded metric format needs only the permission to write logs; `cloudwatch:PutMetricData` has no resource but
"*".
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

import json
import math
import re
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

NAMESPACE = "HumanSeg"
PERIOD = 60.0  # seconds between two lines
_SAMPLE = re.compile(r"^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{.*\})? ([0-9.eE+-]+|NaN)(?: [0-9]+)?$")
_ANSWERED = re.compile(r'^humanseg_photos_total\{[^}]*status="200"[^}]*\} ([0-9.eE+-]+)', re.MULTILINE)


@dataclass(frozen=True)
class Counts:
    """Counters since the start: requests, and microseconds in the queue."""

    requests: float = 0.0
    queue_microseconds: float = 0.0


def scrape(environment: Mapping[str, str], *, timeout: float = 5.0) -> str:
    """The metrics page of this container's own server. Raises OSError."""
    address = environment.get("METRICS_ADDRESS") or "127.0.0.1"
    host = "127.0.0.1" if address == "0.0.0.0" else address
    url = f"http://{host}:{environment.get('METRICS_PORT') or 8082}/metrics"
    with urllib.request.urlopen(url, timeout=timeout) as answer:
        return str(answer.read().decode())


def totals(page: str) -> dict[str, float]:
    """Each metric of a page in Prometheus' text format, summed over its labels."""
    values: dict[str, float] = {}
    for line in page.splitlines():
        if match := _SAMPLE.match(line):
            values[match[1]] = values.get(match[1], 0.0) + float(match[2])
    return values


def answered(environment: Mapping[str, str]) -> float:
    """The number of photos answered with 200 since the start; NaN if unknown."""
    try:
        page = scrape(environment, timeout=2.0)
    except OSError:
        return math.nan
    return sum(map(float, _ANSWERED.findall(page)))


def embedded(stack: str, page: str, before: Counts, healthy: bool) -> tuple[str, Counts]:
    """One line in the embedded metric format, and the counters for the next call.

    QueueMilliseconds is the mean queue time of the requests since `before`, 0 without requests.
    """
    now = totals(page)
    counts = Counts(now.get("ts_inference_requests_total", 0.0), now.get("ts_queue_latency_microseconds", 0.0))
    new = counts.requests - before.requests
    waited = counts.queue_microseconds - before.queue_microseconds
    values = {
        "QueueMilliseconds": round(waited / new / 1000, 3) if new > 0 and waited >= 0 else 0.0,
        "ArchiveOldestSeconds": now.get("archive_spool_oldest_seconds", 0.0),
        "Healthy": float(healthy),
    }
    units = {"QueueMilliseconds": "Milliseconds", "ArchiveOldestSeconds": "Seconds", "Healthy": "None"}
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [["Stack"]],
        "Metrics": [{"Name": name, "Unit": units[name]} for name in values],
    }
    envelope = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}
    return json.dumps({"_aws": envelope, "Stack": stack, **values}), counts
