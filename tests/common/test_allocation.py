"""A process keeps the buffers of its last picture: the next one takes no pages from the kernel."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

CODE = """
import resource, sys
import numpy as np
from humanseg.common.allocation import keep_freed_buffers
if sys.argv[1] == "yes":
    keep_freed_buffers()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def picture():
    np.ones((720, 1280, 4), np.uint8)
picture()
before = faults()
for _ in range(20):
    picture()
print(faults() - before)
"""


def page_faults(kept: str) -> int:
    done = subprocess.run([sys.executable, "-c", CODE, kept], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_pictures_reuse_the_pages_of_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    assert page_faults("yes") < page_faults("no") / 10
