"""`humanseg segment` between pipes, web addresses and S3, against a running server, a web server and a store."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import numpy as np
import pytest
from PIL import Image

from humanseg.archive.ship.local_store import LocalStore
from humanseg.client import Client
from humanseg.video.probe import probe
from tests.cli.conftest import COMMAND
from tests.cli.web import Web, body, endless, redirect, stalled, web
from tests.video.clips import shown, write_clip

if TYPE_CHECKING:
    from tests.running import Server

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def site(astronaut_jpeg: bytes) -> Iterator[Web]:
    """A web server with /photo.jpg."""
    with web() as running:
        running.pages["/photo.jpg"] = body(astronaut_jpeg)
        yield running


@pytest.fixture(scope="module")
def mask(server: Server, astronaut_jpeg: bytes) -> bytes:
    """The mask of the photo, as the server gives it."""
    with Client(server.url) as client:
        return client.segment(astronaut_jpeg).content


@pytest.fixture(scope="module")
def clip(astronaut: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four frames of the astronaut, 160x160."""
    small = np.array(Image.fromarray(astronaut).resize((160, 160)))
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", [np.roll(small, at, axis=1) for at in range(4)])


def piped(*words: object, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The command between two pipes."""
    command = [str(COMMAND), "segment", *map(str, words)]
    return subprocess.run(command, input=data, capture_output=True, timeout=120, check=False)


# ---------------------------------------------------------------------- pipes


def test_a_photo_comes_from_a_pipe_and_its_mask_goes_to_one(
    server: Server, astronaut_jpeg: bytes, mask: bytes
) -> None:
    result = piped("-", "-o", "-", "--url", server.url, data=astronaut_jpeg)
    assert result.returncode == 0, result.stderr
    assert result.stdout == mask
    assert b"1 done" in result.stderr


def test_format_and_json_go_to_a_pipe(server: Server, astronaut_jpeg: bytes) -> None:
    result = piped("-", "-o", "-", "--output", "cutout", "--format", "webp", "--url", server.url, data=astronaut_jpeg)
    assert Image.open(io.BytesIO(result.stdout)).format == "WEBP"
    result = piped("-", "-o", "-", "--output", "json", "--url", server.url, data=astronaut_jpeg)
    assert json.loads(result.stdout)["width"] == 512


def test_a_failure_leaves_standard_output_empty(server: Server) -> None:
    result = piped("-", "-o", "-", "--url", server.url, data=b"<!doctype html><p>No photo")
    assert (result.returncode, result.stdout) == (1, b"")
    assert b"neither a photo nor a clip" in result.stderr
    result = piped("-", "-o", "-", "--url", server.url, data=b"\xff\xd8\xffbroken")
    assert (result.returncode, result.stdout) == (1, b"")
    assert b"header is damaged" in result.stderr


def test_a_clip_comes_from_a_pipe_and_goes_to_one(server: Server, clip: Path, tmp_path: Path) -> None:
    result = piped("-", "-o", "-", "--output", "cutout", "--url", server.url, data=clip.read_bytes())
    assert result.returncode == 0, result.stderr
    (tmp_path / "out.webm").write_bytes(result.stdout)
    assert len(shown(tmp_path / "out.webm", "rgba")) == 4
    assert probe(tmp_path / "out.webm").frames in (None, 4)


def test_a_terminal_gets_no_bytes_and_gives_none(server: Server, astronaut_jpeg: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(astronaut_jpeg)
    parent, child = pty.openpty()
    try:
        words = [str(COMMAND), "segment", str(tmp_path / "a.jpg"), "-o", "-", "--url", server.url]
        result = subprocess.run(words, stdout=child, stderr=subprocess.PIPE, timeout=60, check=False)
        assert result.returncode == 1
        assert b"is a terminal" in result.stderr
        words = [str(COMMAND), "segment", "-", "-o", str(tmp_path / "x.png"), "--url", server.url]
        result = subprocess.run(words, stdin=child, stderr=subprocess.PIPE, timeout=60, check=False)
        assert result.returncode == 1
        assert b"< photo.jpg" in result.stderr
    finally:
        os.close(parent)
        os.close(child)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("a.jpg", "b.jpg", "-o", "-"), "one photo or clip"),
        ((".", "-o", "-"), "one photo or clip"),
        (("-", "-", "-o", "out"), "use - once"),
        (("a.jpg", "-o", "-", "--json"), "both write to standard output"),
        (("a.jpg", "b.jpg", "-o", "s3://bucket/out"), "a prefix that ends with /"),
        (("a.jpg", "-o", "s3:///key"), "has no bucket name"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    humanseg: Run, tmp_path: Path, astronaut_jpeg: bytes, words: tuple[str, ...], sentence: str
) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(astronaut_jpeg)
    result = humanseg("segment", *words, cwd=tmp_path, HUMANSEG_URL="http://127.0.0.1:9")
    assert (result.returncode, result.stdout) == (1, "")
    assert sentence in result.stderr


# ---------------------------------------------------------------------- the web


def test_a_web_address_is_fetched_with_nothing_but_its_path(
    humanseg: Run, server: Server, site: Web, mask: bytes, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login ada password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    address = f"{site.url}/photo.jpg?size=large"
    words = ("segment", address, "-o", tmp_path / "mask.png", "--url", server.url, "--api-key", "0123")
    result = humanseg(*words, HOME=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "mask.png").read_bytes() == mask
    [(path, headers)] = site.asked
    assert path == "/photo.jpg?size=large"
    assert not {"authorization", "cookie", "x-api-key"} & set(headers)


def test_addresses_go_into_a_folder_and_a_second_run_skips_them(
    humanseg: Run, server: Server, site: Web, astronaut_jpeg: bytes, tmp_path: Path
) -> None:
    site.pages["/gone.jpg"] = body(b"", 404)
    site.pages["/..%2Fb"] = body(astronaut_jpeg)
    words = ("segment", f"{site.url}/photo.jpg", f"{site.url}/gone.jpg", f"{site.url}/..%2Fb")
    words = (*words, "-o", tmp_path / "out", "--url", server.url, "--json")
    first = json.loads(humanseg(*words).stdout)
    assert sorted(Path(entry["result"]).name for entry in first["done"]) == ["b.png", "photo.png"]
    assert first["failed"] == [
        {"photo": f"{site.url}/gone.jpg", "cause": f"{site.url}/gone.jpg answered 404 Not Found"}
    ]
    again = json.loads(humanseg(*words).stdout)
    assert (again["done"], len(again["skipped"])) == ([], 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


@pytest.mark.slow
def test_a_clip_comes_from_a_web_address(
    humanseg: Run, server: Server, site: Web, clip: Path, tmp_path: Path
) -> None:
    site.pages["/clip"] = body(clip.read_bytes(), kind="application/octet-stream")
    result = humanseg("segment", f"{site.url}/clip", "-o", tmp_path / "out.mp4", "--url", server.url)
    assert result.returncode == 0, result.stderr
    assert len(shown(tmp_path / "out.mp4")) == 4


@pytest.mark.slow
def test_redirects_are_followed_so_far_and_no_further(
    humanseg: Run, server: Server, site: Web, mask: bytes, tmp_path: Path
) -> None:
    site.pages["/five"] = redirect("/4")
    site.pages |= {f"/{number}": redirect(f"/{number - 1}") for number in range(2, 5)}
    site.pages["/1"] = redirect("/photo.jpg")
    site.pages["/loop"] = redirect("/loop")
    site.pages["/file"] = redirect("file:///etc/passwd")
    out = tmp_path / "mask.png"
    result = humanseg("segment", f"{site.url}/five", "-o", out, "--url", server.url)
    assert result.returncode == 0, result.stdout
    assert out.read_bytes() == mask
    for path, sentence in (("loop", "redirects more than 5 times"), ("file", "could not download")):
        result = humanseg("segment", f"{site.url}/{path}", "-o", tmp_path / "no.png", "--url", server.url)
        assert result.returncode == 1
        assert sentence in result.stdout
        assert not (tmp_path / "no.png").exists()


@pytest.mark.slow
def test_what_is_too_large_too_slow_or_no_photo_is_refused(
    humanseg: Run, server: Server, site: Web, tmp_path: Path
) -> None:
    over = threading.Event()
    site.pages["/huge"] = endless(b"\xff\xd8\xff")
    site.pages["/slow"] = stalled(b"\xff\xd8\xff", over)
    site.pages["/html"] = body(b"<html>Log in first</html>", kind="text/html")
    site.pages["/empty"] = body(b"")
    wanted = {"slow": "sent nothing for 1 s", "html": "begins with b'<html>", "empty": "is empty"}
    words = ("-o", tmp_path / "out", "--url", server.url, "--json")
    result = humanseg("segment", *(f"{site.url}/{name}" for name in wanted), *words, "--timeout", "1")
    over.set()
    causes = {entry["photo"].rpartition("/")[2]: entry["cause"] for entry in json.loads(result.stdout)["failed"]}
    assert result.returncode == 1
    assert causes.keys() == wanted.keys()
    for name, sentence in wanted.items():
        assert sentence in causes[name]
    [failed] = json.loads(humanseg("segment", f"{site.url}/huge", *words).stdout)["failed"]
    assert "more than 64 MB" in failed["cause"]


# ---------------------------------------------------------------------- S3


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a real S3-compatible store."""
    with LocalStore(tmp_path_factory.mktemp("s3") / "store") as running:
        environment = running.environment()
        yield {
            "AWS_ENDPOINT_URL_S3": environment["ARCHIVE_ENDPOINT_URL"],
            "BUCKET": environment["ARCHIVE_BUCKET"],
            **{name: value for name, value in environment.items() if name.startswith("AWS_")},
        }


@pytest.fixture
def objects(store: dict[str, str]) -> Any:
    """The store as boto3 has it."""
    return boto3.client(
        "s3",
        endpoint_url=store["AWS_ENDPOINT_URL_S3"],
        aws_access_key_id=store["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=store["AWS_SECRET_ACCESS_KEY"],
        region_name=store["AWS_REGION"],
    )


def test_one_object_becomes_another(
    humanseg: Run, server: Server, store: dict[str, str], objects: Any, astronaut_jpeg: bytes, mask: bytes
) -> None:
    bucket = store["BUCKET"]
    objects.put_object(Bucket=bucket, Key="one/in.jpg", Body=astronaut_jpeg)
    words = ("segment", f"s3://{bucket}/one/in.jpg", "-o", f"s3://{bucket}/one/out.png", "--url", server.url)
    result = humanseg(*words, **store)
    assert result.returncode == 0, result.stderr + result.stdout
    written = objects.get_object(Bucket=bucket, Key="one/out.png")
    assert written["Body"].read() == mask
    assert written["ContentType"] == "image/png"


@pytest.mark.slow
def test_a_folder_of_objects_goes_into_another_and_on_where_it_stopped(
    humanseg: Run, server: Server, store: dict[str, str], objects: Any, astronaut_jpeg: bytes, clip: Path
) -> None:
    bucket = store["BUCKET"]
    for key, data in {"a.jpg": astronaut_jpeg, "sub/b.jpg": astronaut_jpeg, "c.mp4": clip.read_bytes()}.items():
        objects.put_object(Bucket=bucket, Key=f"in/{key}", Body=data)
    objects.put_object(Bucket=bucket, Key="in/notes.txt", Body=b"no photo")
    words = ("segment", f"s3://{bucket}/in/", "-o", f"s3://{bucket}/out/", "--url", server.url, "--json")
    result = humanseg(*words, **store)
    assert result.returncode == 0, result.stderr + result.stdout
    first = json.loads(result.stdout)
    assert sorted(clip["result"] for clip in (*first["done"], *first["clips"])) == [
        f"s3://{bucket}/out/{name}" for name in ("a.png", "c.mp4", "sub/b.png")
    ]
    again = json.loads(humanseg(*words, **store).stdout)
    assert (again["done"], again["clips"], len(again["skipped"])) == ([], [], 3)
    objects.put_object(Bucket=bucket, Key="in/a.jpg", Body=astronaut_jpeg + b"\0")  # another photo now
    objects.put_object(Bucket=bucket, Key="out/sub/b.png", Body=b"precious")  # somebody else's
    last = json.loads(humanseg(*words, **store).stdout)
    assert [entry["photo"] for entry in last["done"]] == [f"s3://{bucket}/in/a.jpg"]
    assert "--force" in last["failed"][0]["cause"]
    assert objects.get_object(Bucket=bucket, Key="out/sub/b.png")["Body"].read() == b"precious"


@pytest.mark.slow
def test_objects_go_into_a_folder_here_and_files_into_a_bucket(
    humanseg: Run, server: Server, store: dict[str, str], objects: Any, astronaut_jpeg: bytes, tmp_path: Path
) -> None:
    bucket = store["BUCKET"]
    objects.put_object(Bucket=bucket, Key="mixed/a.jpg", Body=astronaut_jpeg)
    words = ("segment", f"s3://{bucket}/mixed/", "-o", tmp_path / "out", "--url", server.url, "--json")
    assert len(json.loads(humanseg(*words, **store).stdout)["done"]) == 1
    assert len(json.loads(humanseg(*words, **store).stdout)["skipped"]) == 1
    assert (tmp_path / "out" / "a.png").is_file()
    (tmp_path / "b.jpg").write_bytes(astronaut_jpeg)
    out = f"s3://{bucket}/from-here/"
    result = humanseg("segment", tmp_path / "b.jpg", "-o", out, "--url", server.url, "--json", **store)
    assert json.loads(result.stdout)["done"][0]["result"] == f"{out}b.png"


@pytest.mark.slow
def test_what_the_store_refuses_is_said(
    humanseg: Run, server: Server, store: dict[str, str], astronaut_jpeg: bytes, tmp_path: Path
) -> None:
    words = ("segment", f"s3://{store['BUCKET']}/nothing.jpg", "-o", tmp_path / "m.png", "--url", server.url)
    result = humanseg(*words, **store)
    assert result.returncode == 1
    assert "NoSuchKey" in result.stdout
    result = humanseg("segment", "s3://no-such-bucket-here/", "-o", tmp_path / "out", "--url", server.url, **store)
    assert result.returncode == 1
    assert "NoSuchBucket" in result.stdout
    result = humanseg(*words, **{**store, "AWS_SECRET_ACCESS_KEY": "wrong"})
    assert "SignatureDoesNotMatch" in result.stdout


def test_without_boto3_it_says_which_extra_brings_it(tmp_path: Path) -> None:
    (tmp_path / "boto3.py").write_text("raise ModuleNotFoundError(\"No module named 'boto3'\", name='boto3')\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    words = [str(COMMAND), "segment", "s3://bucket/photo.jpg", "-o", str(tmp_path / "mask.png")]
    result = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert result.returncode == 1
    assert "humanseg[archive]" in result.stderr
