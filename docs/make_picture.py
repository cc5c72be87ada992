"""Draw docs/astronaut.png from what a running server answers: photo, mask, cut-out on a checkerboard.

./serve.sh                              in one shell
.venv/bin/python docs/make_picture.py   in another
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from PIL import Image

from humanseg.cli.options import inference_url
from humanseg.client import Client

HERE = Path(__file__).resolve().parent
PHOTO = HERE.parent / "tests" / "photos" / "astronaut.jpg"
GAP = 12
SQUARE = 16


def checkerboard(width: int, height: int) -> Image.Image:
    """What picture editors show behind transparent pixels."""
    board = Image.new("RGB", (width, height), "#ffffff")
    for top in range(0, height, SQUARE):
        for left in range(SQUARE * (top // SQUARE % 2), width, 2 * SQUARE):
            board.paste("#d8d8d8", (left, top, left + SQUARE, top + SQUARE))
    return board


def main() -> None:
    """Ask the server, and write the picture."""
    with Client(inference_url(None)) as client:
        answers = [client.segment(PHOTO, output=output, archive=False).content for output in ("mask", "cutout")]
    photo = Image.open(PHOTO).convert("RGB")
    mask, cutout = (Image.open(BytesIO(answer)) for answer in answers)
    board = checkerboard(*photo.size)
    board.paste(cutout, mask=cutout.getchannel("A"))
    row = Image.new("RGB", (3 * photo.width + 2 * GAP, photo.height), "#ffffff")
    for index, picture in enumerate((photo, mask.convert("RGB"), board)):
        row.paste(picture, (index * (photo.width + GAP), 0))
    row.resize((row.width * 2 // 3, row.height * 2 // 3), Image.Resampling.LANCZOS).save(
        HERE / "astronaut.png", optimize=True
    )


if __name__ == "__main__":
    main()
