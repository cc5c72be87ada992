"""One HTTP exchange with a server: timeouts, retries, and errors as Python classes.

Failed or lost connections and the statuses 503 and 429 are retried with full-jitter exponential back-off
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). A response that says that the worker died
is retried once: it may have been killed for another reason, but a photo that kills workers must not kill all of them.
A read timeout is not retried: the server may still be processing the photo, and a retry would double its load.
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
    # Passed as `auth`, because in requests a ~/.netrc entry overrides a plain Authorization header.
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
        timeout: in seconds; the connect timeout is at most 5 s.
        retries: additional attempts; 0 turns retries off.
        api_key: sent as `Authorization: Bearer KEY`; None sends nothing.
        sleep, chance: the clock and the random source, replaceable in tests.

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
            raise ValueError(
                f"invalid server URL {self.url!r}: it must start with http://, e.g. http://127.0.0.1:8080"
            )
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
        """Send one request with the module's retries, and return the successful response (status below 400).

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
                    "retry later or use a longer timeout"
                ) from None
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as fault:
                error: HumansegError = self._unreachable(fault, attempt + 1)
                continue
            except requests.RequestException as fault:
                raise UnreachableError(f"request to {self.url}{path} failed: {fault}") from None
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
            f"no connection to {self.url}{tries} ({_cause(fault)}); start the server with ./serve.sh, or set its URL"
        )

    def close(self) -> None:
        """Close the pooled connections."""
        self._session.close()


def status_error(answer: requests.Response) -> StatusError:
    """Parse an error: the server's JSON, or only the status if a proxy or TorchServe itself sent none."""
    try:
        document: Any = answer.json()
    except ValueError:
        document = None
    fields = document if isinstance(document, dict) else {}
    kind = error_class(answer.status_code)
    message = str(fields.get("message") or "")
    if not message and kind is TooLargeError:
        message = "the request is larger than the server accepts; send a smaller photo or a JPEG"
    return kind(
        answer.status_code,
        str(fields.get("type") or ""),
        message or f"{answer.url} answered {answer.status_code} {answer.reason} without a message",
        str(fields.get("request_id") or answer.headers.get("x-request-id") or ""),
    )


def worker_died(error: StatusError) -> bool:
    """Whether TorchServe reports that the worker died during the request (tested with SIGKILL: 507, or 500)."""
    return error.status in (500, 507) and "worker died" in error.message.lower()


def _cause(fault: BaseException) -> str:
    # The innermost system error ("Connection refused") is shorter than the three layers around it.
    seen = [fault]
    while (inner := seen[-1].__cause__ or seen[-1].__context__) is not None:
        seen.append(inner)
    text = next((e.strerror for e in reversed(seen) if isinstance(e, OSError) and e.strerror), None)
    return text or type(fault).__name__
