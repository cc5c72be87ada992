"""From bytes to mask with broken files: a good answer or a named fault of the caller, never another exception."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from handler.errors import STATUS, ClientError
from handler.request import parse_request
from humanseg.segmentation.errors import PhotoError
from humanseg.segmentation.mask import binary_mask
from humanseg.segmentation.photo import read_photo
from humanseg.segmentation.picture import OUTPUTS_DRAWN, draw, encode
from humanseg.segmentation.pipeline import segment
from humanseg.segmentation.result import Segmentation
from humanseg.segmentation.spec import Spec


def sample(kind: str) -> bytes:
    rng = np.random.default_rng(7)
    pixels = rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)
    pixels[10:30, 20:40] = (200, 150, 120)
    file = BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(file, kind, **({} if kind in ("GIF", "BMP") else {"exif": exif.tobytes()}))
    return file.getvalue()


CORPUS = {kind: sample(kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "HEIF", "AVIF")}


def survives(data: bytes) -> None:
    """The whole way but the network. Raises on anything but an answer or a PhotoError of the table."""
    try:
        photo = read_photo(data, max_pixels=1_000_000, least_side=32)
    except PhotoError as error:
        assert STATUS[type(error)] in (400, 413, 415)
        assert str(error)
        return
    segmentation = segment(lambda batch: batch.mean(axis=1), Spec((64, 64)), photo.pixels, threshold=0.5)
    assert segmentation.mask.shape == photo.pixels.shape[:2]


@pytest.mark.parametrize("kind", CORPUS)
@given(st.lists(st.tuples(st.integers(0, 2**31), st.integers(0, 7)), min_size=1, max_size=12))
@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])
def test_flipped_bits(kind: str, flips: list[tuple[int, int]]) -> None:
    data = bytearray(CORPUS[kind])
    for place, bit in flips:
        data[place % len(data)] ^= 1 << bit
    survives(bytes(data))


@pytest.mark.parametrize("kind", CORPUS)
def test_truncations(kind: str) -> None:
    data = CORPUS[kind]
    for length in sorted({*range(0, 64), *range(64, len(data), max(1, len(data) // 150))}):
        survives(data[:length])


@given(st.binary(max_size=400))
@example(b"GIF89a" + b"\xff" * 40)
@example(b"RIFF\xff\xff\xff\xffWEBPVP8X" + b"\xff" * 40)
@example(b"II*\x00\xff\xff\xff\xff")
@settings(max_examples=300)
def test_noise_behind_a_true_beginning(tail: bytes) -> None:
    for data in CORPUS.values():
        survives(data[:16] + tail)
    survives(tail)


@given(
    st.dictionaries(
        st.sampled_from(["image", "output", "threshold", "keep", "x", "archive"]), st.binary(max_size=20)
    ),
    st.dictionaries(st.sampled_from(["x-output", "Content-Type", "accept", "x-label"]), st.text(max_size=20)),
    st.one_of(st.none(), st.binary(max_size=60)),
)
@settings(max_examples=300)
def test_requests_of_every_shape(row: dict[str, bytes], headers: dict[str, str], body: bytes | None) -> None:
    try:
        parse_request(row if body is None else {**row, "body": body}, headers)
    except ClientError as error:
        assert STATUS[type(error)] == 400


PICTURES = [
    (output, kind)
    for output in OUTPUTS_DRAWN
    for kind in ("png", "webp", "jpeg")
    if (output, kind) != ("cutout", "jpeg")  # JPEG has no transparency
]


@pytest.mark.parametrize(("output", "kind"), PICTURES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (33, 65)])
def test_every_picture_can_be_drawn_at_every_size(output: str, kind: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 255, (*shape, 3), dtype=np.uint8)
    photo = read_photo(encode(pixels, "png"))
    for background in ("#102030", "blur"):
        for level in (0, 130, 255):
            answer = np.full((32, 64), level / 255, np.float32)
            mask = binary_mask(np.full(shape, level, np.uint8), 0.5)
            picture = draw(photo, Segmentation(answer, mask, 0.5), output, background)
            # WebP knows no grey, and leaves out an alpha that is 255 everywhere.
            mode = {1: "L", 3: "RGB", 4: "RGBA"}[1 if picture.ndim == 2 else picture.shape[2]]
            again = np.array(Image.open(BytesIO(encode(picture, kind))).convert(mode))
            assert again.shape == picture.shape
            if kind != "jpeg":
                assert np.array_equal(again, picture)
