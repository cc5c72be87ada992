"""What can be wrong with a photo, or with the picture that is asked of it; and with a file of weights."""

from __future__ import annotations


class PhotoError(Exception):
    """A photo that cannot be segmented. `str(error)` is one message that names the cause and the fix."""


class EmptyPhoto(PhotoError):
    """No bytes."""


class NotAnImage(PhotoError):
    """Bytes that are no picture of any known format."""


class BrokenImage(PhotoError):
    """A picture of a known format that ends early or contradicts itself."""


class UnsupportedFormat(PhotoError):
    """A real picture, or other file, of a format that is not read."""


class TooLarge(PhotoError):
    """More pixels than the caller allows."""


class PictureTooLarge(PhotoError):
    """A result that its file format cannot hold."""


class WeightsError(ValueError):
    """The file holds no network that can be served; the message names the file, the cause and the fix."""
