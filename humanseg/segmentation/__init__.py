"""The core: photo -> frame -> network -> mask -> picture. No server, no S3, no HTTP.

Public names are imported lazily: a worker that runs OpenVINO must not import PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from humanseg.segmentation.errors import PhotoError
    from humanseg.segmentation.result import Segmentation, Summary
    from humanseg.segmentation.segmenter import SegmentedPhoto, Segmenter

_PUBLIC = {
    "PhotoError": "errors",
    "SegmentedPhoto": "segmenter",
    "Segmentation": "result",
    "Segmenter": "segmenter",
    "Summary": "result",
}
__all__ = ["PhotoError", "Segmentation", "SegmentedPhoto", "Segmenter", "Summary"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("humanseg"):
            raise
        raise ModuleNotFoundError(
            f"humanseg.segmentation needs {error.name}: pip install 'humanseg[segmentation]'", name=error.name
        ) from None
