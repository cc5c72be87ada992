"""What the server writes about a request: in answers, in logs, to browsers."""

from __future__ import annotations

import html
import json
import re
import socket
import threading
from collections.abc import Callable

import pytest
import requests

from handler.request import parse_request
from tests.running import MODEL, ROOT, Server


def test_an_answer_names_at_most_three_wrong_names(server: Server, astronaut_jpeg: bytes) -> None:
    fields = {f"wrong{number:05}" + "x" * 100: "1" for number in range(60)}
    answer = requests.post(server.predictions, files={"image": astronaut_jpeg}, data=fields, timeout=60)
    assert answer.status_code == 400
    assert len(answer.content) < 600
    assert "'wrong00000" in answer.json()["message"]
    assert "57 more" in answer.json()["message"]
    many = {"image": "", **{f"wrong{number}": 1 for number in range(1500)}}
    answer = requests.post(server.predictions, json=many, timeout=60)
    assert (answer.status_code, answer.json()["type"]) == (400, "UnknownOption")
    assert len(answer.content) < 600
    twice = [("image", ("a.jpg", astronaut_jpeg))] + [(f"n{n}", (None, v)) for n in range(20) for v in "ab"]
    answer = requests.post(server.predictions, files=twice, timeout=60)
    assert (answer.status_code, answer.json()["type"]) == (400, "ConflictingOption")
    assert len(answer.content) < 600


@pytest.mark.parametrize(
    ("body", "mark"),
    [
        (b'{"image": "", "a": ' + b"[" * 5_000 + b"]" * 5_000 + b"}", "'['"),
        (b"[" * 60_000, "'['"),
        (b'{"a":' * 3_000, "':'"),
        (b"{" + b",".join(b'"k%d":1' % number for number in range(10_000)) + b"}", "':'"),
        (b"[" + b"1," * 100_000 + b"1]", "','"),
    ],
)
def test_json_that_is_too_large_a_structure_is_not_parsed(server: Server, body: bytes, mark: str) -> None:
    answer = requests.post(server.predictions, data=body, headers={"content-type": "application/json"}, timeout=60)
    assert (answer.status_code, answer.json()["type"]) == (400, "BadRequest")
    assert mark in answer.json()["message"]


@pytest.mark.parametrize("number", [500, pytest.param(50_000, marks=pytest.mark.slow)])
def test_fields_are_counted(server: Server, astronaut_jpeg: bytes, number: int) -> None:
    fields = {f"f{number}": "1" for number in range(number)}
    answer = requests.post(server.predictions, files={"image": astronaut_jpeg}, data=fields, timeout=60)
    assert (answer.status_code, answer.json()["type"]) == (400, "BadRequest")
    assert "the limit is 64" in answer.json()["message"]


@pytest.mark.parametrize("label", ["café", "人", "naïve Ünïcode", "plain"])
def test_a_label_in_a_header_is_read_as_it_was_sent(label: str) -> None:
    """TorchServe reads the bytes of a header as ISO 8859-1 and hands that on."""
    sent = label.encode().decode("latin-1")
    assert parse_request({"body": b"photo"}, {"x-label": sent}).options.label == label
    assert parse_request({"body": b"photo"}, {"x-label": "caf\u00e9"}).options.label == "café"


def test_a_label_travels_through_a_real_server(server: Server, astronaut_jpeg: bytes) -> None:
    headers = {"x-label": "café", "x-archive": "no", "x-output": "cut\u00e9"}
    answer = requests.post(
        server.predictions,
        astronaut_jpeg,
        headers={name: value.encode() for name, value in headers.items()},
        timeout=60,
    )
    assert answer.status_code == 400
    assert "cuté" in answer.json()["message"]


def test_the_page_is_framed_by_nobody_and_runs_its_own_script_alone(server: Server) -> None:
    answer = requests.get(server.predictions, timeout=60)
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/=]+'", policy["script-src"])
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_every_answer_says_what_it_is(server: Server, astronaut_jpeg: bytes) -> None:
    headers = {"x-archive": "no"}
    for body in (astronaut_jpeg, b"no photo"):
        answer = requests.post(server.predictions, body, headers=headers, timeout=60)
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.slow
def test_the_access_log_holds_no_address_no_query_and_no_control_character(
    make_server: Callable[..., Server], astronaut_jpeg: bytes
) -> None:
    server = make_server()
    targets = [
        f"/predictions/{MODEL}?token=secret-query&a=\x1b[31mred",
        "/predictions/\x1b]0;title\x07",
        "/predictions/" + "long" * 200,
        f"/models/{MODEL}/invoke?name=secret-query",
    ]
    for target in targets:
        with socket.create_connection(
            ("127.0.0.1", int(server.environment["INFERENCE_PORT"])), timeout=60
        ) as connection:
            connection.sendall(f"GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode("latin-1"))
            assert connection.recv(65536).startswith(b"HTTP/1.1 ")
    requests.post(server.predictions, astronaut_jpeg, headers={"x-archive": "no"}, timeout=60)
    assert server.stop() == 0  # the log is written in blocks
    log = (server.state_dir / "logs" / "access_log.log").read_bytes()
    assert f'"POST /predictions/{MODEL} HTTP/1.1" 200'.encode() in log
    for secret in (b"127.0.0.1", b"secret-query", b"\x1b", b"\x07", b"long" * 60):
        assert secret not in log, secret
    assert json.dumps(log.decode())  # text


def test_the_container_s_lines_are_cut_as_those_in_the_file_are() -> None:
    """The same replacements; control characters are escaped as JSON there."""
    cut = r'%m}{^\S+ }{}}{\?[^" ]*}{}}{(\S{200})\S+}{$1...}'  # the address, the query, the rest of a long path
    file, container = (
        html.unescape((ROOT / name / "log4j2.xml").read_text()) for name in ("config", "deploy/container")
    )
    assert cut in file
    assert "%enc{%replace{%replace{%replace{" + cut + "}{JSON}" in container


@pytest.mark.slow
def test_a_web_form_of_very_many_pairs_is_refused_and_others_are_answered_meanwhile(
    server: Server, astronaut_jpeg: bytes
) -> None:
    """The frontend parses it in the event loop of its own connection; there are enough others."""
    body = "&".join(f"a{number}=1" for number in range(200_000)).encode()
    headers = {"content-type": "application/x-www-form-urlencoded"}
    refused: list[requests.Response] = []
    form = threading.Thread(
        target=lambda: refused.append(requests.post(server.predictions, body, headers=headers, timeout=300))
    )
    form.start()
    answers = 0
    while form.is_alive() or not answers:
        answer = requests.post(server.predictions, astronaut_jpeg, headers={"x-archive": "no"}, timeout=120)
        assert answer.status_code == 200
        answers += 1
    form.join()
    assert (refused[0].status_code, refused[0].json()["type"]) == (400, "EmptyBody")
