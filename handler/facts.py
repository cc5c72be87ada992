"""Service information: for a `GET` that accepts JSON, and for the management API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from handler.options import CROP, FORMATS, QUALITY, Options
from handler.request import MOST_INSTANCES
from handler.settings import HandlerSettings
from humanseg.common.effects import OUTPUTS
from humanseg.common.limits import MAX_BODY
from humanseg.segmentation.model_files import ModelInfo
from humanseg.segmentation.photo import FORMATS as PHOTOS
from humanseg.segmentation.regions import KEEP

CHOICES = {"output": OUTPUTS, "format": FORMATS, "keep": KEEP, "crop": CROP, "quality": QUALITY}


def service_facts(
    name: str, version: str, model: ModelInfo, engine: str, threshold: float, settings: HandlerSettings
) -> dict[str, Any]:
    """The model, its network, the options and the limits, as plain values."""
    return {
        "name": name,
        "version": version,
        "network": {
            "architecture": model.architecture,
            "weights_sha256": model.weights_sha256,
            "engine": engine,
            **model.spec.as_mapping(),
            "threshold": threshold,
        },
        "photos": [kind.lower() for kind in PHOTOS],
        "options": {field.name: list(CHOICES.get(field.name, ())) or None for field in fields(Options)},
        "limits": {
            "megapixels": settings.max_megapixels,
            "bytes": MAX_BODY,
            "instances": MOST_INSTANCES,
            "video_seconds": settings.max_video_seconds,
            "label": settings.max_label,
        },
    }


def public_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that need no API key: which network runs, but not which weights."""
    network = {key: value for key, value in facts["network"].items() if key != "weights_sha256"}
    return {"name": facts["name"], "version": facts["version"], "network": network}
