"""An instance metadata service of version 2, for tests: nothing without a token, tokens and credentials that end.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN_HEADER, TTL_HEADER = "x-aws-ec2-metadata-token", "x-aws-ec2-metadata-token-ttl-seconds"


class Metadata:
    """Serves `pages` by path under /latest/meta-data/. What is not there is 404, as on EC2."""

    def __init__(self) -> None:
        self.pages: dict[str, Callable[[], str]] = {}
        self.refused = 0  # requests without a good token
        self._tokens: dict[str, float] = {}
        metadata = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                if self.path != "/latest/api/token" or not self.headers.get(TTL_HEADER):
                    self.answer(400, "")
                    return
                token = secrets.token_hex(16)
                metadata._tokens[token] = time.monotonic() + int(self.headers[TTL_HEADER])
                self.answer(200, token)

            def do_GET(self) -> None:
                if metadata._tokens.get(self.headers.get(TOKEN_HEADER, ""), 0) < time.monotonic():
                    metadata.refused += 1
                    self.answer(401, "")
                    return
                page = metadata.pages.get(self.path.removeprefix("/latest/meta-data/"))
                self.answer(200, page()) if page else self.answer(404, "")

            def answer(self, status: int, body: str) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                if self.command == "PUT":
                    self.send_header(TTL_HEADER, "21600")
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def forget_tokens(self) -> None:
        """Every token that was handed out is over."""
        self._tokens.clear()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def credentials(answer: dict[str, str], seconds: float) -> str:
    """A role's credentials as the service hands them out, good for so long.

    With "+00:00" for "Z": botocore would take credentials that end so soon for a fault of the service, and lengthen
    their life by up to 25 minutes. It does that only where it finds a "Z".
    """
    end = (datetime.now(timezone.utc) + timedelta(seconds=seconds)).isoformat(timespec="seconds")
    return json.dumps(
        {
            "Code": "Success",
            "Type": "AWS-HMAC",
            "AccessKeyId": answer["AccessKeyId"],
            "SecretAccessKey": answer["SecretAccessKey"],
            "Token": answer["SessionToken"],
            "LastUpdated": end,
            "Expiration": end,
        }
    )
