"""What can be wrong with a request, and the one table from that to an HTTP status.

ClientError
├── EmptyBody           no photo in the request
├── NotAnImage          the bytes are no picture that anyone knows
├── BrokenImage         a picture of a known format that ends early or contradicts itself
├── BadRequest          JSON that can't be read, two photos in one request
├── UnknownOption       a field or key that no option has
├── BadOption           an option's value is out of its range, or two options exclude each other
├── ConflictingOption   one option given twice with different values
├── Unauthorized        no API key, or a wrong one
├── TooLarge            more pixels or bytes than the server takes
└── UnsupportedFormat   a real picture, or other file, of a format that is not read here
"""

from __future__ import annotations


class ClientError(Exception):
    """A fault of the caller. `str(error)` is one message that names the cause and the fix."""


class EmptyBody(ClientError): ...


class NotAnImage(ClientError): ...


class BrokenImage(ClientError): ...


class BadRequest(ClientError): ...


class UnknownOption(ClientError): ...


class BadOption(ClientError): ...


class ConflictingOption(ClientError): ...


class Unauthorized(ClientError): ...


class TooLarge(ClientError): ...


class UnsupportedFormat(ClientError): ...


STATUS: dict[type[ClientError], int] = {
    EmptyBody: 400,
    NotAnImage: 400,
    BrokenImage: 400,
    BadRequest: 400,
    UnknownOption: 400,
    BadOption: 400,
    ConflictingOption: 400,
    Unauthorized: 401,
    TooLarge: 413,
    UnsupportedFormat: 415,
}

PHRASE = {
    400: "Bad Request",
    401: "Unauthorized",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    500: "Internal Server Error",
}
