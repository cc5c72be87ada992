"""Statistics of the archive by day, as rows and as one PNG, computed from columns only."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

COLUMNS = [
    "time",
    "photo_sha256",
    "photo_bytes",
    "mask_bytes",
    "json_bytes",
    "coverage",
    "confidence",
    "sampling_reason",
    "sampling_probability",
    "passed_over_declined",
    "passed_over_sampled_out",
    "passed_over_dropped",
]


@dataclass(frozen=True)
class Day:
    """One UTC day.

    Coverage and confidence are means over all photos that consent allowed, not only
    the archived ones: each record is weighted with 1/probability (Horvitz and Thompson, 1952).
    """

    day: str
    records: int
    different_photos: int
    bytes: int
    coverage: float
    confidence: float
    low_confidence: int
    declined: int
    sampled_out: int
    dropped: int

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
            "different_photos": self.different_photos,
            "megabytes": round(self.bytes / 1e6, 3),
            "coverage": round(self.coverage, 4),
            "confidence": round(self.confidence, 4),
            "low_confidence": self.low_confidence,
            "declined": self.declined,
            "sampled_out": self.sampled_out,
            "dropped": self.dropped,
            "share_declined": round(self.share_declined, 4),
        }


def count(tables: Iterable[pa.Table]) -> list[Day]:
    """One day per non-empty table; each table has the `COLUMNS` of one day."""
    return [_day(table) for table in tables if table.num_rows]


def _day(table: pa.Table) -> Day:
    def total(name: str) -> int:
        return int(pc.sum(table[name]).as_py())

    weight = pc.divide(1.0, table["sampling_probability"])

    def mean(name: str) -> float:
        return float(pc.sum(pc.multiply(weight, table[name])).as_py() / pc.sum(weight).as_py())

    return Day(
        day=f"{table['time'][0].as_py():%Y-%m-%d}",
        records=table.num_rows,
        different_photos=int(pc.count_distinct(table["photo_sha256"]).as_py()),
        bytes=total("photo_bytes") + total("mask_bytes") + total("json_bytes"),
        coverage=mean("coverage"),
        confidence=mean("confidence"),
        low_confidence=int(pc.sum(pc.equal(table["sampling_reason"], "low-confidence")).as_py()),
        declined=total("passed_over_declined"),
        sampled_out=total("passed_over_sampled_out"),
        dropped=total("passed_over_dropped"),
    )


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
        draw.text((left, top + 6), f"{title} (maximum of the scale: {high:.4g})", fill="black")
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
