"""OpenVINO without its telemetry. Import it from here: `from humanseg.segmentation.quiet_openvino import openvino`.

When it is imported, and at every conversion, OpenVINO reports to Google Analytics unless it finds a file in the
user's home that forbids it. A server that holds people's photographs tells nobody that it has been started.
Where the telemetry package is missing, OpenVINO does without.
"""

from __future__ import annotations

import sys
from functools import cache

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # importing it now raises ImportError

import openvino  # noqa: E402

__all__ = ["core", "openvino"]


@cache
def core() -> openvino.Core:
    """The one Core of this process that runs networks.

    Each new one loads the CPU plugin again, which puts a signal stack of its own in place (sigaltstack(2)) and, when
    it goes, the one before back. Where two overlap, that stack has been freed, and the next signal to the process,
    such as SIGCHLD, is a segmentation fault.
    """
    return openvino.Core()
