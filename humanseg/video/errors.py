"""Errors of clips and of requested results."""

from __future__ import annotations


class ClipError(Exception):
    """A clip that cannot be processed. `str(error)` is one message with the cause and the fix."""


class NotAClip(ClipError):
    """A file without video: a still picture, audio only, or not media."""


class BrokenClip(ClipError):
    """A damaged or truncated clip."""


class UnsupportedClip(ClipError):
    """A clip with unsupported coding: encrypted, or of an unknown codec."""


class ClipTooLarge(ClipError):
    """More pixels, seconds or work than the caller allows."""


class ResultRefused(ClipError):
    """A result that its format does not support, or a file that must not be overwritten."""
