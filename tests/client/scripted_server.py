"""A real local HTTP server that answers what a test tells it to: for the faults a good server does not have."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HANG_UP = 0  # a step's status that means: close the connection without an answer

GOOD = {
    "content-type": "image/png",
    "x-image-width": "3",
    "x-image-height": "2",
    "x-person-coverage": "0.5",
    "x-person-found": "true",
    "x-confidence": "0.9",
    "x-model-version": "1.0",
    "server-timing": "decode;dur=1.5, forward;dur=20",
}


@dataclass
class Scripted:
    """steps: (status, headers, body) by request, the last one for all further requests. seen: request headers."""

    steps: list[tuple[int, dict[str, str], bytes]]
    url: str = ""
    seen: list[dict[str, str]] = field(default_factory=list)


def error(status: int, **message: object) -> tuple[int, dict[str, str], bytes]:
    """A step that answers an error as the server's JSON."""
    return status, {"content-type": "application/json"}, json.dumps({"code": status, **message}).encode()


@contextlib.contextmanager
def scripted(*steps: tuple[int, dict[str, str], bytes]) -> Iterator[Scripted]:
    """Run a server that goes through `steps`."""
    script = Scripted(list(steps))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            number = len(script.seen)
            script.seen.append({name.lower(): value for name, value in self.headers.items()})
            status, headers, body = script.steps[min(number, len(script.steps) - 1)]
            if status == HANG_UP:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    script.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
