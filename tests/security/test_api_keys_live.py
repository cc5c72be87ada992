"""API keys of a running server: revoked, over gRPC, guessed, and used too much."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import requests

from handler.apikeys import WRONG_KEYS, WRONG_SECONDS, KeyLimit
from handler.errors import TooManyRequests
from humanseg.common.apikeys import ApiKey
from humanseg.segmentation.errors import TooLarge
from tests.running import MODEL, Server, encoded, start_server
from tests.security.protobuf import prediction
from tests.security.test_api_keys import digest, humanseg

PREDICT = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(f"{digest('good')} alice\n{digest('also')} bob\n")
    return path


@pytest.fixture(scope="module")
def guarded(keys_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with keys, two workers, and a photo at a time for each key."""
    from tests.security.mar import with_setting

    mar = with_setting(tmp_path_factory.mktemp("mar") / "a.mar", "photos_per_key: 0", "photos_per_key: 1")
    folder = tmp_path_factory.mktemp("guarded") / "state"
    running = start_server(folder, API_KEYS_FILE=str(keys_file), WORKERS="2", LOG_REQUESTS="1", MODEL_MAR=str(mar))
    yield running
    running.stop()


def ask(server: Server, photo: bytes, key: str) -> requests.Response:
    headers = {"x-api-key": key, "x-archive": "no", "content-type": "image/jpeg"}
    return requests.post(server.predictions, data=photo, headers=headers, timeout=120)


@pytest.mark.slow
def test_a_revoked_key_stops_at_once_in_every_worker(guarded: Server, keys_file: Path, astronaut_jpeg: bytes) -> None:
    before = keys_file.read_text()
    assert {ask(guarded, astronaut_jpeg, "also").status_code for _ in range(6)} == {200}
    assert humanseg("revoke", "bob", "--file", keys_file).returncode == 0
    assert {ask(guarded, astronaut_jpeg, "also").status_code for _ in range(6)} == {401}
    assert ask(guarded, astronaut_jpeg, "good").status_code == 200
    keys_file.write_text(before)
    assert {ask(guarded, astronaut_jpeg, "also").status_code for _ in range(6)} == {200}


@pytest.mark.slow
def test_requests_need_a_key(guarded: Server) -> None:
    photo = {"image": encoded(np.zeros((20, 10, 3), np.uint8), "PNG")}
    refused = requests.post(guarded.predictions, files=photo, timeout=60)
    assert (refused.status_code, refused.json()["type"]) == (401, "Unauthorized")
    for headers in ({"Authorization": "Bearer good"}, {"x-api-key": "good"}):
        assert requests.post(guarded.predictions, files=photo, headers=headers, timeout=60).status_code == 200
    wrong = requests.post(guarded.predictions, files=photo, headers={"x-api-key": "goo"}, timeout=60)
    assert wrong.status_code == 401
    assert requests.get(guarded.predictions, timeout=10).status_code == 200  # the page asks for the key itself


@pytest.mark.slow
def test_a_correction_needs_a_key(guarded: Server) -> None:
    fields = {"of": "0f8fad5b-d9cb-469f-a165-70867728950e", "archive": "yes"}
    mask = {"correction": encoded(np.zeros((20, 10), np.uint8), "PNG")}
    assert requests.post(guarded.predictions, files=mask, data=fields, timeout=60).status_code == 401


@pytest.mark.slow
def test_grpc_takes_the_key_as_an_input(guarded: Server, astronaut_jpeg: bytes) -> None:
    inputs = {"data": astronaut_jpeg, "output": b"json", "archive": b"no"}
    with grpc.insecure_channel(f"127.0.0.1:{guarded.environment['GRPC_INFERENCE_PORT']}") as channel:
        call = channel.unary_unary(PREDICT)
        assert b'"width": 512' in call(prediction(MODEL, {**inputs, "x-api-key": b"good"}), timeout=60)
        for wrong in ({}, {"x-api-key": b"bad"}):
            try:  # TorchServe may hand the refusal on as a reply or as an error
                output = str(call(prediction(MODEL, {**inputs, **wrong}), timeout=60))
            except grpc.RpcError as refused:
                output = refused.details()
            assert "Unauthorized" in output, output
            assert "width" not in output


@pytest.mark.slow
def test_metrics_and_log_name_the_key_and_never_hold_it(guarded: Server, astronaut_jpeg: bytes) -> None:
    ask(guarded, astronaut_jpeg, "good")
    end = time.monotonic() + 60
    while 'humanseg_key_requests_total{key="alice",status="200"' not in (
        page := requests.get(guarded.metrics_url).text
    ):
        assert time.monotonic() < end
        time.sleep(0.2)
    logs = "".join(path.read_text() for path in (guarded.state_dir / "logs").glob("*.log"))
    assert '"key": "alice"' in logs
    for secret in ("good", "also", digest("good")):
        assert f'"{secret}"' not in page + logs
        assert f"={secret}" not in logs


@pytest.mark.slow
def test_a_key_has_one_photo_at_a_time_and_the_rest_is_told_to_wait(guarded: Server, astronaut: object) -> None:
    large = encoded(np.tile(np.asarray(astronaut), (5, 6, 1)), "jpeg")
    answers: Counter[int] = Counter()
    waits: set[str | None] = set()

    def work() -> None:
        for _ in range(6):
            answer = ask(guarded, large, "good")
            answers[answer.status_code] += 1
            if answer.status_code == 429:
                waits.add(answer.headers.get("retry-after"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) == {200, 429}
    assert waits == {"1"}
    assert ask(guarded, large, "good").status_code == 200


def instances(number: int, photo: bytes) -> bytes:
    instance = {"image": base64.b64encode(photo).decode(), "output": "json", "archive": "no"}
    return json.dumps({"instances": [instance] * number}).encode()


@pytest.mark.slow
def test_each_photo_of_a_request_counts(guarded: Server, astronaut_jpeg: bytes) -> None:
    address = f"{guarded.url}/v1/models/{MODEL}:predict"
    headers = {"x-api-key": "good", "content-type": "application/json"}
    answers = [requests.post(address, instances(n, astronaut_jpeg), headers=headers, timeout=60) for n in (1, 2, 32)]
    assert [answer.status_code for answer in answers] == [200, 413, 413]
    assert "32 photos; the limit of this API key is 1" in answers[2].json()["message"]
    assert ask(guarded, astronaut_jpeg, "good").status_code == 200, "what was refused holds no place"


def test_a_request_takes_as_many_places_as_it_has_photos(tmp_path: Path) -> None:
    key = ApiKey(digest("a"), "a")
    limit = KeyLimit(tmp_path / "slots", 40)
    limit.take(key, 32)
    with pytest.raises(TooManyRequests):
        limit.take(key, 9)
    limit.take(key, 8)
    limit.release()
    with pytest.raises(TooLarge):
        limit.take(key, 41)


@pytest.mark.slow
def test_what_the_model_says_of_itself_wants_a_key(guarded: Server) -> None:
    """TorchServe asks for it with a header, which anybody can send to the port of predictions."""
    for path in (
        guarded.predictions,
        f"{guarded.url}/models/{MODEL}/invoke",
        f"{guarded.url}/v1/models/{MODEL}:predict",
    ):
        for name in ("describe", "Describe", "DESCRIBE"):
            answer = requests.post(path, headers={name: "True"}, timeout=60)
            assert answer.status_code in (400, 401), (path, name)
            assert "efficient_unet" not in answer.text
    wrong = requests.post(guarded.predictions, headers={"describe": "True", "x-api-key": "bad"}, timeout=60)
    assert wrong.status_code == 401
    good = requests.post(guarded.predictions, headers={"describe": "True", "x-api-key": "good"}, timeout=60)
    assert good.json()["network"]["architecture"]
    with grpc.insecure_channel(f"127.0.0.1:{guarded.environment['GRPC_INFERENCE_PORT']}") as channel:
        call = channel.unary_unary(PREDICT)
        for inputs in ({"describe": b"True"}, {"describe": b"True", "x-api-key": b"bad"}):
            try:
                output = str(call(prediction(MODEL, inputs), timeout=60, metadata=[("describe", "True")]))
            except grpc.RpcError as refused:
                output = refused.details()
            assert "efficient_unet" not in output


@pytest.mark.slow
def test_whoever_manages_a_server_with_keys_brings_one(guarded: Server) -> None:
    address = f"{guarded.management_url}/models/{MODEL}?customized=true"
    assert "efficient_unet" not in requests.get(address, timeout=30).text
    assert "efficient_unet" in requests.get(address, headers={"x-api-key": "good"}, timeout=30).text
    command = [
        str(Path(sys.executable).parent / "humanseg"),
        "status",
        "--management-url",
        guarded.management_url,
        "--json",
    ]
    for key, network in (("", False), ("bad", False), ("good", True)):
        environment = {**os.environ, "HUMANSEG_API_KEY": key}
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert ("efficient_unet" in result.stdout) == network, "what else it shows needs no worker, and no key"


@pytest.mark.slow
def test_guessing_is_bounded_and_locks_nobody_out(guarded: Server, astronaut_jpeg: bytes) -> None:
    assert ask(guarded, astronaut_jpeg, "good").status_code == 200
    answers: Counter[int] = Counter()
    began = time.monotonic()

    def guess(number: int) -> None:
        for at in range(60):
            answers[ask(guarded, b"x", f"guess-{number}-{at}").status_code] += 1

    threads = [threading.Thread(target=guess, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) == {401, 429}
    per_worker = WRONG_KEYS * (1 + (time.monotonic() - began) / WRONG_SECONDS)
    assert answers[401] <= 2 * per_worker, "two workers"
    assert {ask(guarded, astronaut_jpeg, "good").status_code for _ in range(6)} == {200}


@pytest.mark.slow
def test_who_guesses_keys_connects_anew_for_each(guarded: Server) -> None:
    port = int(guarded.environment["INFERENCE_PORT"])
    head = f"POST /predictions/{MODEL} HTTP/1.1\r\nhost: x\r\nx-api-key: guess\r\ncontent-length: 1\r\n\r\nx"
    status = set()
    for _ in range(2 * WRONG_KEYS + 2):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(head.encode())
            output = b""
            with contextlib.suppress(ConnectionResetError):
                while piece := connection.recv(4096):  # ends, because the server does
                    output += piece
        status.add(output[9:12])
    assert status in ({b"401", b"429"}, {b"429"})
