"""Errors of a request, and the single table that maps them and the core's errors to HTTP status codes.

Errors of the photo itself are `humanseg.segmentation.errors.PhotoError`; so is Busy, which is raised while a photo is
read.
"""

from __future__ import annotations

from humanseg.segmentation.errors import (
    BrokenImage,
    EmptyPhoto,
    NotAnImage,
    PhotoError,
    PictureTooLarge,
    TooLarge,
    UnsupportedFormat,
)
from humanseg.video.errors import (
    BrokenClip,
    ClipError,
    ClipTooLarge,
    NotAClip,
    ResultRefused,
    UnsupportedClip,
)


class ClientError(Exception):
    """A client error. `str(error)` is one message with the cause and the fix."""


class EmptyBody(ClientError):
    """No photo in the request."""


class BadRequest(ClientError):
    """Invalid JSON, or two photos in one request."""


class UnknownOption(ClientError):
    """An unknown field or key."""


class BadOption(ClientError):
    """An option's value is out of range, or two options exclude each other."""


class ConflictingOption(ClientError):
    """One option given twice with different values."""


class Unauthorized(ClientError):
    """No API key, or a wrong one."""


class TooManyRequests(ClientError):
    """Rate limited. retry_after: seconds."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooManyGuesses(TooManyRequests):
    """Many wrong API keys; this one was not looked at."""


class Busy(PhotoError):
    """Temporarily no memory for this photo, or no slot for this clip. retry_after: seconds."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


FAULTS_OF_THE_CALLER = (ClientError, PhotoError, ClipError)

STATUS: dict[type[Exception], int] = {
    EmptyBody: 400,
    EmptyPhoto: 400,
    NotAnImage: 400,
    BrokenImage: 400,
    BadRequest: 400,
    UnknownOption: 400,
    BadOption: 400,
    ConflictingOption: 400,
    PictureTooLarge: 400,
    Unauthorized: 401,
    TooLarge: 413,
    UnsupportedFormat: 415,
    TooManyRequests: 429,
    TooManyGuesses: 429,
    NotAClip: 400,
    BrokenClip: 400,
    ResultRefused: 400,
    ClipTooLarge: 413,
    UnsupportedClip: 415,
    Busy: 503,
}

# The `type` in an error's JSON is the class's name, with these exceptions.
TYPES: dict[type[Exception], str] = {
    EmptyPhoto: EmptyBody.__name__,
    PictureTooLarge: BadOption.__name__,
    ResultRefused: BadOption.__name__,
    ClipTooLarge: TooLarge.__name__,
    TooManyGuesses: TooManyRequests.__name__,
    UnsupportedClip: UnsupportedFormat.__name__,
}


def error_type(error: Exception) -> str:
    """The error's `type` in JSON and metrics."""
    return TYPES.get(type(error), type(error).__name__)


PHRASE = {
    400: "Bad Request",
    401: "Unauthorized",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
