"""Metadata of a data set's photos: the manifest of an archive export."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from humanseg.training.samples import Sample

MANIFEST = "manifest.jsonl"


@dataclass(frozen=True)
class Facts:
    """probability: the photo's sampling probability, 0..1; statistics of all photos are weighted with its inverse."""

    probability: float = 1.0
    label: str | None = None
    time: str | None = None  # RFC 3339, UTC
    request_ids: tuple[str, ...] = ()
    mask_source: str | None = None  # "corrected" or "model"

    @property
    def week(self) -> str | None:
        """ISO week, such as 2026-W48."""
        from datetime import date

        if not self.time:
            return None
        year, week, _ = date.fromisoformat(self.time[:10]).isocalendar()
        return f"{year}-W{week:02d}"


def facts_of(samples: list[Sample]) -> list[Facts]:
    """The metadata of each sample, from its folder's manifest; empty without one."""
    manifests: dict[Path, dict[str, Facts]] = {}
    facts = []
    for sample in samples:
        folder = sample.photo.parent.parent
        if folder not in manifests:
            manifests[folder] = read_manifest(folder)
        facts.append(manifests[folder].get(sample.photo.name, Facts()))
    return facts


def read_manifest(folder: Path) -> dict[str, Facts]:
    """The manifest of an export by photo name; empty if there is none."""
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    rows = (json.loads(line) for line in path.read_text().splitlines() if line)
    return {row["photo"]: _facts(row) for row in rows}


def _facts(row: Mapping[str, Any]) -> Facts:
    sampled = float(row.get("sampling_probability") or 1.0)
    chosen = float((row.get("chosen") or {}).get("probability", 1.0))
    return Facts(
        min(1.0, max(1e-6, sampled * chosen)),
        row.get("label"),
        row.get("time"),
        tuple(row.get("request_ids") or ()),
        row.get("mask_source"),
    )
