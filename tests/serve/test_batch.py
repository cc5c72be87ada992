"""A batch of mixed sizes, outputs and faults is right for each of its photos."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
import requests
from PIL import Image

from tests.running import MODEL, Server, encoded


@pytest.mark.slow
def test_each_photo_of_a_mixed_batch_gets_its_own_answer(
    make_server: Callable[..., Server], astronaut: np.ndarray
) -> None:
    server = make_server()
    # One worker that waits for full batches: the requests below share them for certain.
    requests.post(
        f"{server.management_url}/models",
        params={"url": f"{MODEL}.mar", "model_name": "batched", "batch_size": 8, "max_batch_delay": 300,
                "initial_workers": 1, "synchronous": "true"},
        timeout=120,
    ).raise_for_status()  # fmt: skip
    url = f"{server.url}/predictions/batched"
    chance = random.Random(5)
    plain = f"{server.predictions}"

    def ask(case: tuple[bytes, dict[str, str]], where: str) -> tuple[int, bytes, str]:
        photo, options = case
        answer = requests.post(where, files={"image": photo}, data=options, timeout=60)
        return answer.status_code, answer.content, answer.headers.get("x-image-width", "")

    cases: list[tuple[bytes, dict[str, str]]] = []
    for width, height in ((512, 512), (300, 200), (90, 400), (1200, 700)):
        photo = encoded(np.array(Image.fromarray(astronaut).resize((width, height))), "JPEG")
        for options in (
            {},
            {"output": "cutout"},
            {"output": "probability", "format": "webp"},
            {"threshold": "0.9"},
        ):
            cases.append((photo, options))
        cases += [(photo[:300], {}), (photo, {"output": "nonsense"}), (b"%PDF-", {}), (b"", {})]
    chance.shuffle(cases)
    with ThreadPoolExecutor(16) as pool:
        batched = list(pool.map(lambda case: ask(case, url), cases))
    alone = [ask(case, plain) for case in cases]
    statuses = [status for status, _, _ in batched]
    assert {200, 400, 415} <= set(statuses)
    for (status, body, width), (status_alone, body_alone, width_alone) in zip(batched, alone, strict=True):
        assert (status, width) == (status_alone, width_alone)
        if status == 200:
            assert body == body_alone
            assert Image.open(BytesIO(body)).size[0] == int(width)
