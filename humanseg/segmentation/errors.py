"""Errors of photos, requested pictures, and weights files."""

from __future__ import annotations


class PhotoError(Exception):
    """A photo that cannot be segmented. `str(error)` is one message with the cause and the fix."""


class EmptyPhoto(PhotoError):
    """No bytes."""


class NotAnImage(PhotoError):
    """Not a picture of any known format."""


class BrokenImage(PhotoError):
    """A truncated or inconsistent picture of a known format."""


class UnsupportedFormat(PhotoError):
    """A picture or other file of an unsupported format."""


class TooLarge(PhotoError):
    """More pixels than the caller allows."""


class PictureTooLarge(PhotoError):
    """A result that its file format cannot hold."""


class WeightsError(ValueError):
    """The file contains no network that can be served; the message has the file, the cause and the fix."""
