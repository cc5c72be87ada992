"""The Python library for a server: inference and management over HTTP."""

from client.answer import Segmentation
from client.client import Client
from client.errors import (
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
    UnauthorizedError,
    UnavailableError,
    UnreachableError,
    UnsupportedFormatError,
)
from client.management import Management, ModelVersion, Worker

__all__ = [
    "AnswerError",
    "BadRequestError",
    "Client",
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
    "UnauthorizedError",
    "UnavailableError",
    "UnreachableError",
    "UnsupportedFormatError",
    "Worker",
]
