"""A batch goes through the network once for each shape, and every photo gets its own answer."""

from __future__ import annotations

import numpy as np

from handler.job import Job
from handler.segmentation_handler import SegmentationHandler
from humanseg.segmentation.model_files import ModelInfo
from humanseg.segmentation.photo import Photo
from humanseg.segmentation.spec import Spec


def test_photos_of_several_shapes_in_one_batch() -> None:
    handler, asked = SegmentationHandler(), []

    def engine(batch: np.ndarray) -> np.ndarray:
        asked.append(batch.shape)
        return batch.mean(axis=1)

    handler.engine = engine
    random = np.random.default_rng(0)
    shapes = ((3, 32, 64), (3, 64, 32), (3, 32, 64), (3, 64, 64), (3, 64, 32))
    jobs = [Job(index, str(index), frame=random.random(shape, np.float32)) for index, shape in enumerate(shapes)]
    handler.forward(jobs)
    assert sorted(asked) == [(1, 3, 64, 64), (2, 3, 32, 64), (2, 3, 64, 32)]
    for job in jobs:
        assert job.frame is not None
        assert job.probability is not None
        np.testing.assert_array_equal(job.probability, job.frame.mean(axis=0))
        assert job.seconds["forward"] > 0


def test_several_looks_at_one_photo_leave_the_others_alone() -> None:
    handler, asked = SegmentationHandler(), []

    def engine(batch: np.ndarray) -> np.ndarray:
        asked.append(batch.shape)
        return batch.mean(axis=1)

    handler.engine, handler.threshold = engine, 0.5
    handler.model = ModelInfo("efficient_unet", Spec((64, 64)), "", None)
    frame = np.full((3, 64, 64), 0.25, np.float32)
    fast = Job(0, "fast", frame=frame)
    best = Job(1, "best", photo=Photo(np.full((50, 50, 3), 64, np.uint8), 50, 50, "png"))
    broken = Job(2, "broken", photo=None)
    handler.forward([fast, best, broken])
    assert asked == [(1, 3, 64, 64)] * 3  # the best one, its mirror image, the fast one
    assert fast.probability is not None
    assert best.probability is not None
    assert best.seconds["forward"] > 0
    assert (fast.response, best.response) == (None, None)
    assert broken.response is not None
    assert broken.response.status == 500


def test_an_empty_batch_asks_nothing_of_the_network() -> None:
    SegmentationHandler().forward([])
