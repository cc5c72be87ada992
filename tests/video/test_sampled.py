"""Which frames of a clip are written down for the archive, however long it is and however its times run."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from humanseg.segmentation.calibration import UNCHANGED
from humanseg.segmentation.pipeline import at_photo_size
from humanseg.video.backdrop import backdrop
from humanseg.video.convert import Look, Target, convert
from humanseg.video.decode import Frame
from humanseg.video.probe import probe
from humanseg.video.sampled import Sampled, Sampler
from tests.video.clips import BRIGHT, disc_frames, shown, write_clip

SECOND = [Fraction(at, 5) for at in range(5)]
TIMES = {
    "shorter than a second": (0.4, SECOND[:2], [0]),
    "a frame a second": (3.0, [second + part for second in range(3) for part in SECOND], [0, 1, 2]),
    "longer than the most, spread out": (90.0, [Fraction(at, 2) for at in range(180)], list(range(0, 90, 3))),
    "nobody knows how long": (None, [Fraction(at) for at in range(50)], list(range(30))),
    "nothing is made up for after a gap": (12.0, [Fraction(0), *(10 + part for part in SECOND)], [0, 10]),
}


@pytest.mark.parametrize(("seconds", "times", "wanted"), TIMES.values(), ids=TIMES)
def test_the_first_frame_of_each_second_and_never_more_than_thirty(
    tmp_path: Path, seconds: float | None, times: list[Fraction], wanted: list[int]
) -> None:
    sampler = Sampler(tmp_path, seconds, UNCHANGED)
    segmentation = at_photo_size(np.full((8, 8), 0.7, np.float32), 8, 8, threshold=0.5)
    for index, time in enumerate(times):
        sampler(Frame(index, np.zeros((8, 8, 3), np.uint8), time, Fraction(1, 5)), segmentation)
    assert [sample.seconds for sample in sampler.taken] == wanted
    assert len(list(tmp_path.iterdir())) == 2 * len(wanted)


def test_a_sample_is_the_frame_and_the_mask_that_the_clip_shows(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", disc_frames(12), rate=5)
    (tmp_path / "samples").mkdir()
    info = probe(source)
    sampler = Sampler(tmp_path / "samples", info.seconds, UNCHANGED)
    convert(info, Target(tmp_path / "out.mp4", "mp4"), Look("mask", backdrop("blur")), BRIGHT, seen=sampler)
    assert [sample.seconds for sample in sampler.taken] == [0, 1, 2]
    last = Sampled.from_plain(sampler.taken[2].plain())
    assert last == sampler.taken[2]
    frame, mask = (np.array(Image.open(path)) for path in (last.photo, last.mask))
    assert np.abs(frame.astype(int) - shown(source)[10][1]).mean() < 2
    assert ((mask > 127) != (shown(tmp_path / "out.mp4")[10][1][..., 0] > 127)).mean() < 0.01
    assert set(np.unique(mask)) == {0, 255}
    assert last.coverage == pytest.approx((mask > 0).mean(), abs=1e-3)
