"""A batch goes through the network once for each shape, and every photo gets its own answer."""

from __future__ import annotations

import numpy as np

from handler.job import Job
from handler.segmentation_handler import SegmentationHandler


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


def test_an_empty_batch_asks_nothing_of_the_network() -> None:
    SegmentationHandler().forward([])
