"""Health checks with a real prediction. TorchServe's /ping reports Healthy without a model.

    python -m humanseg.deploy.container.health     exits 0 when healthy: for Docker's HEALTHCHECK

Load balancers and Kubernetes use the small server in process 1 (HEALTH_PORT) instead. It predicts at most once in
`FRESH` seconds, however many requests it gets, and answers 503 as soon as the container starts to terminate. A server
that is too busy for the prediction but answers other requests is healthy: replacing it would increase the load on the
rest.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from humanseg.common.names import MODEL_NAME
from humanseg.common.probe import PROBE

PNG = b"\x89PNG\r\n\x1a\n"
FRESH = 5.0  # seconds that a result is cached
TIMEOUT = 8.0  # seconds for one prediction; Docker's and the load balancer's timeouts are longer


def key_file(environment: Mapping[str, str]) -> Path:
    """The file with process 1's key for its own predictions."""
    return Path(environment.get("TMPDIR", "/tmp")) / "health.key"


def own_api_key(environment: Mapping[str, str]) -> dict[str, str]:
    """If the server requires API keys, create a random one for health checks and return its variables.

    Health checks can't use the operator's keys, because only their hashes are known.
    """
    if not environment.get("API_KEYS_FILE"):
        return {}
    key, place = secrets.token_hex(32), key_file(environment)
    place.touch(mode=0o600)
    place.write_text(key)
    return {"HEALTH_KEY_HASH": sha256(key.encode()).hexdigest()}


def predicts(environment: Mapping[str, str], *, timeout: float = TIMEOUT) -> str:
    """Make a prediction; return the empty string on success, else the error."""
    url = f"http://127.0.0.1:{environment.get('INFERENCE_PORT') or 8080}/predictions/{MODEL_NAME}"
    headers = {"content-type": "image/png", "x-archive": "no"}
    place = key_file(environment)
    if place.exists():
        headers["x-api-key"] = place.read_text()
    try:
        request = urllib.request.Request(url, PROBE, headers)
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            mask, size = answer.read(), answer.headers.get("x-image-width")
    except urllib.error.HTTPError as error:
        with error:
            return f"the server answered {error.code}"
    except OSError as error:
        return f"the server does not answer: {error}"
    return "" if mask.startswith(PNG) and size == "32" else "the response is not the photo's mask"


class Health:
    """The last prediction's result, cached for `FRESH` seconds; always unhealthy during termination.

    `answered` returns the number of photos answered successfully since the start; NaN if unknown.
    """

    def __init__(
        self,
        predict: Callable[[], str],
        answered: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._predict, self._answered, self._clock = predict, answered, clock
        self._lock = threading.Lock()
        self._reason, self._until, self._before = "starting", -1.0, math.nan
        self.leaving = threading.Event()

    def reason(self) -> str:
        """The empty string if healthy, else the reason."""
        if self.leaving.is_set():
            return "leaving"
        with self._lock:
            if self._clock() >= self._until:
                self._reason = self._predict()
                answered = self._answered()
                if answered > self._before:
                    self._reason = ""
                self._before = answered
                self._until = self._clock() + FRESH
            return self._reason


def serve_health(health: Health, address: str, port: int) -> ThreadingHTTPServer:
    """Answer GET /healthz on `address`:`port` in a thread: 200 or 503, with the reason as JSON."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 30

        def do_GET(self) -> None:
            if self.path != "/healthz":
                self.send_error(404)
                return
            reason = health.reason()
            body = json.dumps({"healthy": not reason, "reason": reason}).encode()
            self.send_response(503 if reason else 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass  # no access log

    server = ThreadingHTTPServer((address, port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


if __name__ == "__main__":
    sys.exit(predicts(os.environ) or 0)  # a text is printed to stderr, with exit status 1
