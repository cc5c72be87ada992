"""The Python client library: inference and management over HTTP."""

from humanseg.client.answer import Clip, Segmentation
from humanseg.client.client import Client
from humanseg.client.errors import (
    AnswerError,
    BadRequestError,
    ConflictError,
    ForbiddenError,
    HumansegError,
    NotFoundError,
    NotReadyError,
    ServerFaultError,
    StatusError,
    TimedOutError,
    TooLargeError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
    UnreachableError,
    UnsupportedFormatError,
)
from humanseg.client.management import Management, ModelVersion, Worker

__all__ = [
    "AnswerError",
    "BadRequestError",
    "Client",
    "Clip",
    "ConflictError",
    "ForbiddenError",
    "HumansegError",
    "Management",
    "ModelVersion",
    "NotFoundError",
    "NotReadyError",
    "Segmentation",
    "ServerFaultError",
    "StatusError",
    "TimedOutError",
    "TooLargeError",
    "TooManyRequestsError",
    "UnauthorizedError",
    "UnavailableError",
    "UnreachableError",
    "UnsupportedFormatError",
    "Worker",
]
