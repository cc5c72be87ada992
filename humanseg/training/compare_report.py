"""The comparison report: one HTML file for people, with the metrics embedded as JSON for `release --gate`."""

from __future__ import annotations

import base64
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from humanseg.common.html import (
    BLUE,
    GREEN,
    GREY,
    RED,
    Raw,
    heading,
    intervals_plot,
    lines_plot,
    page,
    paragraph,
    picture,
    table,
)
from humanseg.segmentation.photo import Pixels, read_photo
from humanseg.training.candidates import Candidate
from humanseg.training.compare import Measured
from humanseg.training.gate import NAME
from humanseg.training.metrics import Mask
from humanseg.training.paired import Margins, Verdict
from humanseg.training.samples import fingerprint

SHOWN = 20  # photos that lost most, and as many that won most
TILE = 190  # pixels, long side of a photo in the report
VERDICTS = {
    "better": "The new model is better.",
    "not worse": "The new model is not worse.",
    "worse": "The new model is worse.",
    "can't tell": "There are too few photos to decide.",
}
_COLOURS = {"better": GREEN, "not worse": BLUE, "can't tell": GREY, "worse": RED}


def write_report(
    path: Path,
    old: Candidate,
    new: Candidate,
    sets: list[str],
    measured: Measured,
    verdict: Verdict,
    margins: Margins,
) -> dict[str, Any]:
    """Write the report to `path` atomically, and return its metrics."""
    data = figures(old, new, sets, measured, verdict, margins)
    kind = {"worse": "bad", "can't tell": "dim"}.get(verdict.state, "good")
    lines = [check for check in verdict.checks if check.says]
    text = page(
        f"{old.name} or {new.name}?",
        paragraph(headline(verdict), kind),
        *(paragraph(f"{check.name}: {check.says}.", "bad" * (check.state == "worse")) for check in lines),
        paragraph(
            f"{len(measured.samples)} photos of {', '.join(sets)}; paired differences are new minus old, "
            "weighted by the inverse sampling probability of a photo. Intervals: 95 %, by "
            "bootstrap; those of slices are wider, to correct for multiple comparisons.",
            "dim",
        ),
        heading("Checks"),
        table(
            ("", "photos", "old", "new", "difference", "from", "to", "answer"),
            [
                (
                    check.name,
                    check.figure.photos,
                    f"{check.figure.old:.4f}",
                    f"{check.figure.new:.4f}",
                    f"{check.figure.difference:+.4f}",
                    f"{check.figure.low:+.4f}",
                    f"{check.figure.high:+.4f}",
                    Raw(f'<span class="{"bad" if check.state == "worse" else ""}">{check.state}</span>'),
                )
                for check in verdict.checks
            ],
        ),
        heading("Mean IoU by slice"),
        intervals_plot(
            [
                (check.name, check.figure.difference, check.figure.low, check.figure.high, _COLOURS[check.state])
                for check in verdict.checks
                if check.name == "mean IoU" or ": " in check.name
            ],
            margins.kind,
        ),
        heading("Calibration"),
        paragraph("Reliability: the predicted probability of a pixel, and how often it is a person."),
        _calibration(measured),
        *_extremes(old, new, measured),
        data=data,
        name=NAME,
    )
    from humanseg.common.files import write_whole

    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode())
    return data


def headline(verdict: Verdict) -> str:
    """The verdict in one or two sentences."""
    text = VERDICTS[verdict.state]
    if verdict.needed is not None:
        text += f" About {verdict.needed} photos with people would be enough, if the models are equally good."
    return text


def figures(
    old: Candidate, new: Candidate, sets: list[str], measured: Measured, verdict: Verdict, margins: Margins
) -> dict[str, Any]:
    """The report's metrics as plain values."""
    paired = measured.paired
    return {
        "verdict": verdict.state,
        "needed": verdict.needed,
        "old": {"name": old.name, "weights_sha256": old.weights_sha256},
        "new": {"name": new.name, "weights_sha256": new.weights_sha256},
        "sets": sets,
        "data_sha256": fingerprint(measured.samples),
        "photos": len(measured.samples),
        "margins": asdict(margins),
        "checks": [
            {
                "name": check.name,
                "state": check.state,
                "says": check.says,
                **{key: None if value != value else value for key, value in asdict(check.figure).items()},
            }
            for check in verdict.checks
        ],
        "per_photo": [
            {
                "photo": sample.photo.name,
                "request_ids": list(facts.request_ids),
                "weight": float(paired.weights[index]),
                "old_iou": round(float(paired.old["iou"][index]), 5),
                "new_iou": round(float(paired.new["iou"][index]), 5),
                "kinds": {name: str(values[index]) for name, values in paired.kinds.items() if values[index]},
            }
            for index, (sample, facts) in enumerate(zip(measured.samples, measured.facts, strict=True))
        ],
    }


def _calibration(measured: Measured) -> Raw:
    lines = []
    for name, bins, colour in (("old", measured.paired.old_bins, GREY), ("new", measured.paired.new_bins, BLUE)):
        mean = np.average(bins, axis=0, weights=measured.paired.weights)  # [BINS, 3]
        points = [(float(predicted / share), float(true / share)) for share, predicted, true in mean if share > 1e-6]
        lines.append((name, points, colour))
    return lines_plot(lines, ("predicted", "true"), diagonal=True)


def _extremes(old: Candidate, new: Candidate, measured: Measured) -> list[Raw]:
    """The photos that lost and gained most, segmented again, because not all pictures are kept in memory."""
    difference = measured.paired.new["iou"] - measured.paired.old["iou"]
    order = np.argsort(difference, kind="stable").tolist()
    lost = [index for index in order[:SHOWN] if difference[index] < 0]
    won = [index for index in order[: -SHOWN - 1 : -1] if difference[index] > 0]
    parts = [
        paragraph("Old left, new right. Green: right. Blue: missed. Red: false.", "dim"),
    ]
    for title, chosen in (("Largest losses", lost), ("Largest gains", won)):
        parts.append(heading(title))
        if not chosen:
            parts.append(paragraph("None."))
        for index in chosen:
            sample = measured.samples[index]
            pixels = read_photo(sample.photo.read_bytes()).pixels
            true = sample.read()[1] > 127
            pair = [_tile(pixels, candidate.segment(pixels).mask > 0, true) for candidate in (old, new)]
            _, jpeg = cv2.imencode(".jpg", np.hstack(pair), [cv2.IMWRITE_JPEG_QUALITY, 80])
            change = f"{measured.paired.old['iou'][index]:.3f} to {measured.paired.new['iou'][index]:.3f}"
            parts.append(picture(base64.b64encode(jpeg.tobytes()).decode(), f"{sample.photo.name[-24:]}: {change}"))
    return parts


def _tile(pixels: Pixels, predicted: Mask, true: Mask) -> Pixels:
    """The photo with its predicted mask: BGR, with a long side of TILE pixels."""
    scale = TILE / max(pixels.shape[:2])
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)[..., ::-1].astype(np.float32)
    shown = [cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_AREA) > 0 for mask in (predicted, true)]
    for where, colour in (
        (shown[0] & shown[1], (0, 200, 0)),
        (~shown[0] & shown[1], (255, 0, 0)),
        (shown[0] & ~shown[1], (0, 0, 255)),
    ):
        small[where] = 0.6 * small[where] + 0.4 * np.array(colour, np.float32)
    return small.astype(np.uint8)
