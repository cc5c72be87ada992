"""JSON Lines: a clip's result as one JSON document for each frame, each on a line of its own."""

from __future__ import annotations

import json
from pathlib import Path

from humanseg.segmentation.calibration import Calibration
from humanseg.segmentation.document import as_document
from humanseg.segmentation.result import Segmentation
from humanseg.video.decode import Frame


class LinesWriter:
    """Writes the lines of one clip.

    calibration: maps the network's confidence to the expected IoU. number: of the first frame, from 0; more than 0
    resumes a file that has the previous lines.
    """

    def __init__(self, path: Path, calibration: Calibration, number: int = 0) -> None:
        self._calibration = calibration
        self._file = path.open("a" if number else "w", encoding="utf-8")

    def write(self, frame: Frame, segmentation: Segmentation) -> None:
        """The next frame: its number from 0, its time, and what a photo's JSON says of its segmentation."""
        summary = segmentation.summary(self._calibration)
        head = {"frame": frame.index, "seconds": round(float(frame.time), 6)}
        self._file.write(json.dumps({**head, **as_document(segmentation, summary)}) + "\n")

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


def whole_lines(path: Path) -> int:
    """The number of complete lines. What follows the last one is cut off: a killed run may leave half a line."""
    if not path.exists():
        return 0
    lines = size = 0
    with path.open("rb+") as file:
        for line in file:
            if line.endswith(b"\n"):
                lines, size = lines + 1, size + len(line)
        file.truncate(size)
    return lines
