"""One photo's way through a batch: what each step leaves for the next."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from handler.photo import Letterbox, Photo
from handler.request import PhotoRequest
from handler.response import Answer


@dataclass
class Job:
    """index: place in the batch. square: float32 [3, S, S]. probability: float32 [S, S]. seconds: by stage.

    Once `answer` is set, no further step touches the photo. `error` names the client's fault, if any.
    """

    index: int
    request_id: str
    request: PhotoRequest | None = None
    photo: Photo | None = None
    square: NDArray[np.float32] | None = None
    box: Letterbox | None = None
    probability: NDArray[np.float32] | None = None
    answer: Answer | None = None
    error: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
