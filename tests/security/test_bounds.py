"""Files that ask for much work with few bytes are refused before any decoder runs; what people send is not."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pillow_heif import from_pillow

from benchmarks.worst_bodies import (
    exif_entries,
    gif_comment_first,
    heic_tiles,
    jpeg_between,
    jpeg_scans,
    png_with,
    refused,
    tiff_pieces,
    webp_chunks,
)
from humanseg.segmentation import photo
from humanseg.segmentation.bounds import MAX_CHUNKS, MAX_SCANS, check_bounds
from humanseg.segmentation.errors import PhotoError, TooLarge
from humanseg.segmentation.photo import read_photo
from humanseg.segmentation.tiff_bounds import MAX_ENTRIES

NAMES = sorted(refused())


@pytest.mark.parametrize("name", NAMES)
def test_too_much_work_is_refused_before_a_decoder_sees_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = refused(0.1)[name]()

    def decode(*_: object) -> None:
        pytest.fail("a decoder was given it")

    monkeypatch.setattr(photo, "_decode", decode)
    with pytest.raises(TooLarge, match="too much work"):
        read_photo(data)


@pytest.mark.slow
def test_a_bound_costs_next_to_nothing_where_nothing_is_wrong() -> None:
    """CPU time of the walk beside that of decoding, in one process: machine and load are the same for both."""
    code = (
        "import time, io, numpy as np\n"
        "from PIL import Image\n"
        "from humanseg.segmentation.bounds import check_bounds\n"
        "from humanseg.segmentation.photo import read_photo\n"
        "f = io.BytesIO()\n"
        "Image.fromarray(np.random.default_rng(1).integers(0, 256, (1500, 2000, 3), np.uint8)).save(f, 'jpeg')\n"
        "d = f.getvalue(); read_photo(d)\n"
        "a = time.process_time(); [check_bounds(d, 10**8) for _ in range(20)]\n"
        "b = time.process_time(); [read_photo(d) for _ in range(20)]\n"
        "c = time.process_time(); print((b - a) / (c - b))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(result.stdout) < 0.25


def saved(kind: str, **options: object) -> bytes:
    pixels = np.random.default_rng(3).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def animated(kind: str, frames: int) -> bytes:
    pictures = [Image.new("RGB", (32, 32), (number % 256, 0, 0)) for number in range(frames)]
    file = io.BytesIO()
    pictures[0].save(file, kind, save_all=True, append_images=pictures[1:], duration=20)
    return file.getvalue()


def phone_exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    exif.get_ifd(0x8769)[0x927C] = bytes(60_000)  # maker's note
    return exif.tobytes()


ORDINARY = {
    "jpeg": lambda: saved("jpeg"),
    "progressive jpeg": lambda: saved("jpeg", progressive=True),
    "jpeg of a phone": lambda: saved("jpeg", exif=phone_exif()),
    "jpeg, scans at the bound": lambda: jpeg_scans(MAX_SCANS - 12, 200, 100),
    "large progressive jpeg": lambda: jpeg_scans(2, 8_000, 6_200),
    "jpeg with a comment and some filling": lambda: jpeg_between(b"\xff\xfe\0\x06note" + b"\xff" * 100),
    "png": lambda: saved("png", exif=phone_exif()),
    "png, many chunks": lambda: png_with((b"teXt", b"a"), times=MAX_CHUNKS - 20),
    "apng": lambda: animated("png", 60),
    "gif": lambda: animated("gif", 200),
    "gif with a long comment": lambda: gif_comment_first(20_000),
    "webp": lambda: saved("webp", exif=phone_exif()),
    "animated webp": lambda: animated("webp", 60),
    "webp, many chunks": lambda: webp_chunks(1_000),
    "tiff in strips of a row": lambda: saved("tiff", strip_size=1),
    "tiff, deflate": lambda: saved("tiff", compression="tiff_adobe_deflate"),
    "tiff at the bound": lambda: tiff_pieces(40_000, 1, 8, 40_000),
    "avif": lambda: saved("avif", exif=phone_exif()),
    "bmp": lambda: saved("bmp"),
}
LARGE = "large progressive jpeg"
ORDINARY_MARKED = [pytest.param(name, marks=pytest.mark.slow if name == LARGE else ()) for name in ORDINARY]


@pytest.mark.parametrize("name", ORDINARY_MARKED)
def test_what_people_send_is_read(name: str) -> None:
    assert read_photo(ORDINARY[name]()).pixels.size


@pytest.mark.slow
def test_a_heic_of_tiles_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.heic"
    from_pillow(Image.new("RGB", (3000, 2000), "red")).save(path, quality=50)
    assert read_photo(path.read_bytes()).width == 3000
    check_bounds(heic_tiles(16), 50_000_000)
    with pytest.raises(TooLarge):
        check_bounds(heic_tiles(17), 50_000_000)  # 17 x 12 megapixels


@pytest.mark.parametrize("name", [*ORDINARY_MARKED, "exif"])
def test_a_cut_off_file_never_breaks_the_walk(name: str) -> None:
    data = exif_entries(MAX_ENTRIES, 8) if name == "exif" else ORDINARY[name]()
    rng = np.random.default_rng(5)
    for _ in range(300):
        cut = bytearray(data[: int(rng.integers(2, min(len(data), 4_000)))])
        for _ in range(3):
            cut[int(rng.integers(len(cut)))] = int(rng.integers(256))
        try:
            check_bounds(bytes(cut), 50_000_000)
        except PhotoError as error:
            assert "too much work" in str(error)
