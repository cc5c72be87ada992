"""The listed photos of Caltech-101: copied, and readable as a data set without people."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from humanseg.training.caltech import copy, listed
from humanseg.training.samples import Source, find_samples


def test_the_listed_photos_become_a_source_of_empty_photos(tmp_path: Path) -> None:
    photos = listed()
    assert len(photos) == len(set(photos)) == 1230
    for photo in photos:
        path = tmp_path / "data" / photo
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((2, 2, 3), np.uint8))
    assert copy(tmp_path / "data", tmp_path / "out") == len(photos)
    assert len(find_samples(Source(tmp_path / "out", kind="empty"))) == len(photos)
    (tmp_path / "data" / photos[0]).unlink()
    with pytest.raises(FileNotFoundError, match=photos[0]):
        copy(tmp_path / "data", tmp_path / "out")
