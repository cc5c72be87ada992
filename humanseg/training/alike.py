"""Near-duplicate detection: perceptual hashes."""

from __future__ import annotations

import imagehash
import numpy as np
from PIL import Image

from humanseg.segmentation.photo import Pixels


def perceptual_hash(pixels: Pixels) -> np.uint64:
    """The 64-bit perceptual hash of a photo, uint8 [H, W, 3] (the DCT hash of the library imagehash)."""
    bits = imagehash.phash(Image.fromarray(pixels)).hash.ravel()
    return np.uint64(int("".join("1" if bit else "0" for bit in bits), 2))
