"""Terminal helpers of all commands: two consoles, errors, JSON, and tables (table.py)."""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

from humanseg.cli.table import print_table as print_table

if TYPE_CHECKING:
    from rich.console import Console


class CommandError(Exception):
    """A command fails. The message is one sentence with the cause and the fix."""


def out() -> Console:
    """The console of results (stdout)."""
    from rich.console import Console

    return Console()


def err() -> Console:
    """The console of progress and errors (stderr), so that results can be piped."""
    from rich.console import Console

    return Console(stderr=True)


# Packages that `pip install humanseg` does not install, and the extra that provides them.
EXTRAS = {
    **dict.fromkeys(("boto3", "botocore", "pyarrow", "yaml"), "archive"),
    **dict.fromkeys(("torch", "numpy", "cv2", "PIL", "openvino", "safetensors"), "segmentation"),
    **dict.fromkeys(("pillow_heif", "simplejpeg", "isal"), "segmentation"),
    "av": "video",
    **dict.fromkeys(("lightning_fabric", "albumentations", "imagehash", "pycocotools", "scipy"), "train"),
    **dict.fromkeys(("ts", "model_archiver"), "serve"),
    "ray": "scale",
}


def explain(error: Exception) -> int:
    """Print `error` as one sentence on stderr and return the exit status.

    Messages of `CommandError` and of the client library contain the cause and the fix; an `OSError` names the file.
    Anything else is a bug: its type is printed, and the traceback with HUMANSEG_DEBUG=1.
    """
    if os.environ.get("HUMANSEG_DEBUG") == "1":
        traceback.print_exception(error)
    elif isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in EXTRAS:
        package = (error.name or "").partition(".")[0]
        print(f"humanseg: this command needs {package}: pip install 'humanseg[{EXTRAS[package]}]'", file=sys.stderr)
    elif isinstance(error, (CommandError, ValueError, OSError)) or type(error).__module__.startswith("humanseg."):
        print(f"humanseg: {error}", file=sys.stderr)
    else:
        print(
            f"humanseg: unexpected {type(error).__name__}: {error} "
            "(this is a bug; set HUMANSEG_DEBUG=1 for the traceback)",
            file=sys.stderr,
        )
    return 1


def print_json(value: Any) -> None:
    """Print `value` as indented JSON on stdout, without colour."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))
