"""OpenVINO without its telemetry. Import it from here: `from humanseg.segmentation.quiet_openvino import openvino`.

On import and at every conversion, OpenVINO reports to Google Analytics unless a file in the user's home forbids it. A
server with people's photographs must not send telemetry. OpenVINO works without its telemetry package.
"""

from __future__ import annotations

import sys
from functools import cache

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # importing it now raises ImportError

import openvino  # noqa: E402

__all__ = ["core", "openvino"]


@cache
def core() -> openvino.Core:
    """The only Core of this process that runs networks.

    Each new Core loads the CPU plugin again, which installs its own signal stack (sigaltstack(2)) and restores the
    previous one when it is destroyed. If two overlap, the restored stack has been freed, and the next signal to the
    process, such as SIGCHLD, causes a segmentation fault.
    """
    return openvino.Core()
