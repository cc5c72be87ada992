"""API keys as people manage them: made, listed, ended, revoked while the server runs; guessed, and used too much."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import grpc
import pytest
import requests

from handler.apikeys import PLACES, WRONG_KEYS, WRONG_SECONDS, KeyLimit, KeyRing, sent_key
from handler.errors import TooManyRequests, Unauthorized
from humanseg.common.apikeys import ApiKey, parse_keys
from humanseg.segmentation.errors import TooLarge
from tests.running import MODEL, Server, encoded, start_server
from tests.security.protobuf import prediction

PREDICT = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"# our keys\n\n{digest('first').upper()}\n{digest('second')}  studio-app  2027-01-31\n")
    return path


class Clock:
    """A clock and a calendar that stand still."""

    now, today = 0.0, date(2027, 1, 31)


def ring(file: Path, clock: Clock, extra: str | None = None) -> KeyRing:
    return KeyRing(file, extra, clock=lambda: clock.now, today=lambda: clock.today)


def test_names_and_last_days(file: Path) -> None:
    clock = Clock()
    keys = ring(file, clock)
    assert keys.check("first").name == digest("first")[:8]
    assert keys.check("second").name == "studio-app"
    clock.today = date(2027, 2, 1)
    with pytest.raises(Unauthorized, match="expired after 2027-01-31"):
        keys.check("second")
    for wrong in ("", "kez", "first ", digest("first")):
        with pytest.raises(Unauthorized):
            keys.check(wrong)


def test_keys_come_in_two_headers_and_an_input() -> None:
    assert sent_key({"Authorization": "Bearer a"}, {}) == "a"
    assert sent_key({"X-Api-Key": "a"}, {}) == "a"
    assert sent_key({}, {"x-api-key": bytearray(b"a\n")}) == "a"
    assert sent_key({"Authorization": "Basic a"}, {}) == sent_key({"authorization": "Bearer"}, {}) == ""


def test_a_changed_file_is_read_again_and_a_bad_one_keeps_the_last_good_keys(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = ring(file, Clock())
    file.write_text(f"{digest('third')} new\n")
    assert keys.check("third").name == "new"
    with pytest.raises(Unauthorized):
        keys.check("first")
    for bad in ("", "# nothing\n", f"{digest('fourth')}\nnonsense\n"):
        file.write_text(bad)
        assert keys.check("third").name == "new"
        assert "The API keys were not reloaded, the last 1 stay in force" in caplog.text
        caplog.clear()
    file.unlink()
    assert keys.check("third").name == "new"
    file.write_text(f"{digest('fifth')} newest\n")
    assert keys.check("fifth").name == "newest"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no key hash"),
        ("key\n", "line 1"),
        (f"{digest('a')}\nxyz", "line 2"),
        (f"{digest('a')} name 31.1.2027", "not a date"),
        (f"{digest('a')} na/me", "the form is HASH NAME LAST-DAY"),
        (f"{digest('a')} name 2027-01-31 more", "the form is HASH NAME LAST-DAY"),
        (f"{digest('a')} name\n{digest('b')} name", "line 2: duplicate key or name"),
    ],
)
def test_a_key_file_that_can_not_lock_stops_the_load(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(ValueError, match=words):
        KeyRing(tmp_path / "keys")
    with pytest.raises(ValueError, match="can't be read"):
        KeyRing(tmp_path / "missing")


def test_a_line_is_read_as_it_was_written() -> None:
    for key in (ApiKey(digest("a"), "x"), ApiKey(digest("a"), "x.y-z", date(2030, 1, 2))):
        assert parse_keys(key.line(), "") == (key,)


def test_many_wrong_keys_have_to_wait_and_good_ones_do_not(file: Path) -> None:
    clock = Clock()
    keys = ring(file, clock)
    assert keys.check("first")
    for _ in range(WRONG_KEYS):
        with pytest.raises(Unauthorized):
            keys.check("guess")
    with pytest.raises(TooManyRequests) as wait:
        keys.check("guess")
    assert wait.value.retry_after > 0
    assert keys.check("first")
    clock.now += WRONG_SECONDS
    with pytest.raises(Unauthorized):
        keys.check("guess")


def test_a_right_guess_looks_like_a_wrong_one_above_the_bound(file: Path, tmp_path: Path) -> None:
    """Else the bound would slow nobody: who guesses waits for the one answer that is no 429."""
    clock = Clock()

    def worker() -> KeyRing:
        return KeyRing(file, digest("health"), used=tmp_path / "used", clock=lambda: clock.now)

    first, other = worker(), worker()
    assert first.check("first")
    for keys in (first, other):
        for _ in range(WRONG_KEYS):
            with pytest.raises(Unauthorized):
                keys.check("guess")
        output = set()
        for guess in ("guess", "second"):
            with pytest.raises(TooManyRequests) as wait:
                keys.check(guess)
            output.add(str(wait.value))
        assert len(output) == 1
        assert keys.check("first"), "who was here before is not locked out, in no worker"
        assert keys.check("health")
    clock.now += WRONG_SECONDS
    assert first.check("second")
    assert (tmp_path / "used").stat().st_mode & 0o077 == 0


def test_health_has_a_key_that_no_file_names(file: Path) -> None:
    keys = ring(file, Clock(), digest("health"))
    file.write_text(digest("other"))
    assert keys.check("health").name == "health"


def test_a_key_has_a_share_of_all_workers(tmp_path: Path) -> None:
    mine, other = ApiKey(digest("a"), "a"), ApiKey(digest("b"), "b")
    code = (
        "import sys\nfrom pathlib import Path\nfrom handler.apikeys import KeyLimit\n"
        "from humanseg.common.apikeys import ApiKey\n"
        "limit = KeyLimit(Path(sys.argv[1]), 2)\nlimit.take(ApiKey(sys.argv[2], 'a'))\nprint(flush=True)\ninput()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "slots"), mine.digest]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as another:
        assert another.stdout
        another.stdout.readline()
        limit = KeyLimit(tmp_path / "slots", 2)
        limit.take(mine)
        with pytest.raises(TooManyRequests):
            limit.take(mine)
        limit.take(other)
        another.kill()
        another.wait()
    limit.take(mine)
    limit.release()
    assert limit.photos <= PLACES


def humanseg(*words: object) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "humanseg"), "keys", *map(str, words)]
    environment = {name: value for name, value in os.environ.items() if name != "API_KEYS_FILE"}
    return subprocess.run(command, env={**environment, "NO_COLOR": "1"}, capture_output=True, text=True)


@pytest.mark.slow
def test_keys_are_made_listed_and_revoked(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    made = humanseg("new", "alice", "--file", file, "--days", 30)
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    assert len(key) >= 40
    assert key not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert humanseg("new", "alice", "--file", file).returncode == 1
    assert humanseg("new", "no/name", "--file", file).returncode == 1
    listed = json.loads(humanseg("list", "--file", file, "--json").stdout)
    assert [(row["name"], row["good"], row["sha256"]) for row in listed] == [("alice", True, digest(key))]
    assert "the only key" in humanseg("revoke", "alice", "--file", file).stderr
    file.write_text("# kept\n" + file.read_text())
    assert humanseg("new", "bob", "--file", file).returncode == 0
    assert humanseg("revoke", "alice", "--file", file).returncode == 0
    assert file.read_text().startswith("# kept\n")
    assert [row["name"] for row in json.loads(humanseg("list", "--file", file, "--json").stdout)] == ["bob"]
    assert humanseg("revoke", "carol", "--file", file).returncode == 1


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
    import numpy as np

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
