"""API keys as people manage them: made, listed, ended, revoked while the server runs; guessed, and used too much."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from handler.apikeys import PLACES, WRONG_KEYS, WRONG_SECONDS, KeyLimit, KeyRing, sent_key
from handler.errors import TooManyRequests, Unauthorized
from humanseg.common.apikeys import ApiKey, parse_keys

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
