"""The library against a running server."""

from __future__ import annotations

import inspect
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

import humanseg.client as library
from humanseg.client import (
    AnswerError,
    BadRequestError,
    Client,
    NotFoundError,
    TooLargeError,
    UnsupportedFormatError,
)
from tests.video.clips import shown, write_clip

if TYPE_CHECKING:
    from tests.running import Server


@pytest.fixture
def client(server: Server):
    with Client(server.url, management_url=server.management_url) as one:
        yield one


def test_public_surface() -> None:
    assert sorted(library.__all__) == [
        "AnswerError",
        "BadRequestError",
        "Client",
        "Clip",
        "ConflictError",
        "ForbiddenError",
        "HumansegError",
        "Management",
        "ModelVersion",
        "NotFoundError",
        "NotReadyError",
        "Segmentation",
        "ServerFaultError",
        "StatusError",
        "TimedOutError",
        "TooLargeError",
        "TooManyRequestsError",
        "UnauthorizedError",
        "UnavailableError",
        "UnreachableError",
        "UnsupportedFormatError",
        "Worker",
    ]


def test_the_drawn_tree_of_errors_is_the_real_one() -> None:
    lines = [line.strip(" |`-") for line in (library.errors.__doc__ or "").splitlines()]
    drawn = {line.split()[0] for line in lines if line.split(" ")[0].endswith("Error")}
    assert drawn == {name for name, value in vars(library.errors).items() if inspect.isclass(value)}


@pytest.mark.parametrize(
    ("output", "mode"),
    [("mask", "L"), ("probability", "L"), ("cutout", "RGBA"), ("overlay", "RGB"), ("composite", "RGB")],
)
def test_every_picture_has_the_photos_size_and_its_facts(
    client: Client, astronaut_jpeg: bytes, output: str, mode: str
) -> None:
    answer = client.segment(astronaut_jpeg, output=output)  # type: ignore[arg-type]
    assert (answer.image().mode, answer.image().size) == (mode, (512, 512))
    assert (answer.width, answer.height, answer.content_type) == (512, 512, "image/png")
    assert 0 < answer.coverage <= 1
    assert answer.person_found
    assert 0 <= answer.confidence <= 1
    assert answer.model_version == "1.0"
    assert answer.request_id
    assert {"decode", "forward", "encode"} <= set(answer.milliseconds)
    assert answer.document is None


def test_json_says_the_same_as_the_headers(client: Client, astronaut_jpeg: bytes) -> None:
    picture = client.segment(astronaut_jpeg)
    facts = client.segment(astronaut_jpeg, output="json")
    assert facts.document is not None
    assert facts.coverage == picture.coverage
    assert facts.confidence == picture.confidence
    assert facts.model_version == picture.model_version
    assert facts.request_id == facts.document["request_id"]
    assert set(facts.milliseconds) == set(picture.milliseconds)
    assert np.array_equal(coco.decode(facts.document["mask"]) * 255, np.array(picture.image()))
    with pytest.raises(ValueError, match="no picture"):
        facts.image()


def test_bytes_path_and_file_are_one_photo(client: Client, astronaut_jpeg: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(astronaut_jpeg)
    photos = [bytearray(astronaut_jpeg), path, str(path), io.BytesIO(astronaut_jpeg)]
    wanted = client.segment(astronaut_jpeg).content
    assert [client.segment(photo).content == wanted for photo in photos] == [True] * len(photos)


def test_a_pillow_image_is_sent_without_loss(client: Client, astronaut: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(astronaut).save(buffer, "BMP")
    assert client.segment(Image.fromarray(astronaut)).content == client.segment(buffer.getvalue()).content


@pytest.mark.parametrize("mode", ["CMYK", "P", "LA", "F", "HSV"])
def test_pillow_images_of_any_mode_can_be_sent(client: Client, astronaut: np.ndarray, mode: str) -> None:
    picture = Image.fromarray(astronaut).resize((64, 48))
    assert client.segment((picture.convert("L") if mode == "F" else picture).convert(mode)).width == 64


def test_a_turned_pillow_image_is_sent_upright(client: Client, astronaut: np.ndarray) -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(astronaut[:200]).save(buffer, "JPEG", exif=exif)
    answer = client.segment(Image.open(buffer))
    assert (answer.width, answer.height) == (200, 512)


def test_options_reach_the_server(client: Client, astronaut_jpeg: bytes) -> None:
    low, high = (client.segment(astronaut_jpeg, threshold=at).coverage for at in (0.02, 0.98))
    assert low > high
    red = client.segment(astronaut_jpeg, output="composite", background="#ff0000", threshold=0.99)
    assert red.image().size == (512, 512)
    fast, best = (client.segment(astronaut_jpeg, quality=quality).content for quality in (None, "best"))
    assert fast != best
    webp = client.segment(astronaut_jpeg, output="cutout", format="webp", keep="largest", crop="person")
    assert (webp.content_type, webp.image().format) == ("image/webp", "WEBP")


def test_consent_is_heard(client: Client, astronaut_jpeg: bytes) -> None:
    assert client.segment(astronaut_jpeg, archive=False).archived == "declined"
    assert client.segment(astronaut_jpeg, archive=True, label="a test").archived == "spooled"


def test_the_whole_address_names_the_model(server: Server, astronaut_jpeg: bytes) -> None:
    with Client(f"{server.predictions}/1.0") as one:
        assert (one.url, one.model, one.version) == (server.url, "human_segmentation", "1.0")
        assert one.segment(astronaut_jpeg).model_version == "1.0"


def test_save_writes_the_picture_whole(client: Client, astronaut_jpeg: bytes, tmp_path: Path) -> None:
    answer = client.segment(astronaut_jpeg)
    answer.save(tmp_path / "mask.png")
    assert (tmp_path / "mask.png").read_bytes() == answer.content
    with pytest.raises(FileNotFoundError):
        answer.save(tmp_path / "missing" / "mask.png")
    assert [path.name for path in tmp_path.iterdir()] == ["mask.png"]


def test_a_file_that_is_no_photo(client: Client) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.segment(b"not a photo at all")
    assert caught.value.type == "NotAnImage"
    assert caught.value.request_id


def test_an_option_out_of_range(client: Client, astronaut_jpeg: bytes) -> None:
    with pytest.raises(BadRequestError, match="threshold"):
        client.segment(astronaut_jpeg, threshold=7)


def test_a_format_that_cannot_be_read(client: Client) -> None:
    with pytest.raises(UnsupportedFormatError):
        client.segment(b"%PDF-1.7\n" + bytes(2000))


def test_more_bytes_than_the_server_takes(client: Client) -> None:
    with pytest.raises(TooLargeError, match="smaller"):
        client.segment(bytes(65_000_000))


def test_a_version_that_is_not_there(client: Client, astronaut_jpeg: bytes) -> None:
    with pytest.raises(NotFoundError, match=r"9\.9"):
        client.segment(astronaut_jpeg, version="9.9")


def test_something_that_is_no_photo_at_all(client: Client) -> None:
    with pytest.raises(TypeError, match="photo is int"):
        client.segment(7)  # type: ignore[arg-type]


def test_a_client_is_shared_between_threads(client: Client, astronaut_jpeg: bytes) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        contents = {one.content for one in pool.map(lambda _: client.segment(astronaut_jpeg), range(16))}
    assert len(contents) == 1


@pytest.fixture(scope="module")
def clip(astronaut: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The astronaut, 160x160."""
    small = np.array(Image.fromarray(astronaut).resize((160, 160)))
    frames = [np.roll(small, index, axis=1) for index in range(40)]
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", frames)


def test_a_clip_is_cut_out_and_its_progress_reported(client: Client, clip: Path, tmp_path: Path) -> None:
    reports: list[tuple[int, int]] = []
    answer = client.segment_clip(clip, output="cutout", progress=lambda done, of: reports.append((done, of)))
    assert (answer.content_type, answer.frames, answer.warning) == ("video/webm", 40, None)
    assert (answer.model_version, answer.archived, answer.archived_frames) == ("1.0", "declined", 0)
    assert len(answer.request_id) == 36
    assert reports == sorted(reports) and {of for _, of in reports} <= {0, 40}
    assert reports, "its process alone takes longer to start than the client to ask"
    answer.save(tmp_path / "person.webm")
    assert 0.3 < (shown(tmp_path / "person.webm", "rgba")[20][1][..., 3] > 127).mean() < 0.8
    with pytest.raises(ValueError, match='output="json"'):
        answer.documents()


def test_of_a_clip_the_documents_of_its_frames(client: Client, clip: Path, tmp_path: Path) -> None:
    answer = client.segment_clip(clip, output="json", keep="largest")
    documents = list(answer.documents())
    assert [round(25 * document["seconds"]) for document in documents] == list(range(40))
    assert all(document["person_found"] for document in documents)
    answer.save(tmp_path / "frames.jsonl")
    assert len((tmp_path / "frames.jsonl").read_text().splitlines()) == answer.frames == 40


def test_a_clip_as_a_photo_and_a_photo_as_a_clip(client: Client, clip: Path, astronaut_jpeg: bytes) -> None:
    with pytest.raises(AnswerError, match="use segment_clip"):
        client.segment(clip)
    with pytest.raises(AnswerError, match="use segment"):
        client.segment_clip(astronaut_jpeg)
    with pytest.raises(BadRequestError, match="is for clips"):
        client.segment_clip(astronaut_jpeg, format="mp4")
    with pytest.raises(BadRequestError, match="no transparency"):
        client.segment_clip(clip, output="cutout", format="mp4")
