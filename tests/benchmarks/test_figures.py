"""What benchmarks/ computes from its measurements, and how it posts a photo."""

from __future__ import annotations

import base64
import json
import math
from email.parser import BytesParser

import pytest

from benchmarks import tables
from benchmarks.figures import best_peer, ratio_of, ratio_to_limit, shares_of_others
from benchmarks.memory import trend
from benchmarks.servers import Spec, body_of


def seen(rate: float) -> dict[str, float]:
    return {"rate": rate, "p50": 0.1, "p95": 0.2, "p99": 0.3, "cpu": 0.01, "bad": 0, "others": 0.25}


def results() -> dict[str, object]:
    stages = {"decode": 1.0, "forward": 2.0, "encode": 3.0}
    limit = [{"rate": rate, "cpu": 0.01, "seconds": 0.01, "stages": stages} for rate in (100.0, 50.0, 10.0)]
    rates = {"ours": (90.0, 45.0, 9.5), "mosec, ours": (80.0, 44.0, 9.0), "FastAPI, ours": (10.0, 95.0, 1.0)}
    photos = ("small", "typical", "phone")
    return {
        "limit": dict.fromkeys(photos, limit),
        "servers": {name: {photo: [seen(rate) for rate in row] for photo in photos} for name, row in rates.items()},
        "start": dict.fromkeys(rates, 1.0),
        "resident": {name: {"worker": 100.0, "total": 200.0} for name in rates},
        "agreement": dict.fromkeys(rates, 1.0),
    }


def test_a_round_is_compared_with_its_own_limit() -> None:
    assert ratio_to_limit(results(), "ours", "typical") == pytest.approx(0.9)  # 0.9, 0.9, 0.95: not 45 / 50 by luck
    rows = results()["servers"]
    assert ratio_of(rows["ours"]["phone"], rows["mosec, ours"]["phone"]) == pytest.approx(9.5 / 9.0)


def test_the_best_peer_is_the_one_with_the_highest_median() -> None:
    assert best_peer(results(), "small", "ours") == "mosec, ours"
    assert best_peer(results(), "small", "torch") is None


def test_the_table_of_the_race_has_a_row_for_everyone() -> None:
    text = "\n".join(tables.race(results()))
    assert text.count("| mosec, ours |") == 4  # three photos, and memory
    assert "| **ours** | 45.0 | 0.90 | 100 | 200 | 300 |" in text


def test_what_others_used_is_found_wherever_it_stands() -> None:
    assert shares_of_others({"race": {"found": results()}}) == [0.25] * 27


def test_a_trend_is_told_from_noise() -> None:
    growing = [(float(at), 100 + at / 1000 * 0.05) for at in range(0, 10_000, 500)]
    assert trend(growing)[0] == pytest.approx(50)  # kB a thousand requests
    wobbling = [(float(at), 100 + (-1) ** index) for index, at in enumerate(range(0, 10_000, 500))]
    slope, error = trend(wobbling)
    assert abs(slope) < 2 * error
    assert math.isnan(trend(growing[:2])[0])


def test_each_form_carries_the_photo() -> None:
    photo = b"\xff\xd8 not really \r\n--a photo"
    raw = Spec("a", "peer", (), {}, "/")
    assert body_of(raw, photo, {}) == (photo, "image/jpeg")
    body, kind = body_of(Spec("a", "peer", (), {}, "/", "base64", "picture"), photo, {})
    assert kind == "application/json"
    assert base64.b64decode(json.loads(body)["picture"]) == photo
    body, kind = body_of(Spec("a", "peer", (), {}, "/", "multipart", "file"), photo, {"om": "true"})
    message = BytesParser().parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
    option, file = message.get_payload()
    assert option.get_payload() == "true"
    assert option.get_param("name", header="content-disposition") == "om"
    assert file.get_payload(decode=True) == photo
    assert file.get_filename() == "photo.jpg"
