"""The archive in numbers, day by day, as rows and as one PNG."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, field

from humanseg.archive.read.reader import Stored


@dataclass
class Day:
    """One UTC day.

    Coverage and confidence are means over all photos that consent allowed, not only
    the kept ones: each record counts 1/probability (Horvitz and Thompson, 1952).
    """

    day: str
    records: int = 0
    bytes: int = 0
    photos: set[str] = field(default_factory=set)
    declined: int = 0
    sampled_out: int = 0
    dropped: int = 0
    low_confidence: int = 0
    weight: float = 0.0
    weighted_coverage: float = 0.0
    weighted_confidence: float = 0.0

    @property
    def coverage(self) -> float:
        """Mean coverage, 0..1."""
        return self.weighted_coverage / self.weight if self.weight else 0.0

    @property
    def confidence(self) -> float:
        """Mean confidence, 0..1."""
        return self.weighted_confidence / self.weight if self.weight else 0.0

    @property
    def share_declined(self) -> float:
        """Share of the answered photos whose sender declined, 0..1."""
        answered = self.records + self.declined + self.sampled_out + self.dropped
        return self.declined / answered if answered else 0.0

    def row(self) -> dict[str, float | int | str]:
        """The day as plain values, for a table or JSON."""
        return {
            "day": self.day,
            "records": self.records,
            "different_photos": len(self.photos),
            "megabytes": round(self.bytes / 1e6, 3),
            "coverage": round(self.coverage, 4),
            "confidence": round(self.confidence, 4),
            "low_confidence": self.low_confidence,
            "declined": self.declined,
            "sampled_out": self.sampled_out,
            "dropped": self.dropped,
            "share_declined": round(self.share_declined, 4),
        }


def count(records: Iterable[Stored]) -> list[Day]:
    """The days of `records`, oldest first."""
    days: dict[str, Day] = {}
    for stored in records:
        about = stored.about
        day = days.setdefault(about["time"][:10], Day(about["time"][:10]))
        day.records += 1
        day.bytes += sum(stored.folder.sizes.values())
        day.photos.add(about["photo"]["sha256"][:20])
        for name in ("declined", "sampled_out", "dropped"):
            setattr(day, name, getattr(day, name) + about["passed_over"][name])
        day.low_confidence += about["sampling"]["reason"] == "low-confidence"
        weight = 1 / about["sampling"]["probability"]
        day.weight += weight
        day.weighted_coverage += weight * about["coverage"]
        day.weighted_confidence += weight * about["confidence"]
    return [days[day] for day in sorted(days)]


def chart(days: list[Day]) -> bytes:
    """A PNG of four bar charts over the days: records, confidence, coverage, share declined."""
    from PIL import Image, ImageDraw

    panels = [
        ("records", [float(day.records) for day in days]),
        ("mean confidence", [day.confidence for day in days]),
        ("mean coverage", [day.coverage for day in days]),
        ("share declined", [day.share_declined for day in days]),
    ]
    width, height, left = max(480, 60 + 24 * len(days)), 150, 50
    image = Image.new("RGB", (width, height * len(panels) + 10), "white")
    draw = ImageDraw.Draw(image)
    for number, (title, values) in enumerate(panels):
        top = number * height
        bottom, high = top + height - 30, max(values, default=0.0) or 1.0
        draw.text((left, top + 6), f"{title} (top of the scale: {high:.4g})", fill="black")
        draw.line((left, bottom, width - 10, bottom), fill="black")
        for place, value in enumerate(values):
            step = (width - left - 10) / max(1, len(values))
            x = left + place * step
            tall = (height - 60) * value / high
            draw.rectangle((x + 2, bottom - tall, x + max(3, step - 2), bottom), fill=(10, 132, 255))
            if len(values) <= 31:
                draw.text((x + 2, bottom + 4), days[place].day[8:], fill="black")
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
