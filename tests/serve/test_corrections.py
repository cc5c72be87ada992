"""A corrected mask sent back to a server: kept with consent, and refused with the reason where it is none."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image, PngImagePlugin

from handler.corrections import read_correction
from humanseg.archive.capture.spool import Spool
from tests.running import Server, encoded

MASK = np.zeros((40, 30), np.uint8)
MASK[:, :10] = 255
PNG = encoded(MASK, "PNG")
OF = "0f8fad5b-d9cb-469f-a165-70867728950e"


def send(server: Server, mask: bytes = PNG, **fields: Any) -> requests.Response:
    data = {"of": OF, "archive": "yes", **fields}
    return requests.post(server.predictions, files={"correction": mask}, data=data, timeout=60)


def test_with_consent_it_is_spooled(server: Server) -> None:
    answer = send(server)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-archived"] == "spooled"
    assert answer.json() == {"request_id": answer.headers["x-request-id"], "of": OF, "archived": "spooled"}


def test_one_bit_is_one_channel(server: Server) -> None:
    assert send(server, encoded(MASK > 0, "PNG")).status_code == 200


@pytest.mark.parametrize(
    ("mask", "fields", "kind", "message"),
    [
        (PNG, {"archive": "no"}, "BadOption", "archive=yes"),
        (PNG, {"archive": ""}, "BadOption", "archive=yes"),
        (PNG, {"of": ""}, "BadOption", "x-request-id"),
        (PNG, {"of": "../../etc"}, "BadOption", "x-request-id"),
        (PNG, {"of": "a" * 65}, "BadOption", "x-request-id"),
        (PNG, {"output": "mask"}, "UnknownOption", "output"),
        (PNG, {"image": "x"}, "UnknownOption", "image"),
        (b"", {}, "BadRequest", "a file"),
        (b"no PNG", {}, "NotAnImage", "not a readable PNG"),
        (PNG[:60], {}, "NotAnImage", "not a readable PNG"),
        (encoded(np.zeros((4, 4, 3), np.uint8), "PNG"), {}, "NotAnImage", "one channel"),
        (encoded(np.arange(16, dtype=np.uint8).reshape(4, 4), "PNG"), {}, "NotAnImage", "values other than"),
        (encoded(MASK, "JPEG"), {}, "NotAnImage", "not a readable PNG"),
        (encoded(np.zeros((8000, 8000), np.uint8), "PNG"), {}, "TooLarge", "50 megapixels"),
        (PNG + bytes(8_000_001), {}, "TooLarge", "8 MB"),
    ],
)
def test_what_is_no_correction_is_refused(
    server: Server, mask: bytes, fields: dict[str, str], kind: str, message: str
) -> None:
    answer = send(server, mask, **fields)
    assert answer.status_code == (413 if kind == "TooLarge" else 400), answer.text
    assert answer.json()["type"] == kind
    assert message in answer.json()["message"]


def test_nothing_but_pixels_is_kept(server: Server) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "a secret in a mask")
    answer = send(server, encoded(MASK, "PNG", pnginfo=text) + b"behind the end")
    assert answer.headers["x-archived"] == "spooled"
    for path in Spool(server.state_dir / "spool").files():
        assert b"a secret in a mask" not in path.read_bytes()
        assert b"behind the end" not in path.read_bytes()


def test_what_is_kept_has_the_masks_pixels() -> None:
    kept = read_correction({"correction": PNG, "of": OF, "archive": "yes"}, "id", max_pixels=10_000)
    assert (kept.width, kept.height, kept.of) == (30, 40, OF)
    with Image.open(io.BytesIO(kept.mask)) as image:
        assert image.mode == "L"
        assert np.array_equal(np.asarray(image), MASK)
