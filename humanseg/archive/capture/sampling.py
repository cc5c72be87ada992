"""Which photos are kept, why, and with what probability, from settings, consent and confidence."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from humanseg.archive.capture.settings import ArchiveSettings


@dataclass(frozen=True)
class Decision:
    """`kept` with its `reason` ("request", "low-confidence" or "sample") and inclusion probability 0..1.

    Not kept: `reason` is "declined" or "sampled-out", and `probability` is 0.
    """

    kept: bool
    reason: str
    probability: float


def decide(settings: ArchiveSettings, request_id: str, confidence: float, consent: bool | None) -> Decision:
    """Decides whether to keep one photo.

    The draw is a hash of the random request id, so that the decision needs no state and is repeatable. Weighting each
    record by 1/probability makes every statistic unbiased over all photos that consent allowed (Horvitz and Thompson,
    1952); "request" records come on top of a random sample. Leave them out of such statistics if people choose what
    to send.
    """
    if not allowed(settings, consent):
        return Decision(False, "declined", 0.0)
    if consent is True:
        return Decision(True, "request", 1.0)
    if confidence < settings.low_confidence:
        return Decision(True, "low-confidence", 1.0)
    if draw(request_id) < settings.sample:
        return Decision(True, "sample", settings.sample)
    return Decision(False, "sampled-out", 0.0)


def allowed(settings: ArchiveSettings, consent: bool | None) -> bool:
    """Whether the mode lets a photo be kept, by what its request said (None: nothing)."""
    if settings.mode == "opt-in":
        return consent is True
    if settings.mode == "opt-out":
        return consent is not False
    return settings.mode == "all"


def draw(request_id: str) -> float:
    """A number in 0..1 (1 excluded) that is uniform over random request ids."""
    return int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:6], "big") / 2**48
