"""A limit on the pixels that all workers of a server hold in memory at the same time.

Each worker respects `max_megapixels`, but several workers at this limit together need more memory than a container
has, and the kernel kills them. A worker therefore reserves a part of a shared budget before it decodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from handler.errors import Busy
from handler.slots import Slots

FREE_MEGAPIXELS = 4  # a photo of a phone's front camera: smaller photos are not counted
RETRY_SECONDS = 2


class PixelBudget:
    """A budget of `megapixels` for all workers, one slot per megapixel."""

    def __init__(self, path: Path, megapixels: int) -> None:
        self.megapixels = megapixels
        self._slots = Slots(path)

    def take(self, pixels: int) -> None:
        """Reserve the budget for a photo of `pixels` until `release`. Raises Busy if too little is left."""
        wanted = -(-pixels // 1_000_000)
        if wanted <= FREE_MEGAPIXELS:
            return
        # A photo on its own always fits.
        if not self._slots.take(0, self.megapixels, min(wanted, self.megapixels)):
            raise Busy("The server has no memory for another large photo now. Retry later.", RETRY_SECONDS)

    def release(self) -> None:
        """Release everything that this worker has reserved."""
        self._slots.release()


def open_budget(environment: Mapping[str, str]) -> PixelBudget | None:
    """The budget set by serve.sh (humanseg/serve/memory.py); None if unset."""
    megapixels, folder = environment.get("PIXEL_BUDGET_MEGAPIXELS"), environment.get("STATE_DIR")
    return PixelBudget(Path(folder) / "pixel-budget", int(megapixels)) if megapixels and folder else None
