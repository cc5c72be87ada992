"""A proxy before the store that misbehaves as networks and overloaded stores do, by a fixed sequence of faults."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import random
import socket
import struct
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

FAULTS = (
    "pass",
    "slow",  # a second late
    "error-500",
    "slow-down-503",
    "reset",  # connection reset before the request is read
    "cut-request",  # half of the body reaches the store, then the line is cut
    "cut-answer",  # the store does its work, the answer is lost
    "garbage",  # an answer that is no HTTP
)


ERRORS = {
    "error-500": ("InternalError", 500),
    "slow-down-503": ("SlowDown", 503),
    "denied-403": ("AccessDenied", 403),  # these three are for tests that ask for them
    "too-large-400": ("EntityTooLarge", 400),
    "unknown-key-403": ("InvalidAccessKeyId", 403),
}


class FaultyProxy:
    """Listens on `url` while the context lasts. `faults` may be changed at any time; `seen` counts them."""

    def __init__(self, upstream: str, faults: tuple[str, ...] = FAULTS, seed: int = 1) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.faults = faults
        self.seen: Counter[str] = Counter()
        self._draw = random.Random(seed)
        self._number = itertools.count()
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                proxy.handle(self)

            do_GET = do_HEAD = do_DELETE = do_POST = do_PUT  # noqa: N815 - http.server's names

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:  # broken connections are the point
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FaultyProxy:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def next_fault(self) -> str:
        """Half of the requests pass, or nothing would ever get through."""
        with self._lock:
            everything = len(self.faults) == len(FAULTS)
            fault = "pass" if everything and self._draw.random() < 0.5 else self._draw.choice(self.faults)
            self.seen[fault] += 1
            return fault

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        fault = self.next_fault()
        if fault == "reset":
            self._reset(request)
            return
        if request.headers.get("Expect", "").lower() == "100-continue":
            request.send_response_only(100)
            request.end_headers()
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        if fault == "slow":
            time.sleep(1.0)
        elif fault in ERRORS:
            code, status = ERRORS[fault]
            answer = f"<Error><Code>{code}</Code><Message>try later</Message></Error>".encode()
            self._answer(request, status, [("Content-Type", "application/xml")], answer)
            return
        elif fault == "garbage":
            request.wfile.write(b"\x16\x03 this is no HTTP\r\n\r\n")
            request.close_connection = True
            return
        try:
            self._forward(request, body, fault)
        except OSError:  # the store itself is away
            self._reset(request)

    def _forward(self, request: BaseHTTPRequestHandler, body: bytes, fault: str) -> None:
        upstream = http.client.HTTPConnection(self.upstream, timeout=20)
        with contextlib.closing(upstream):
            upstream.putrequest(request.command, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                if name.lower() != "expect":
                    upstream.putheader(name, value)
            upstream.endheaders()
            if fault == "cut-request":
                upstream.send(body[: len(body) // 2])
                self._reset(request)
                return
            upstream.send(body)
            answer = upstream.getresponse()
            data = answer.read()
            if fault == "cut-answer":
                self._reset(request)
                return
            self._answer(request, answer.status, answer.getheaders(), data)

    @staticmethod
    def _answer(request: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
        request.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                request.send_header(name, value)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(data)

    @staticmethod
    def _reset(request: BaseHTTPRequestHandler) -> None:
        """Closes with RST instead of FIN."""
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.close_connection = True
        with contextlib.suppress(OSError):
            request.connection.shutdown(socket.SHUT_RD)
        request.connection.close()
