"""One HTTP exchange with a server: timeouts, retries, and errors as Python classes.

Retried are connections that fail or break and responses of 503 and 429, with the full-jitter exponential backoff of
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/, and once a response that says that the
worker died: it may have been stopped by someone else, but a photo that kills workers must not go round them all. A
read timeout is not retried: the server may still be working on the photo, and asking again would double its load.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import requests

from humanseg.client.errors import (
    HumansegError,
    StatusError,
    TimedOutError,
    TooLargeError,
    UnavailableError,
    UnreachableError,
    error_class,
)
from humanseg.client.unix_socket import BASE, SCHEME, UnixAdapter

FIRST_DELAY = 0.25  # seconds: upper bound of the first wait, doubled at each retry
LONGEST_DELAY = 8.0  # seconds: upper bound of every wait


class _Key(requests.auth.AuthBase):
    # Given as `auth`, because requests lets a ~/.netrc entry win over a plain Authorization header.
    def __init__(self, key: str | None) -> None:
        self.key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.key:
            request.headers["Authorization"] = f"Bearer {self.key}"
        return request


@dataclass(frozen=True)
class Transport:
    """Sends requests to one server. Safe to share between threads.

    Args:
        url: scheme, host and port, e.g. `http://127.0.0.1:8080`, or `unix:/path/to/socket`.
        timeout: seconds to wait for an answer; connecting is given up after 5 s at most.
        retries: further attempts after a failed connection or a 503; 0 turns retrying off.
        api_key: sent as `Authorization: Bearer KEY`; None sends nothing.
        sleep, chance: the clock and the dice, passed in so that tests don't wait.

    Raises:
        ValueError: the URL is neither http(s) nor a unix socket, or a number is out of range.
    """

    url: str
    timeout: float
    retries: int
    api_key: str | None = field(default=None, repr=False)
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    chance: Callable[[], float] = field(default=random.random, repr=False)
    _session: requests.Session = field(default_factory=requests.Session, repr=False)

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://", f"{SCHEME}/")):
            raise ValueError(f"server URL {self.url!r} must start with http://, e.g. http://127.0.0.1:8080")
        if not self.timeout > 0:
            raise ValueError(f"timeout={self.timeout!r} must be more than 0 seconds, e.g. 60")
        if self.retries < 0:
            raise ValueError(f"retries={self.retries!r} must be 0 or more, e.g. 4")
        # The pool is thread-safe; the session's cookies are not, and these servers set none.
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=64))
        if self.url.startswith(SCHEME):
            self._session.mount(BASE, UnixAdapter(self.url.removeprefix(SCHEME)))

    def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        data: bytes | None = None,
        files: Mapping[str, tuple[str | None, bytes]] | None = None,
        headers: Mapping[str, str | bytes] | None = None,
        timeout: float | None = None,
        retries: int | None = None,
    ) -> requests.Response:
        """Send one request, retrying as the module says, and return the good answer (status below 400).

        Raises:
            UnreachableError, TimedOutError, StatusError: see `humanseg.client.errors`.
        """
        attempts = 1 + (self.retries if retries is None else retries)
        wait = timeout or self.timeout
        deaths = 0
        for attempt in range(attempts):
            if attempt:
                self.sleep(self.chance() * min(LONGEST_DELAY, FIRST_DELAY * 2 ** (attempt - 1)))
            try:
                answer = self._session.request(
                    method,
                    (BASE if self.url.startswith(SCHEME) else self.url) + path,
                    params=params,
                    data=data,
                    files=files,
                    headers=headers,
                    timeout=(min(5.0, wait), wait),
                    auth=_Key(self.api_key),
                    allow_redirects=False,
                )
            except requests.ReadTimeout:
                raise TimedOutError(
                    f"{self.url} did not answer within {wait:g} s; the server may be overloaded: "
                    "try again later or give a longer timeout"
                ) from None
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as fault:
                error: HumansegError = self._unreachable(fault, attempt + 1)
                continue
            except requests.RequestException as fault:
                raise UnreachableError(f"{self.url}{path} can't be asked: {fault}") from None
            if answer.status_code < 400:
                return answer
            error = status_error(answer)
            died = worker_died(error)
            deaths += died
            if not isinstance(error, UnavailableError) and not (died and deaths == 1):
                break
        raise error

    def _unreachable(self, fault: Exception, attempts: int) -> UnreachableError:
        tries = "" if attempts == 1 else f" after {attempts} attempts"
        return UnreachableError(
            f"no connection to {self.url}{tries} ({_cause(fault)}); start the server with ./serve.sh or give its URL"
        )

    def close(self) -> None:
        """Close the pooled connections."""
        self._session.close()


def status_error(answer: requests.Response) -> StatusError:
    """Read an error: the server's JSON or, where a proxy or TorchServe itself sent none, the status."""
    try:
        document: Any = answer.json()
    except ValueError:
        document = None
    said = document if isinstance(document, dict) else {}
    kind = error_class(answer.status_code)
    message = str(said.get("message") or "")
    if not message and kind is TooLargeError:
        message = "the request has more bytes than the server takes; send a smaller photo or a JPEG"
    return kind(
        answer.status_code,
        str(said.get("type") or ""),
        message or f"{answer.url} answered {answer.status_code} {answer.reason} without saying why",
        str(said.get("request_id") or answer.headers.get("x-request-id") or ""),
    )


def worker_died(error: StatusError) -> bool:
    """Whether TorchServe says that the worker ended while it had the request (tried with SIGKILL: 507, or 500)."""
    return error.status in (500, 507) and "worker died" in error.message.lower()


def _cause(fault: BaseException) -> str:
    # The innermost system error ("Connection refused") says it shorter than the three layers around it.
    seen = [fault]
    while (inner := seen[-1].__cause__ or seen[-1].__context__) is not None:
        seen.append(inner)
    text = next((e.strerror for e in reversed(seen) if isinstance(e, OSError) and e.strerror), None)
    return text or type(fault).__name__
