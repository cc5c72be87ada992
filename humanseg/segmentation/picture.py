"""Draws the requested picture from photo, probability and mask, and encodes it."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import cv2
import numpy as np
from PIL import Image

from humanseg.segmentation.errors import PictureTooLarge
from humanseg.segmentation.foreground import foreground
from humanseg.segmentation.photo import Photo, Pixels
from humanseg.segmentation.png import write_png
from humanseg.segmentation.result import Segmentation

OVERLAY_COLOUR = (56, 132, 255)  # RGB; far from skin, foliage and most clothes
OVERLAY_STRENGTH = 0.55
STRIP = 1 << 18  # pixels blended at once
CONTENT_TYPE = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg"}
LONGEST_SIDE = {"webp": 16383, "jpeg": 65500}  # limits of libwebp and libjpeg
# Pictures that contain the photo need all its pixels; the others only its size.
NEEDS_PHOTO = ("cutout", "overlay", "composite")
OUTPUTS_DRAWN = ("mask", "probability", *NEEDS_PHOTO)


def draw(photo: Photo, segmentation: Segmentation, output: str, backdrop: str | Pixels = "#ffffff") -> Pixels:
    """Draw the picture of `output`: uint8 [H, W], [H, W, 3] RGB or [H, W, 4] RGBA, of the photo's size.

    output: one of `OUTPUTS_DRAWN`. backdrop: for a composite, a colour (`#rrggbb`), "blur", or a picture,
    uint8 [H, W, 3], of the photo's size.
    """
    if output == "mask":
        return segmentation.mask
    if output == "probability":
        return segmentation.probability
    alpha = segmentation.alpha
    if output == "cutout":
        return cut_out(photo.pixels, alpha)
    if output == "overlay":
        weaker = np.rint(np.arange(256) * OVERLAY_STRENGTH).astype(np.uint8)
        strength = np.asarray(cv2.LUT(alpha, weaker), np.uint8)
        return blend(plain(OVERLAY_COLOUR, photo.pixels), photo.pixels, strength)
    return blend(foreground(photo.pixels, alpha), background(photo.pixels, alpha, backdrop), alpha)


def cut_out(pixels: Pixels, alpha: Pixels) -> Pixels:
    """RGBA with straight alpha and foreground colours: uint8 [H, W, 4].

    Colours are 0 where alpha is 0: transparent pixels must not reveal the background, and the file is an eighth of
    the size.
    """
    picture = np.empty((*alpha.shape, 4), np.uint8)
    cv2.mixChannels([pixels, alpha], [picture], [0, 0, 1, 1, 2, 2, 3, 3])
    foreground(pixels, alpha, out=picture[..., :3])
    # As one number per pixel: indexing with a mask of fewer dimensions would list the pixels, 16 bytes each.
    picture.view(np.uint32)[..., 0][alpha == 0] = 0
    return picture


def background(pixels: Pixels, alpha: Pixels, wanted: str | Pixels) -> Pixels:
    """The background, uint8 [H, W, 3]: the picture `wanted`, a colour (`#rrggbb`), or the photo's own, blurred.

    The blur excludes the person (a normalised convolution, Knutsson and Westin 1993), which avoids a halo of the
    person's colours. It runs at an eighth of the size, because blurred pixels have no more detail.
    """
    if not isinstance(wanted, str):
        return wanted
    if wanted != "blur":
        return plain([int(wanted[at : at + 2], 16) for at in (1, 3, 5)], pixels)
    height, width = alpha.shape
    small = (max(1, width // 8), max(1, height // 8))
    weight = 1 - cv2.resize(alpha, small, interpolation=cv2.INTER_AREA).astype(np.float32)[:, :, None] / 255
    weight = np.maximum(weight, 1e-3)
    colours = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA).astype(np.float32) * weight
    sigma = max(small) / 50
    blurred = cv2.GaussianBlur(colours, (0, 0), sigma)
    share = cv2.GaussianBlur(weight, (0, 0), sigma).reshape(small[1], small[0], 1)
    smooth = np.clip(blurred / share, 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def plain(colour: Sequence[int], pixels: Pixels) -> Pixels:
    """One RGB colour, 0..255, broadcast to the shape of `pixels`; read-only."""
    return np.broadcast_to(np.array(colour, np.uint8), pixels.shape)


def blend(front: Pixels, back: Pixels, alpha: Pixels) -> Pixels:
    """`front` over `back`, both uint8 [H, W, 3], by `alpha`, uint8 [H, W]. In strips, to save memory."""
    height, width = alpha.shape
    step = max(1, STRIP // width)
    blended = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, step):
        rows = slice(top, top + step)
        planes = cv2.merge((alpha[rows], alpha[rows], alpha[rows]))
        shown = cv2.multiply(np.ascontiguousarray(front[rows]), planes, scale=1 / 255)
        behind = cv2.multiply(np.ascontiguousarray(back[rows]), cv2.bitwise_not(planes), scale=1 / 255)
        cv2.add(shown, behind, dst=blended[rows])
    return blended


def encode(picture: Pixels, kind: str, icc_profile: bytes | None = None) -> bytes:
    """`picture`, uint8 [H, W], [H, W, 3] or [H, W, 4] in RGB(A) order, as PNG, WebP (lossless) or JPEG bytes."""
    if kind == "png":
        return write_png(picture, icc_profile)
    height, width = picture.shape[:2]
    if max(height, width) > LONGEST_SIDE[kind]:
        raise PictureTooLarge(
            f"format={kind} supports at most {LONGEST_SIDE[kind]} pixels per side; this picture is {width}x{height}. "
            "Use format=png."
        )
    file = BytesIO()
    profile = icc_profile if picture.ndim == 3 else None
    image = Image.fromarray(picture)
    if kind == "webp":
        # Lossless: a mask must stay binary. Method 0 is 4 times faster than the default for 5 % more bytes.
        image.save(file, "WEBP", lossless=True, quality=20, method=0, exact=True, icc_profile=profile)
    else:
        image.save(file, "JPEG", quality=92, icc_profile=profile)
    return file.getvalue()
