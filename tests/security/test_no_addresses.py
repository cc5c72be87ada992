"""A server fetches no address that a request names: the command line does that, on its user's machine."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.cli.web import body, web

if TYPE_CHECKING:
    from tests.running import Server


@pytest.mark.parametrize(
    "request_of",
    [
        lambda url: {"files": {"image": ("photo", url.encode())}},
        lambda url: {"data": url.encode(), "headers": {"Content-Type": "image/jpeg"}},
        lambda url: {"json": {"image": url}},
        lambda url: {"json": {"image": base64.b64encode(url.encode()).decode()}},
        lambda url: {"json": {"image": {"url": url}}},
        lambda url: {"json": {"url": url}},
        lambda url: {"json": {"instances": [{"image": url}]}},
        lambda url: {"files": {"url": (None, url)}},
    ],
)
@pytest.mark.parametrize("scheme", ["http", "file", "s3"])
def test_an_address_in_place_of_a_photo_is_a_bad_request(
    server: Server, astronaut_jpeg: bytes, request_of: Any, scheme: str
) -> None:
    with web() as site:
        site.pages["/photo.jpg"] = body(astronaut_jpeg)
        url = {"http": f"{site.url}/photo.jpg", "file": "file:///etc/hostname", "s3": "s3://bucket/photo.jpg"}[scheme]
        answer = requests.post(server.predictions, **request_of(url), timeout=60)
        assert answer.status_code == 400, answer.text
        assert site.asked == []
