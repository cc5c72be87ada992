"""Who takes the machine's disk after `humanseg archive erase`: nothing of the person is on it."""

from __future__ import annotations

import io
import json
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from typer.testing import CliRunner, Result

from humanseg.archive.capture.hook import Archive, Outcome
from humanseg.archive.capture.record import Exchange
from humanseg.archive.capture.rewrite import upright_rgb
from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.archive.errors import ArchiveError
from humanseg.archive.read.reader import Reader
from humanseg.archive.ship.destination import Destination
from humanseg.archive.ship.local_store import LocalStore, keep_running
from humanseg.archive.ship.store import Store
from humanseg.archive.ship.store_wiping import embedded_store, tidy_log, wipe
from humanseg.archive.ship.weed import shell
from humanseg.cli.archive import app
from tests.archive import photos
from tests.archive.helpers import exchange

pytestmark = pytest.mark.slow
WINDOW = 64


class Place:
    """A state folder with its embedded store, and the command line on it."""

    def __init__(self, folder: Path) -> None:
        self.state_dir = folder
        self.store = LocalStore(folder / "store")

    def config(self, encryption: str) -> Path:
        path = self.state_dir / f"{encryption}.yaml"
        path.write_text(f"archive: {{encryption: {encryption}, segment_seconds: 0.1}}")
        return path

    def keep(self, *exchanges: Exchange, encryption: str = "sse-s3", ship: bool = True) -> list[str]:
        """Ids of these exchanges, which are now in the bucket, or in the spool."""
        archive = Archive.start(ArchiveSettings(), self.state_dir, upload=False)
        assert [archive.keep(exchange) for exchange in exchanges] == [Outcome.SPOOLED] * len(exchanges)
        archive.close()
        if ship:
            self.run("ship", "--drain", "--config", self.config(encryption))
        return [exchange.request_id for exchange in exchanges]

    def run(self, *arguments: object, status: int = 0, answer: str = "") -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=answer)
        assert result.exit_code == status, f"{result.output}\n{result.exception!r}"
        return result

    def reader(self) -> Reader:
        return Reader(Store.open(Destination.find({}, self.state_dir), ArchiveSettings()))

    def holding(self, token: bytes) -> list[str]:
        """Files of the store that hold `token`."""
        paths = [path for path in self.store.folder.rglob("*") if path.is_file() and not path.is_symlink()]
        return [path.name for path in paths if token in path.read_bytes()]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name in ("ARCHIVE_BUCKET", "ARCHIVE_ENDPOINT_URL", "ARCHIVE_PREFIX", "DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    here = Place(tmp_path)
    with here.store:
        yield here


def noise(seed: int) -> bytes:
    """A PNG that no compression makes smaller, so that its bytes are found as they are."""
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=0)
    return out.getvalue()


def test_neither_id_nor_bytes_are_left_in_the_folder(place: Place) -> None:
    """Without encryption, so that what is searched for can be seen at all."""
    sent = [exchange(photo=noise(seed), photo_format="png") for seed in range(3)]
    gone, kept, _ = place.keep(*sent, encryption="none")
    token = sent[0].photo[1000 : 1000 + WINDOW]
    place.run("export", "--to", place.state_dir / "data", "--since", "2026-11-01")
    assert place.holding(gone.encode())
    assert place.holding(token)
    output = place.run("erase", gone, "--yes", "--config", place.config("none"))
    assert f"{gone}: erased" in output.stdout
    assert place.holding(gone.encode()) == []
    assert place.holding(token) == []
    reader = place.reader()
    assert sorted(row["request_id"] for day in reader.records.days_rows() for row in day.to_pylist()) == sorted(
        answer.request_id for answer in sent[1:]
    )
    row = reader.find(kept)
    assert row
    assert len(reader.photo_and_mask(row)[0]) == row["photo_bytes"], "what was not erased is whole"


def test_no_ciphertext_is_left_in_the_folder(place: Place) -> None:
    """Its key lies in the filer's tables, beside it."""
    ids = place.keep(*(exchange(photo=noise(seed), photo_format="png") for seed in range(3)))
    before = b"".join(path.read_bytes() for path in (place.store.folder / "data").glob("*.dat"))
    windows = [before[at : at + WINDOW] for at in range(0, len(before), 4096)]
    dense = [window for window in windows if len(set(window)) > WINDOW // 2]
    assert len(dense) > 10
    place.run("erase", *ids, "--yes", "--config", place.config("sse-s3"))
    left = [path for path in (place.store.folder / "data").rglob("*") if path.is_file()]
    after = b"".join(path.read_bytes() for path in left)
    assert [window for window in dense if window in after] == []


def test_what_a_killed_store_forgot_to_delete_is_not_called_erased(place: Place) -> None:
    """It deletes an object's pieces a moment after the object, from a list in its memory."""
    client = place.store.open_store().client
    bodies = [np.random.default_rng(seed).bytes(2_000_000) for seed in range(8)]
    for seed, body in enumerate(bodies):
        client.put_object(Bucket="archive", Key=f"lost/{seed}", Body=body)
    client.put_object(Bucket="archive", Key="kept", Body=bodies[0])
    doomed = {"Objects": [{"Key": f"lost/{seed}"} for seed in range(8)], "Quiet": True}
    client.delete_objects(Bucket="archive", Delete=doomed)
    assert place.store.process
    place.store.process.kill()
    place.store.process.wait()
    place.store.stop()
    place.store.start()
    place.store.wait_ready()
    lost = shell(place.store.folder, "volume.fsck -v -cutoffTimeAgo=0s").count("archive:")
    assert lost, "the store was killed too late"
    with pytest.raises(ArchiveError, match=r"chunks of deleted objects .* in an hour"):
        wipe(place.store.folder, "archive", seconds=1.0)
    # An hour later, which is none here:
    shell(place.store.folder, "volume.fsck -collection=archive -cutoffTimeAgo=0s -reallyDeleteFromVolume")
    wipe(place.store.folder, "archive", seconds=20.0)
    assert place.holding(bodies[7][5000 : 5000 + WINDOW]) == []
    assert place.store.open_store().client.get_object(Bucket="archive", Key="kept")["Body"].read() == bodies[0]


def test_the_filers_log_names_no_object_after_a_start(place: Place) -> None:
    name = f"named-{uuid.uuid4().hex}"
    client = place.store.open_store().client
    client.put_object(Bucket="archive", Key=name, Body=b"somebody")
    client.delete_object(Bucket="archive", Key=name)
    place.store.stop()  # it writes its log
    volumes = list((place.store.folder / "data").glob("*.dat"))
    assert any(name.encode() in path.read_bytes() for path in volumes)
    stopping, ready = threading.Event(), threading.Event()
    keeper = threading.Thread(target=keep_running, args=(place.store, stopping, lambda line: ready.set()))
    keeper.start()
    try:
        assert ready.wait(60)
        for _ in range(100):
            tidy_log(place.store.folder)  # as the keeper does every hour: what one leaves the next one takes
            if not [path for path in volumes if name.encode() in path.read_bytes()]:
                break
        assert [path.name for path in volumes if name.encode() in path.read_bytes()] == []
    finally:
        stopping.set()
        keeper.join()


def test_a_bucket_elsewhere_is_not_taken_for_the_embedded_store(place: Place) -> None:
    own = Destination.find({}, place.state_dir)
    assert embedded_store(own, place.state_dir) == place.store.folder
    assert embedded_store(Destination("b", endpoint_url="http://127.0.0.1:1"), place.state_dir) is None
    assert embedded_store(Destination("b"), place.state_dir) is None
    assert embedded_store(own, place.state_dir / "nowhere") is None


def test_the_notes_of_exports_forget_the_id_after_it_was_told(place: Place) -> None:
    gone, kept = place.keep(*(exchange(number) for number in range(2)))
    to = place.state_dir / "data"
    place.run("export", "--to", to, "--since", "2026-11-01")
    row = place.reader().find(gone)
    assert row
    output = place.run("erase", gone, "--yes", "--config", place.config("sse-s3")).stdout
    name = row["photo_sha256"][:20]
    assert str(to) in output
    assert f"img/{name}.*" in output
    assert list((to / "img").glob(f"{name}.*")), "what it names is what the export wrote"
    reader = place.reader()
    notes = [json.loads(reader.get(key)) for key in reader.keys_under("humanseg/exports/")]
    assert [note["request_ids"] for note in notes] == [[kept]]
    assert notes[0]["folder"] == str(to)
    place.run("erase", kept, "--yes", "--config", place.config("sse-s3"))
    assert list(reader.keys_under("humanseg/exports/")) == [], "a note of nobody is none"


# ---------------------------------------------------------------------- by photo


def sent(photo: bytes, photo_format: str, **changes: Any) -> Exchange:
    """The exchange of a photo as a worker would describe it."""
    pixels = upright_rgb(photo)
    light = float(np.asarray(pixels.convert("L")).mean()) / 255
    looks = {"width": pixels.width, "height": pixels.height, "appearance": lambda: (light, 0.2, 0.1)}
    return exchange(photo=photo, photo_format=photo_format, **{**looks, **changes})


def test_erase_by_the_file_that_was_sent(place: Place) -> None:
    """With all its metadata, as it lies on the person's phone; the archive has it without."""
    files = []
    for number, photo_format in enumerate(photos.FORMATS):
        files.append(place.state_dir / f"photo-{photo_format}.bin")
        files[-1].write_bytes(photos.phone_photo(photo_format, seed=number))
    mine = [sent(path.read_bytes(), name) for path, name in zip(files, photos.FORMATS, strict=True)]
    again = [replace(exchange, request_id=str(uuid.uuid4())) for exchange in mine[:3]]
    *_, not_mine = place.keep(*mine, *again, sent(photos.jpeg(20), "jpeg"))
    waits = replace(mine[0], request_id=str(uuid.uuid4()))
    place.keep(waits, ship=False)
    wanted = [argument for path in files for argument in ("--photo", path)]
    ids = {exchange.request_id for exchange in (*mine, *again, waits)}
    asked = place.run("erase", *wanted, status=1, answer="n\n").output
    assert all(request_id in asked for request_id in ids), "what would be erased is shown first"
    assert place.reader().find(mine[0].request_id)
    config = ("--yes", "--config", place.config("sse-s3"))
    erased = json.loads(place.run("erase", *wanted, "--json", *config).stdout)
    assert {record["request_id"] for record in erased} == ids
    place.run("ship", "--drain", "--config", place.config("sse-s3"))
    left = [row["request_id"] for day in place.reader().records.days_rows() for row in day.to_pylist()]
    assert left == [not_mine]
    assert "photo-gif.bin: not found" in place.run("erase", "--photo", files[3], *config, status=4).output


def test_erase_by_photo_knows_a_copy_by_its_pixels_and_leaves_what_is_only_alike(place: Place) -> None:
    photo = photos.phone_photo("jpeg", orientation=6)
    with Image.open(io.BytesIO(photo)) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
        as_png, as_webp, nearly = io.BytesIO(), io.BytesIO(), io.BytesIO()
        upright.save(as_png, "PNG")
        upright.save(as_webp, "WEBP", lossless=True)
        pixels = np.asarray(upright).copy()
        pixels[0, 0, 0] ^= 1
        Image.fromarray(pixels).save(nearly, "PNG")
    same = place.keep(sent(photo, "jpeg"), sent(as_png.getvalue(), "png"), sent(as_webp.getvalue(), "webp"))
    (alike,) = place.keep(sent(nearly.getvalue(), "png"))
    config = ("--yes", "--config", place.config("sse-s3"))
    erased = json.loads(place.run("erase", "--same-photo", same[1], "--json", *config).stdout)
    assert {record["request_id"] for record in erased} == set(same)
    assert place.reader().find(alike)


def test_what_is_no_photo_erases_nothing(place: Place) -> None:
    (request_id,) = place.keep(exchange(1))
    file = place.state_dir / "letter.txt"
    file.write_text("Dear all")
    assert "can't be read" in str(place.run("erase", "--photo", file, "--yes", status=1).exception)
    assert "no record nobody" in str(place.run("erase", "--same-photo", "nobody", "--yes", status=1).exception)
    assert "give ids" in str(place.run("erase", "--yes", status=1).exception)
    assert place.reader().find(request_id)
