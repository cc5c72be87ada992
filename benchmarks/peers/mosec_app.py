"""mosec, as its examples show: a worker with `deserialize`, `forward` on a batch, and `serialize`.

Its image example splits pre-processing from inference into two stages; here both are one, because with as many
inference workers as cores the hand-over between processes would only add copies.
"""

from __future__ import annotations

from typing import Any

from mosec import Server, Worker

from benchmarks.peers.stack import BATCH, DELAY, WORKERS, make_stack


class Segmentation(Worker):
    """Photo in, PNG out."""

    resp_mime_type = "image/png"

    def __init__(self) -> None:
        super().__init__()
        self.stack = make_stack()

    def deserialize(self, data: bytes) -> tuple[Any, Any]:
        return self.stack.decode(data)

    def forward(self, data: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        masks = self.stack.predict([square for square, _ in data])
        return list(zip(masks, [about for _, about in data], strict=True))

    def serialize(self, data: tuple[Any, Any]) -> bytes:
        return self.stack.encode(*data)


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Segmentation, num=WORKERS, max_batch_size=BATCH, max_wait_time=round(1000 * DELAY), timeout=60
    )
    server.run()
