"""Large photos share the memory of a server; what one worker holds, no other has, until it ends or lets go."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from handler.errors import Busy
from handler.pixel_budget import FREE_MEGAPIXELS, PixelBudget, open_budget

HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom handler.pixel_budget import PixelBudget\n"
    "budget = PixelBudget(Path(sys.argv[1]), 60)\nbudget.take(int(sys.argv[2]))\nprint('held', flush=True)\n"
    "sys.stdin.readline()\n"
)


def worker(path: Path, pixels: int) -> subprocess.Popen[str]:
    """Another process that has taken `pixels`."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", HOLD, str(path), str(pixels)]
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_what_another_worker_holds_is_busy_until_it_dies(tmp_path: Path) -> None:
    path = tmp_path / "pixel-budget"
    other = worker(path, 40_000_000)
    with other:
        mine = PixelBudget(path, 60)
        mine.take(20_000_000)
        with pytest.raises(Busy) as busy:
            mine.take(10_000_000)
        assert busy.value.retry_after > 0
        mine.release()
        mine.take(20_000_000)  # a refusal keeps nothing
        other.kill()
    mine.take(40_000_000)
    mine.release()
    mine.release()
    with worker(path, 60_000_000) as third:
        third.kill()


def test_photos_of_one_batch_add_up(tmp_path: Path) -> None:
    budget = PixelBudget(tmp_path / "pixel-budget", 60)
    budget.take(30_000_000)
    budget.take(30_000_000)
    with pytest.raises(Busy):
        budget.take(5_000_000)
    budget.release()
    budget.take(60_000_000)


def test_small_photos_are_never_busy_and_the_largest_fits_alone(tmp_path: Path) -> None:
    path = tmp_path / "pixel-budget"
    with worker(path, 60_000_000) as other:
        mine = PixelBudget(path, 60)
        mine.take(FREE_MEGAPIXELS * 1_000_000)
        with pytest.raises(Busy):
            mine.take(FREE_MEGAPIXELS * 1_000_000 + 1)
        other.kill()
    mine.take(400_000_000)


def test_a_plain_torchserve_has_no_budget(tmp_path: Path) -> None:
    assert open_budget({}) is None
    budget = open_budget({"PIXEL_BUDGET_MEGAPIXELS": "7", "STATE_DIR": str(tmp_path)})
    assert budget is not None
    assert budget.megapixels == 7
