"""Retries, timeouts and errors, against a local server that misbehaves on purpose."""

from __future__ import annotations

import socket

import pytest

from humanseg.client import (
    AnswerError,
    Client,
    ServerFaultError,
    StatusError,
    TimedOutError,
    UnauthorizedError,
    UnavailableError,
    UnreachableError,
)
from humanseg.client.errors import error_class
from humanseg.client.transport import LONGEST_DELAY, Transport
from tests.client.scripted_server import GOOD, HANG_UP, error, scripted

BUSY = error(503, type="ServiceUnavailableException", message="no worker is free")
FINE = (200, GOOD, b"picture")


def test_a_busy_server_is_asked_again_with_longer_and_longer_waits() -> None:
    waits: list[float] = []
    with scripted(BUSY, BUSY, BUSY, FINE) as server:
        answer = Transport(server.url, 5, 4, sleep=waits.append, chance=lambda: 1.0).send("POST", "/")
    assert answer.content == b"picture"
    assert waits == [0.25, 0.5, 1.0]


def test_waits_are_jittered_and_bounded() -> None:
    waits: list[float] = []
    with scripted(BUSY) as server, pytest.raises(UnavailableError):
        Transport(server.url, 5, 12, sleep=waits.append, chance=lambda: 0.5).send("POST", "/")
    assert waits[0] == 0.125
    assert max(waits) == waits[-1] == LONGEST_DELAY / 2


def test_a_broken_connection_is_tried_again() -> None:
    with scripted((HANG_UP, {}, b""), FINE) as server, Client(server.url) as client:
        assert client.segment(b"x").coverage == 0.5
    assert len(server.seen) == 2


@pytest.mark.parametrize("status", [400, 401, 404, 413, 415, 418, 500, 507])
def test_other_errors_are_not_tried_again(status: int) -> None:
    response = error(status, type="T", message="cause and fix", request_id="r-1")
    with scripted(response) as server, Client(server.url) as client, pytest.raises(StatusError) as caught:
        client.segment(b"x")
    assert len(server.seen) == 1
    assert type(caught.value) is error_class(status)
    assert (caught.value.status, caught.value.type, caught.value.request_id) == (status, "T", "r-1")
    assert str(caught.value) == "cause and fix"


@pytest.mark.parametrize("status", [500, 507])
def test_a_worker_that_died_is_asked_once_more_and_no_more_often(status: int) -> None:
    died = error(status, type="InternalServerException", message="Worker died.")
    with scripted(died, FINE) as server, Client(server.url) as client:
        assert client.segment(b"x").coverage == 0.5
    assert len(server.seen) == 2
    with scripted(died) as server, Client(server.url) as client, pytest.raises(ServerFaultError, match="Worker died"):
        client.segment(b"x")
    assert len(server.seen) == 2
    refused = error(400, type="NotAnImage", message="not a picture")
    with scripted(died, refused) as server, Client(server.url) as client, pytest.raises(StatusError, match="picture"):
        client.segment(b"x")
    assert len(server.seen) == 2


def test_an_error_without_json_still_says_what_happened() -> None:
    expected = pytest.raises(ServerFaultError, match="answered 500")
    with scripted((500, {}, b"")) as server, Client(server.url) as client, expected as caught:
        client.segment(b"x")
    assert caught.value.request_id == ""


def test_a_503_after_all_retries_is_an_unavailable_error() -> None:
    expected = pytest.raises(UnavailableError, match="no worker is free")
    with scripted(BUSY) as server, Client(server.url, retries=1) as client, expected:
        client.segment(b"x")
    assert len(server.seen) == 2


def test_nobody_listening_names_address_and_fix() -> None:
    expected = pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9 .*refused.*serve\.sh")
    with Client("http://127.0.0.1:9", retries=0) as client, expected:
        client.segment(b"x")


def test_a_silent_server_is_not_asked_twice() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Client(url, timeout=0.2) as client, pytest.raises(TimedOutError, match="within 0.2 s"):
            client.segment(b"x")


def test_the_key_is_sent_and_never_shown() -> None:
    with scripted(FINE) as server, Client(server.url, api_key="secret") as client:
        client.segment(b"x")
        assert "secret" not in repr(client._transport)
    assert server.seen[0]["authorization"] == "Bearer secret"


def test_without_a_key_none_is_sent() -> None:
    refusal = error(401, type="Unauthorized", message="give a key")
    expected = pytest.raises(UnauthorizedError, match="give a key")
    with scripted(refusal) as server, Client(server.url) as client, expected:
        client.segment(b"x")
    assert "authorization" not in server.seen[0]


@pytest.mark.parametrize(
    "answer",
    [
        (200, {"content-type": "text/html"}, b"<p>"),
        (200, {}, b""),
        (200, {"content-type": "image/png"}, b"x"),
    ],
)
def test_an_answer_of_something_else_is_named_as_such(answer: tuple[int, dict[str, str], bytes]) -> None:
    expected = pytest.raises(AnswerError, match="check the URL")
    with scripted(answer) as server, Client(server.url) as client, expected:
        client.segment(b"x")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"url": "127.0.0.1:8080"}, "must start with http://"),
        ({"url": "http://h:1/models/m"}, "/predictions/NAME"),
        ({"timeout": 0}, "timeout=0 must be more than 0"),
        ({"retries": -1}, "retries=-1 must be 0 or more"),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused(arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Client(**arguments)  # type: ignore[arg-type]


def test_the_photo_is_the_body_and_its_options_are_headers_in_utf_8() -> None:
    with scripted(FINE) as server, Client(server.url) as client:
        client.segment(b"photo", output="cutout", label="caf\u00e9 \u2603", archive=False)
        with pytest.raises(ValueError, match="label"):
            client.segment(b"photo", label="two\nlines")
    (seen,) = server.seen
    assert (seen["content-type"], seen["content-length"]) == ("application/octet-stream", "5")
    assert (seen["x-output"], seen["x-archive"]) == ("cutout", "no")
    assert seen["x-label"].encode("latin-1").decode() == "caf\u00e9 \u2603"
