"""OpenVINO without its telemetry. Import it from here: `from humanseg.segmentation.quiet_openvino import openvino`.

When it is imported, and at every conversion, OpenVINO reports to Google Analytics unless it finds a file in the
user's home that forbids it. A server that holds people's photographs tells nobody that it has been started.
Where the telemetry package is missing, OpenVINO does without.
"""

from __future__ import annotations

import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # importing it now raises ImportError

import openvino  # noqa: E402

__all__ = ["openvino"]
