"""Names from outside that would become paths: in a bucket's tables, a stranger's COCO file, a .mar, an id."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from humanseg.archive.capture.record import check_request_id, extension_of
from humanseg.archive.errors import ArchiveError
from humanseg.archive.read.export import Entry
from humanseg.cli.console import CommandError
from humanseg.cli.modelstore import read_mar
from humanseg.labels.drawn import file_of
from humanseg.training.samples import DataError, _coco

UP = ["../../../../etc/x", "/etc/passwd", "..", "a/../../b", "..\\..\\x", "%2e%2e/x", "a\0b", ""]
LONG = ["A" * 64, "a" * 63 + "/"]


@pytest.mark.parametrize("name", UP + LONG)
def test_a_record_s_hash_that_is_none_becomes_no_file_s_name(name: str) -> None:
    """Who may put into the bucket may write a table of records; an export names files by the photo's hash."""
    with pytest.raises(ArchiveError, match="not a SHA-256"):
        _ = Entry({"photo_sha256": name, "request_id": "r"}, None, []).name
    assert Entry({"photo_sha256": "0a" * 32, "request_id": "r"}, None, []).name == "0a" * 10
    assert extension_of(name) == "bin"


@pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png", "img/../../secret.png"])
def test_a_stranger_s_coco_file_chooses_no_picture_outside_of_its_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(b"")
    image = {"id": 1, "file_name": name, "width": 1, "height": 1}
    content = {"categories": [{"id": 1, "name": "person"}], "images": [image], "annotations": []}
    (folder / "coco.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="outside its folder"):
        _coco(folder / "coco.json")


@pytest.mark.parametrize("name", UP)
def test_the_name_of_a_labelled_photo_is_no_path(name: str) -> None:
    assert "/" not in file_of(name)
    assert "/" not in file_of(f"/data/local-files/?d={name}")


@pytest.mark.parametrize("name", [*UP, "-rf", ".hidden"])
def test_a_model_archive_names_no_path(tmp_path: Path, name: str) -> None:
    for field in ("modelName", "modelVersion"):
        model = {"modelName": "a", "modelVersion": "1", field: name}
        with zipfile.ZipFile(tmp_path / "a.mar", "w") as mar:
            mar.writestr("MAR-INF/MANIFEST.json", json.dumps({"model": model}))
        with pytest.raises(CommandError, match="only letters"):
            read_mar(tmp_path / "a.mar")


@pytest.mark.parametrize("name", [*UP, "a b", "a\n", "-a"])
def test_a_request_id_names_no_path(name: str) -> None:
    with pytest.raises(ValueError, match="request id"):
        check_request_id(name)
