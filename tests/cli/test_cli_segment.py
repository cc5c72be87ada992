"""`humanseg segment` against a running server."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from tests.running import Server

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def photos(tmp_path: Path, astronaut: np.ndarray) -> Path:
    """photos/: a.jpg, b.png, sub/c.webp, notes.txt"""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    small = Image.fromarray(astronaut).resize((120, 90))
    small.save(folder / "a.jpg")
    small.rotate(180).save(folder / "b.png")
    small.save(folder / "sub" / "c.webp")
    (folder / "notes.txt").write_text("no photo")
    return folder


def opened(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes()))


def results(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_one_photo_to_one_file(humanseg: Run, server: Server, photos: Path, tmp_path: Path) -> None:
    result = humanseg("segment", photos / "a.jpg", "-o", tmp_path / "mask.png", "--url", server.url)
    assert (result.returncode, result.stdout) == (0, "")
    assert "1 done" in result.stderr
    assert opened(tmp_path / "mask.png").size == (120, 90)


def test_the_files_ending_chooses_the_format(humanseg: Run, server: Server, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "cut.webp"
    humanseg("segment", photos / "a.jpg", "-o", out, "--output", "cutout", HUMANSEG_URL=server.predictions)
    assert (opened(out).format, opened(out).mode) == ("WEBP", "RGBA")


def test_a_folder_keeps_its_tree(humanseg: Run, server: Server, photos: Path, tmp_path: Path) -> None:
    port = server.environment["INFERENCE_PORT"]
    result = humanseg("segment", photos, "-o", tmp_path / "out", INFERENCE_PORT=port)
    assert result.returncode == 0, result.stderr
    assert results(tmp_path / "out") == [".humanseg.jsonl", "a.png", "b.png", "sub/c.png"]


def test_a_pattern_takes_what_matches(humanseg: Run, server: Server, photos: Path) -> None:
    result = humanseg(
        "segment",
        "photos/**/*.[jw]*",
        "-o",
        "out",
        "--output",
        "json",
        "--url",
        server.url,
        cwd=photos.parent,
    )
    assert result.returncode == 0, result.stderr
    assert results(photos.parent / "out") == [".humanseg.jsonl", "a.json", "sub/c.json"]
    assert json.loads((photos.parent / "out" / "a.json").read_text())["width"] == 120


def test_a_second_run_does_only_what_is_missing(humanseg: Run, server: Server, photos: Path, tmp_path: Path) -> None:
    words = ("segment", photos, "-o", tmp_path / "out", "--url", server.url, "--json")
    assert len(json.loads(humanseg(*words).stdout)["done"]) == 3
    (tmp_path / "out" / "b.png").unlink()
    Image.new("RGB", (50, 40)).save(photos / "a.jpg")
    again = json.loads(humanseg(*words).stdout)
    assert sorted(Path(entry["photo"]).name for entry in again["done"]) == ["a.jpg", "b.png"]
    assert [Path(photo["photo"]).name for photo in again["skipped"]] == ["c.webp"]


@pytest.mark.slow
def test_other_options_make_every_result_again(humanseg: Run, server: Server, photos: Path, tmp_path: Path) -> None:
    words = ("segment", photos, "-o", tmp_path / "out", "--url", server.url, "--json")
    humanseg(*words)
    other = json.loads(humanseg(*words, "--output", "overlay").stdout)
    assert (len(other["done"]), other["skipped"]) == (3, [])
    assert opened(tmp_path / "out" / "a.png").mode == "RGB"


def test_failures_are_listed_and_the_rest_is_done(
    humanseg: Run, server: Server, photos: Path, tmp_path: Path
) -> None:
    (photos / "broken.jpg").write_bytes(b"no photo either")
    result = humanseg("segment", photos, "-o", tmp_path / "out", "--url", server.url)
    assert result.returncode == 1
    assert "broken.jpg" in result.stdout
    assert "3 done, 1 failed" in result.stderr
    assert "broken.png" not in results(tmp_path / "out")


def test_a_file_of_somebody_else_is_not_replaced(humanseg: Run, server: Server, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_text("precious")
    words = ("segment", photos, "-o", tmp_path / "out", "--url", server.url)
    result = humanseg(*words)
    assert result.returncode == 1
    assert "--force" in result.stdout
    assert (tmp_path / "out" / "a.png").read_text() == "precious"
    assert humanseg(*words, "--force").returncode == 0
    assert opened(tmp_path / "out" / "a.png").size == (120, 90)


def test_two_photos_of_one_name_get_a_result_each(
    humanseg: Run, server: Server, photos: Path, tmp_path: Path
) -> None:
    shutil.copy(photos / "b.png", photos / "a.png")
    humanseg("segment", photos, "-o", tmp_path / "out", "--url", server.url)
    assert results(tmp_path / "out") == [".humanseg.jsonl", "a.jpg.png", "a.png.png", "b.png", "sub/c.png"]


@pytest.mark.slow
def test_results_below_the_photos_are_no_photos_next_time(humanseg: Run, server: Server, photos: Path) -> None:
    words = ("segment", photos, "-o", photos / "out", "--url", server.url, "--json")
    assert len(json.loads(humanseg(*words).stdout)["done"]) == 3
    again = json.loads(humanseg(*words).stdout)
    assert (again["done"], len(again["skipped"])) == ([], 3)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("photos", "-o", "photos"), "choose another one with -o"),
        (("photos/b.png", "-o", "photos/b.png"), "would overwrite a photo"),
        (("photos/b.png", "photos/a.jpg", "-o", "photos"), "would overwrite a photo"),
        (("nothing-here", "-o", "out"), "not a file, a folder, or a pattern"),
        (("empty", "-o", "out"), "contains no photos"),
        (("photos", "-o", "out", "--output", "cutout", "--background", "blur"), "Use --output composite"),
        (("photos", "-o", "out", "--output", "json", "--format", "webp"), "--format webp has no effect"),
        (("photos", "-o", "out", "--background", "photos/b.png"), "only a composite has a background"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(
    humanseg: Run, photos: Path, words: tuple[str, ...], sentence: str
) -> None:
    (photos.parent / "empty").mkdir()
    result = humanseg("segment", *words, cwd=photos.parent, HUMANSEG_URL="http://127.0.0.1:9")
    assert result.returncode == 1
    assert sentence in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_without_a_server_it_stops_early_and_says_so(humanseg: Run, photos: Path, tmp_path: Path) -> None:
    result = humanseg("segment", photos, "-o", tmp_path / "out", "-j", "1", "--url", "http://127.0.0.1:9")
    assert result.returncode == 1
    assert "./serve.sh" in result.stdout
    assert "1 failed, 2 not tried" in result.stderr


@pytest.mark.slow
def test_a_stopped_run_leaves_no_half_files_and_goes_on(
    humanseg: Run, server: Server, photos: Path, tmp_path: Path
) -> None:
    from humanseg.cli.jobs import Job, Source
    from humanseg.cli.resume_log import ResumeLog

    # What a kill leaves behind: a result that was begun and written, but not noted; and half a line.
    out = tmp_path / "out"
    ResumeLog(out, {}).begin(Job(Source(photos / "a.jpg", Path("a.jpg")), out / "a.png"))
    (out / "a.png").write_bytes(b"written, not noted")
    with (out / ".humanseg.jsonl").open("a") as log:
        log.write('{"result": "b.p')
    words = ("segment", photos, "-o", out, "--url", server.url, "--json")
    assert len(json.loads(humanseg(*words).stdout)["done"]) == 3
    assert len(json.loads(humanseg(*words).stdout)["skipped"]) == 3


def test_many_photos_in_parallel_are_each_answered_with_their_own(
    humanseg: Run, server: Server, tmp_path: Path, astronaut: np.ndarray
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for width in range(40, 64):
        buffer = io.BytesIO()
        Image.fromarray(astronaut).resize((width, 50)).save(buffer, "PNG")
        (folder / f"{width}.png").write_bytes(buffer.getvalue())
    result = humanseg("segment", folder, "-o", tmp_path / "out", "-j", "8", "--url", server.url)
    assert result.returncode == 0, result.stderr
    assert {path.stem: opened(path).width for path in (tmp_path / "out").glob("*.png")} == {
        str(width): width for width in range(40, 64)
    }
