"""One photo's way through a batch: what each step leaves for the next."""

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

    index: place in the batch. frame: float32 [3, H, W], None where several looks are asked for.
    probability: float32 [H, W], the network's answer to `frame`, or the map of several looks. seconds: by stage.

    Once `response` is set, no further step touches the photo. `error` names the client's error, if any;
    `key` the API key that was sent.
    `counted`: the photos of this request were counted one by one.
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
