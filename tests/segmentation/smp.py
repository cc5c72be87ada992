"""segmentation_models.pytorch for tests, also where torch is the CPU's build and PyPI's torchvision the GPU's."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

_OPERATORS: list[torch.library.Library] = []  # they are gone when the library is


def import_smp() -> Any:
    """The package; skips the test where it is not installed.

    torchvision's compiled operators need the build of torch that they were made for, and importing it fails without
    them. No network here uses one: it is enough that they have names.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import torchvision  # noqa: F401
        except ImportError:
            pytest.skip("torchvision is not installed: pip install -e '.[dev]'")
        except RuntimeError:
            library = torch.library.Library("torchvision", "DEF")
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _OPERATORS.append(library)
        return pytest.importorskip("segmentation_models_pytorch")
