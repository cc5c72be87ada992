"""LitServe, as its guide "Speed up serving by 200x" shows for images: JSON with base64, batching, workers by cores.

The settings are what its documentation advises for many requests on a CPU: one worker a core, ZeroMQ queues.
"""

from __future__ import annotations

import base64
from typing import Any

import litserve
from fastapi import Response

from benchmarks.peers.stack import BATCH, DELAY, PORT, WORKERS, make_stack


class SegmentationAPI(litserve.LitAPI):
    """Its four verbs."""

    def setup(self, device: str) -> None:
        self.stack = make_stack()

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # its annotation would choose the parser
        return self.stack.decode(base64.b64decode(request["image_data"]))

    def batch(self, inputs: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        return inputs

    def predict(self, batch: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        masks = self.stack.predict([square for square, _ in batch])
        return list(zip(masks, [about for _, about in batch], strict=True))

    def unbatch(self, output: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        return output

    def encode_response(self, output):  # type: ignore[no-untyped-def]
        return Response(self.stack.encode(*output), media_type="image/png")


if __name__ == "__main__":
    server = litserve.LitServer(
        SegmentationAPI(max_batch_size=BATCH, batch_timeout=DELAY),
        accelerator="cpu",
        workers_per_device=WORKERS,
        timeout=60,
        fast_queue=True,
    )
    server.run(host="127.0.0.1", port=PORT, generate_client_file=False, log_level="warning")
