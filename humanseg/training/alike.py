"""Near-duplicates: a hash that few edits of a photo change."""

from __future__ import annotations

import imagehash
import numpy as np
from PIL import Image

from humanseg.segmentation.photo import Pixels


def perceptual_hash(pixels: Pixels) -> np.uint64:
    """64 bits of a photo, uint8 [H, W, 3], that few edits change (the DCT hash of the library imagehash)."""
    bits = imagehash.phash(Image.fromarray(pixels)).hash.ravel()
    return np.uint64(int("".join("1" if bit else "0" for bit in bits), 2))
