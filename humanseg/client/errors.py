"""All errors of the library, as one tree.

    HumansegError
    |-- UnreachableError         no connection to the server, after all retries
    |-- TimedOutError            connected, but no answer in time
    |-- AnswerError              an invalid response
    |-- NotReadyError            the workers did not become READY in time
    `-- StatusError              the server answered with an error status
        |-- BadRequestError          400  the photo or an option is invalid
        |-- UnauthorizedError        401  the API key is missing or wrong
        |-- ForbiddenError           403  not allowed, e.g. to unregister the default version
        |-- NotFoundError            404  no such model or version
        |-- ConflictError            409  this version is already registered
        |-- TooLargeError            413  too many pixels or bytes
        |-- UnsupportedFormatError   415  a format that can't be read
        |-- UnavailableError         503  no worker or a full queue, after all retries
        |   `-- TooManyRequestsError 429  more photos at a time than the API key may have
        `-- ServerFaultError         any other 5xx

Every message is a readable sentence. A `StatusError` also has the fields of the server's JSON.
"""

from __future__ import annotations


class HumansegError(Exception):
    """Base of all errors of this library."""


class UnreachableError(HumansegError):
    """No connection to the server, after all retries."""


class TimedOutError(HumansegError):
    """No response within the timeout. Not retried: the server may still be processing the request."""


class AnswerError(HumansegError):
    """The response is not one of a human segmentation server."""


class NotReadyError(HumansegError):
    """The requested workers did not become READY in time."""


class StatusError(HumansegError):
    """The server answered with an error status.

    Attributes:
        status: HTTP status.
        type: the error type, e.g. `"NotAnImage"`; empty if the response had none.
        message: the server's message, with the cause and the fix.
        request_id: `x-request-id` of the response, to find it in the server's log; empty if there was none.
    """

    def __init__(self, status: int, type: str, message: str, request_id: str) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.message = message
        self.request_id = request_id


class BadRequestError(StatusError):
    """400: the photo or an option is invalid."""


class UnauthorizedError(StatusError):
    """401: the API key is missing or wrong."""


class ForbiddenError(StatusError):
    """403: not allowed, e.g. to unregister the default version."""


class NotFoundError(StatusError):
    """404: no such model or version."""


class ConflictError(StatusError):
    """409: this version is already registered."""


class TooLargeError(StatusError):
    """413: too many pixels or bytes."""


class UnsupportedFormatError(StatusError):
    """415: unsupported format."""


class UnavailableError(StatusError):
    """503: no worker or a full queue, after all retries."""


class TooManyRequestsError(UnavailableError):
    """429: rate limited (too many concurrent photos for the API key), after all retries."""


class ServerFaultError(StatusError):
    """Any other 5xx: a server error."""


BY_STATUS: dict[int, type[StatusError]] = {
    400: BadRequestError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    413: TooLargeError,
    415: UnsupportedFormatError,
    429: TooManyRequestsError,
    503: UnavailableError,
}


def error_class(status: int) -> type[StatusError]:
    """The class for an HTTP error status (400..599)."""
    return BY_STATUS.get(status, ServerFaultError if status >= 500 else StatusError)
