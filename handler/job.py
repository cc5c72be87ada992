"""The state of one photo in a batch, passed from step to step."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from handler.request import PhotoRequest
from handler.response import Response
from humanseg.segmentation.photo import Photo


@dataclass
class Job:
    """One photo of a batch.

    index: position in the batch. frame: float32 [3, H, W], None for test-time augmentation.
    probability: float32 [H, W], the network's output for `frame`, or the merged map of several views. seconds: by
    stage.

    Once `response` is set, no further step processes the photo. `error` is the type of the client error, if any;
    `key` is the name of the API key. `counted`: the photos of this request were counted one by one.
    """

    index: int
    request_id: str
    request: PhotoRequest | None = None
    photo: Photo | None = None
    frame: NDArray[np.float32] | None = None
    probability: NDArray[np.float32] | None = None
    response: Response | None = None
    error: str | None = None
    counted: bool = False
    key: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
