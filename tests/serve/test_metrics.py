"""What the metrics port shows after some photos."""

from __future__ import annotations

import re
import time

import requests
import yaml

from tests.running import ROOT, Server

OWN = ("humanseg_", "archive_spooled")


def numbers(server: Server) -> dict[str, float]:
    """Sample name with its labels, without the host's name, to value."""
    text = requests.get(server.metrics_url, timeout=10).text
    lines = re.findall(r"^([a-zA-Z_]+(?:\{.*?\})?) ([0-9.eE+-]+)$", text, re.MULTILINE)
    return {re.sub(r',?[Hh]ostname="[^"]*",?', "", name): float(value) for name, value in lines}


def settled(server: Server) -> dict[str, float]:
    """The numbers when no line of an earlier request is outstanding: the frontend reads a worker's lines later."""
    earlier: dict[str, float] = {}
    while (now := numbers(server)) and earlier != (own := {name: now[name] for name in now if name.startswith(OWN)}):
        earlier = own
        time.sleep(0.5)
    return now


def test_photos_errors_and_stages_are_counted(server: Server, astronaut_jpeg: bytes) -> None:
    model = 'model_name="human_segmentation",model_version="1.0"'
    before = settled(server)
    for output, quality in (("cutout", "fast"), ("cutout", "best"), ("json", "fast")):
        headers = {"x-output": output, "x-quality": quality}
        requests.post(server.predictions, data=astronaut_jpeg, headers=headers, timeout=60)
    requests.post(server.predictions, data=b"no photo", timeout=60)
    wanted = {
        f'humanseg_photos_total{{output="cutout",quality="fast",status="200",{model}}}': 1,
        f'humanseg_photos_total{{output="cutout",quality="best",status="200",{model}}}': 1,
        f'humanseg_photos_total{{output="json",quality="fast",status="200",{model}}}': 1,
        f'humanseg_client_errors_total{{type="NotAnImage",{model}}}': 1,
        f"humanseg_decode_seconds_count{{{model}}}": 3,
        f"humanseg_forward_seconds_count{{{model}}}": 3,
        f"humanseg_encode_seconds_count{{{model}}}": 3,
        f"humanseg_coverage_ratio_count{{{model}}}": 3,
        f"archive_spooled_total{{{model}}}": 3,
    }
    end = time.monotonic() + 20
    while time.monotonic() < end:  # the frontend reads a worker's lines a little later
        after = numbers(server)
        grown = {name: after.get(name, 0) - before.get(name, 0) for name in wanted}
        if grown == wanted:
            return
        time.sleep(0.2)
    assert grown == wanted


def test_every_metric_in_the_code_is_declared() -> None:
    """TorchServe drops what metrics.yaml does not declare, in silence."""
    declared = {
        metric["name"]
        for kind in yaml.safe_load((ROOT / "config" / "metrics.yaml").read_text())["model_metrics"].values()
        for metric in kind
    }
    used = set()
    for folder in ("handler", "humanseg/archive/capture", "humanseg/archive/ship"):  # what runs in or beside a worker
        for path in (ROOT / folder).rglob("*.py"):
            used |= set(
                re.findall(
                    r'"((?:humanseg|archive)_[a-z_]+_(?:total|segments|bytes|seconds|ratio))"',
                    path.read_text(),
                )
            )
    assert {"humanseg_photos_total", "archive_spooled_total", "archive_spool_segments"} <= used
    assert used <= declared, used - declared
