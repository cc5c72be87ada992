"""How many pixels all workers of a server may have in memory at a time.

Each worker alone keeps within `max_megapixels`, but several at their limit at once take more memory than a container
has, and the kernel then kills them. A worker therefore takes a part of one budget before it decodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from handler.errors import Busy
from handler.slots import Slots

FREE_MEGAPIXELS = 4  # a photo of a phone's front camera: such are not counted
RETRY_SECONDS = 2


class PixelBudget:
    """A budget of `megapixels` over all workers, one slot each."""

    def __init__(self, path: Path, megapixels: int) -> None:
        self.megapixels = megapixels
        self._slots = Slots(path)

    def take(self, pixels: int) -> None:
        """Take what a photo of `pixels` needs, until `release`. Raises Busy where too little is left."""
        wanted = -(-pixels // 1_000_000)
        if wanted <= FREE_MEGAPIXELS:
            return
        # A photo on its own always fits.
        if not self._slots.take(0, self.megapixels, min(wanted, self.megapixels)):
            raise Busy("The server is at work on as many large photos as its memory holds. Try again.", RETRY_SECONDS)

    def release(self) -> None:
        """Give everything back that this worker holds."""
        self._slots.release()


def open_budget(environment: Mapping[str, str]) -> PixelBudget | None:
    """The budget that serve.sh has set (humanseg/serve/memory.py); None where nobody did."""
    megapixels, folder = environment.get("PIXEL_BUDGET_MEGAPIXELS"), environment.get("STATE_DIR")
    return PixelBudget(Path(folder) / "pixel-budget", int(megapixels)) if megapixels and folder else None
