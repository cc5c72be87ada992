"""What can be wrong with a clip, or with the result that is asked of it."""

from __future__ import annotations


class ClipError(Exception):
    """A clip that cannot be worked on. `str(error)` is one message that names the cause and the fix."""


class NotAClip(ClipError):
    """A file without moving pictures: a still, sound alone, or no media at all."""


class BrokenClip(ClipError):
    """A clip that is damaged or cut off."""


class UnsupportedClip(ClipError):
    """A real clip whose coding is not read here: encrypted, or of an unknown codec."""


class ClipTooLarge(ClipError):
    """More pixels, seconds or work than the caller allows."""


class ResultRefused(ClipError):
    """A result that its file cannot hold, or a file that must not be replaced."""
