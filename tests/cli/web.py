"""A real HTTP server on this machine that answers as a test says, and counts who asked."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Web:
    """pages: path to what answers it. asked: path and headers of each request."""

    url: str
    pages: dict[str, Callable[[BaseHTTPRequestHandler], None]]
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)


@contextlib.contextmanager
def web() -> Iterator[Web]:
    """The server, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            running.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                running.pages[self.path.partition("?")[0]](self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running = Web(f"http://127.0.0.1:{server.server_port}", {})
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def body(data: bytes, status: int = 200, kind: str = "image/jpeg") -> Callable[[BaseHTTPRequestHandler], None]:
    """Answers with these bytes."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    return answer


def redirect(to: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answers with a redirect."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", to)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def endless(start: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answers with `start` and zeros behind it, without a length, until the client hangs up."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        request.wfile.write(start)
        while True:
            request.wfile.write(bytes(1 << 20))

    return answer


def stalled(start: bytes, until: threading.Event) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answers with `start`, and then nothing."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        request.wfile.write(start)
        request.wfile.flush()
        until.wait(60)

    return answer
