"""What can be wrong with a photo, or with the picture that is asked of it; and with a file of weights.

PhotoError
├── EmptyPhoto          no bytes
├── NotAnImage          bytes that are no picture of any known format
├── BrokenImage         a picture of a known format that ends early or contradicts itself
├── UnsupportedFormat   a real picture, or other file, of a format that is not read
├── TooLarge            more pixels than the caller allows
└── PictureTooLarge     a result that its file format cannot hold
"""

from __future__ import annotations


class PhotoError(Exception):
    """A photo that cannot be segmented. `str(error)` is one message that names the cause and the fix."""


class EmptyPhoto(PhotoError): ...


class NotAnImage(PhotoError): ...


class BrokenImage(PhotoError): ...


class UnsupportedFormat(PhotoError): ...


class TooLarge(PhotoError): ...


class PictureTooLarge(PhotoError): ...


class WeightsError(ValueError):
    """The file holds no network that can be served; the message names the file, the cause and the fix."""
