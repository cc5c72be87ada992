"""Packs weights and handler into a .mar that runs on any TorchServe 0.12 whose Python has the pinned packages.

Builds are reproducible: the archive has fixed times and a fixed order. It is not compressed, because weights do not
shrink, and decompression would slow down a worker's start.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from humanseg.common.files import whole_file
from humanseg.common.mar import MANIFEST
from humanseg.common.names import MODEL_NAME
from humanseg.segmentation.spec import COMMENTS, spec_file, write_spec_file
from humanseg.serve.page import build_page

if TYPE_CHECKING:
    from humanseg.segmentation.graph import Graph
    from humanseg.segmentation.weights import Weights

ROOT = Path(__file__).resolve().parents[2]
MODEL_STORE = ROOT / "model_store"
DEFAULT_WEIGHTS = MODEL_STORE / "human_segmentation.safetensors"
DEFAULT_NAME = MODEL_NAME
CONFIG = ROOT / "config" / "model-config.yaml"
PAGE = ROOT / "handler" / "page"  # parts of the page, which is one file in the .mar
PACKED = ("handler", "humanseg/common", "humanseg/segmentation", "humanseg/video", "humanseg/archive")
MAKERS = ("build_mar.py", "page.py", "model.py", "export.py", "golden.py", "golden.jpg")  # beside this file
ORIGIN = "origin.txt"  # inside the .mar: "shipped" or "own" weights
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time in a zip


class BuildError(Exception):
    """The build failed; one line with the cause."""


def main() -> int:
    """Entry point of build_mar.sh."""
    arguments = parse_arguments()
    mar_path = arguments.output / f"{arguments.name}.mar"
    if arguments.if_stale and (is_fresh(mar_path, arguments.weights) or is_own(mar_path)):
        return 0
    options = {key: getattr(arguments, key) for key in COMMENTS if getattr(arguments, key) is not None}
    try:
        model = load(arguments.weights, options, arguments.checkpoint_part)
        if arguments.preview:
            return preview(model, arguments.preview)
        build(model, arguments.weights, arguments.version, arguments.name, arguments.output)
    except BuildError as error:
        print(f"build_mar: {error}", file=sys.stderr)
        return 1
    print(f"Built {mar_path} ({mar_path.stat().st_size / 1e6:.1f} MB), version {arguments.version}")
    return 0


def parse_arguments() -> argparse.Namespace:
    """Parse the command line and make paths absolute, relative to the caller's folder."""
    parser = argparse.ArgumentParser(
        prog="build_mar.sh", description="Package weights and handler as a TorchServe model archive."
    )
    add = parser.add_argument
    weights = "a checkpoint in any wrapper (.safetensors, .pt, .pth, .ckpt, .bin), a save_pretrained folder, or a "
    weights += "graph: ONNX, TorchScript, .pt2, .tflite, OpenVINO's .xml (default: the shipped weights)"
    add("--weights", type=Path, default=DEFAULT_WEIGHTS, metavar="FILE", help=weights)
    add("--version", default="1.0", help="model version (default: %(default)s)")
    add("--name", default=DEFAULT_NAME, help="name of the model and its archive (default: %(default)s)")
    add("--output", type=Path, default=MODEL_STORE, metavar="DIR", help="folder for NAME.mar (default: model_store)")
    add("--if-stale", action="store_true", help="do nothing if NAME.mar is newer than its sources")
    look = "build nothing: write PHOTO.preview.png with the mask beside the photo, and warn about suspicious masks"
    add("--preview", type=Path, metavar="PHOTO", help=look)
    add("--checkpoint-part", metavar="KEY", help="which of several copies of the weights in a checkpoint to use")
    format_options = parser.add_argument_group(
        "the network's input and output",
        "For information that FILE does not contain. Stored in FILE.yaml, so you give it only once.",
    )
    for key, comment in COMMENTS.items():
        format_options.add_argument(f"--{key.replace('_', '-')}", metavar="VALUE", help=comment)
    arguments = parser.parse_args()
    caller = Path(os.environ.get("CALLED_FROM", ""))
    for key in ("weights", "output", "preview"):
        if getattr(arguments, key) is not None:
            setattr(arguments, key, caller / getattr(arguments, key))
    return arguments


def load(weights: Path, options: Mapping[str, str], part: str | None = None) -> Weights | Graph:
    """Read `weights`, print the assumptions, and store the options beside it. Raises BuildError."""
    from humanseg.segmentation.errors import WeightsError
    from humanseg.segmentation.models import load_model

    try:
        model = load_model(weights, options, part=part)
    except WeightsError as error:
        raise BuildError(str(error)) from None
    for note in model.notes:
        print(f"{weights.name}: {note}")
    spec = spec_file(weights)
    if options or (model.notes and not spec.is_file()):
        try:
            write_spec_file(spec, model.spec)
            print(f"{spec} describes its input and output; correct it there, or with the options")
        except OSError as error:
            print(f"{spec} can't be written ({error.strerror}): repeat the options next time", file=sys.stderr)
    return model


def preview(model: Weights | Graph, photo: Path) -> int:
    """Write the preview of `photo` to the caller's folder. Raises BuildError."""
    from humanseg.segmentation.errors import PhotoError
    from humanseg.serve.preview import write_preview

    preview_path = Path(os.environ.get("CALLED_FROM", "")) / f"{photo.stem}.preview.png"
    try:
        doubts = write_preview(model, photo, preview_path)
    except (OSError, PhotoError) as error:
        raise BuildError(f"{photo}: {error}") from None
    for doubt in doubts:
        print(f"Warning: {doubt}")
    print(f"See {preview_path}. Nothing was built: run again without --preview to build.")
    return 0


def parts() -> Iterator[Path]:
    """Every source file of a .mar in the checkout, except the weights."""
    yield ROOT / "humanseg" / "__init__.py"
    for folder in PACKED:
        yield from sorted(
            path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts
        )
    yield ROOT / "docs" / "openapi.yaml"
    yield CONFIG


def is_fresh(mar_path: Path, weights: Path) -> bool:
    """Whether `mar_path` exists and is newer than its sources."""
    if not mar_path.is_file() or not weights.is_file():
        return False
    makers = [Path(__file__).parent / name for name in MAKERS]
    beside = [item for item in (spec_file(weights),) if item.is_file()]
    newest = max(path.stat().st_mtime for path in (*parts(), *makers, weights, *beside, ROOT / "pyproject.toml"))
    return mar_path.stat().st_mtime > newest


def is_own(mar_path: Path) -> bool:
    """Whether `mar_path` was built from custom weights, which must not be replaced by the shipped ones."""
    try:
        with zipfile.ZipFile(mar_path) as mar:
            own = mar.read(ORIGIN) == b"own"
    except (OSError, KeyError, zipfile.BadZipFile):
        return False
    if own:
        print(f"{mar_path} has custom weights and was kept, but sources have changed. To rebuild: ./build_mar.sh")
    return own


def build(model: Weights | Graph, weights: Path, version: str, name: str, output: Path) -> Path:
    """Write `output`/`name`.mar with the model read from `weights`; return its path. Raises BuildError."""
    from humanseg.serve.model import write_model

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise BuildError(f"--name {name!r}: use letters, digits, '_', '-' and '.'.")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", version):
        raise BuildError(f"--version {version!r}: use letters, digits, '_', '-' and '.', for example 1.0.")
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="build-mar-") as scratch:
            content = Path(scratch) / "content"
            content.mkdir()
            for note in write_model(model, weights, content):
                print(f"{weights.name}: {note}")
            (content / ORIGIN).write_text("shipped" if weights.resolve() == DEFAULT_WEIGHTS else "own")
            for part in parts():
                if part != CONFIG and PAGE not in part.parents:
                    copy = content / part.relative_to(ROOT)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(part, copy)
            (content / "handler" / "page.html").write_text(build_page(PAGE), encoding="utf-8")
            archived = run_archiver(content, version, name, Path(scratch))
            with whole_file(output / f"{name}.mar") as partial:
                rewrite(archived, partial)
    except OSError as error:
        raise BuildError(f"{error.strerror or error}: {error.filename or output}") from None
    return output / f"{name}.mar"


def run_archiver(content: Path, version: str, name: str, scratch: Path) -> Path:
    """torch-model-archiver's output, including its manifest."""
    handler = content / "handler" / "segmentation_handler.py"
    command = [
        *(sys.executable, "-m", "model_archiver.model_packaging", "--model-name", name, "--version", version),
        *("--handler", str(handler), "--extra-files", str(content), "--config-file", str(CONFIG)),
        *("--archive-format", "zip-store", "--export-path", str(scratch), "--force"),
    ]
    # The archiver collects its files in TMPDIR/NAME, where concurrent builds would mix.
    environment = {**os.environ, "TMPDIR": str(scratch), "PYTHONWARNINGS": "ignore"}
    completed = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    archived = scratch / f"{name}.mar"
    if completed.returncode != 0 or not archived.is_file():
        last = (completed.stderr.strip() or "no output").splitlines()[-1]
        raise BuildError(f"torch-model-archiver failed: {last}")
    return archived


def rewrite(source: Path, destination: Path) -> None:
    """Repack `source` with sorted entries and without times, for reproducible bytes."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(destination, "w", zipfile.ZIP_STORED) as new:
        for entry in sorted(old.namelist()):
            data = old.read(entry)
            if entry == MANIFEST:
                manifest = json.loads(data)
                manifest["createdOn"] = "01/01/1980 00:00:00"
                data = json.dumps(manifest, indent=2, sort_keys=True).encode()
            info = zipfile.ZipInfo(entry, EPOCH)
            info.external_attr = 0o644 << 16
            new.writestr(info, data)


if __name__ == "__main__":
    sys.exit(main())
