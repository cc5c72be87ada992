"""How many pixels all workers of a server may have in memory at a time.

Each worker alone keeps within `max_megapixels`, but several at their limit at once take more memory than a container
has, and the kernel then kills them. A worker therefore takes a part of one budget before it decodes.

The budget is a file in STATE_DIR, of which nothing is read or written: each of its bytes stands for one megapixel,
and who has locked a byte (fcntl) has it. The kernel gives locks back when a process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path

from handler.errors import Busy

FREE_MEGAPIXELS = 4  # a photo of a phone's front camera: such are not counted
RETRY_SECONDS = 2


class PixelBudget:
    """The part of the budget that this worker holds. `megapixels` is the whole of it, over all workers."""

    def __init__(self, path: Path, megapixels: int) -> None:
        self.megapixels = megapixels
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._mine: set[int] = set()

    def take(self, pixels: int) -> None:
        """Take what a photo of `pixels` needs, until `release`. Raises Busy where too little is left."""
        wanted = -(-pixels // 1_000_000)
        if wanted <= FREE_MEGAPIXELS:
            return
        wanted = min(wanted, self.megapixels)  # a photo on its own always fits
        taken: set[int] = set()
        for place in range(self.megapixels):
            if len(taken) == wanted:
                break
            if place not in self._mine and self._lock(place):
                taken.add(place)
        self._mine |= taken
        if len(taken) < wanted:
            self._unlock(taken)
            raise Busy("The server is at work on as many large photos as its memory holds. Try again.", RETRY_SECONDS)

    def release(self) -> None:
        """Give everything back that this worker holds."""
        if self._mine:
            self._unlock(set(self._mine))

    def _lock(self, place: int) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except OSError:
            return False
        return True

    def _unlock(self, places: set[int]) -> None:
        for place in places:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, place)
        self._mine -= places


def open_budget(environment: Mapping[str, str]) -> PixelBudget | None:
    """The budget that serve.sh has set (humanseg/serve/memory.py); None where nobody did."""
    megapixels, folder = environment.get("PIXEL_BUDGET_MEGAPIXELS"), environment.get("STATE_DIR")
    return PixelBudget(Path(folder) / "pixel-budget", int(megapixels)) if megapixels and folder else None
