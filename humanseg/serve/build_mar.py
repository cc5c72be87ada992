"""Weights and handler to a .mar that runs on any TorchServe 0.12 whose Python has the pinned packages.

The same inputs give the same bytes: the archive is written with fixed times and a fixed order. Nothing in it is
compressed, because weights do not shrink, and a worker's start would pay for unpacking them.
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
PAGE = ROOT / "handler" / "page"  # parts of the page, which goes into the .mar as one file beside this folder
PACKED = ("handler", "humanseg/common", "humanseg/segmentation", "humanseg/video", "humanseg/archive")
MAKERS = ("build_mar.py", "page.py", "model.py", "export.py", "golden.py", "golden.jpg")  # beside this file
ORIGIN = "origin.txt"  # inside the .mar: "shipped" or "own" weights
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold


class BuildError(Exception):
    """Why there is no .mar, in one line."""


def main() -> int:
    """Entry point of build_mar.sh."""
    arguments = parse_arguments()
    target = arguments.output / f"{arguments.name}.mar"
    if arguments.if_stale and (is_fresh(target, arguments.weights) or is_own(target)):
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
    print(f"Built {target} ({target.stat().st_size / 1e6:.1f} MB), version {arguments.version}")
    return 0


def parse_arguments() -> argparse.Namespace:
    """The command line, its paths made absolute from where the caller stands."""
    parser = argparse.ArgumentParser(
        prog="build_mar.sh", description="Package weights and handler as a TorchServe model archive."
    )
    add = parser.add_argument
    weights = (
        "a checkpoint in any wrapping (.safetensors, .pt, .pth, .ckpt, .bin), a folder of save_pretrained, or a "
    )
    weights += "graph: ONNX, TorchScript, .pt2, .tflite, OpenVINO's .xml (default: the shipped weights)"
    add("--weights", type=Path, default=DEFAULT_WEIGHTS, metavar="FILE", help=weights)
    add("--version", default="1.0", help="model version (default: %(default)s)")
    add("--name", default=DEFAULT_NAME, help="model name, and the archive's (default: %(default)s)")
    add("--output", type=Path, default=MODEL_STORE, metavar="DIR", help="folder for NAME.mar (default: model_store)")
    add("--if-stale", action="store_true", help="do nothing when NAME.mar is newer than its parts")
    look = "build nothing: write PHOTO.preview.png with the mask beside it, and say what looks wrong"
    add("--preview", type=Path, metavar="PHOTO", help=look)
    add("--checkpoint-part", metavar="KEY", help="of several copies of the weights in a checkpoint, the one to take")
    told = parser.add_argument_group(
        "the network's input and output", "What FILE does not say; kept in FILE.yaml, so that it need be said once."
    )
    for key, comment in COMMENTS.items():
        told.add_argument(f"--{key.replace('_', '-')}", metavar="VALUE", help=comment)
    arguments = parser.parse_args()
    caller = Path(os.environ.get("CALLED_FROM", ""))
    for key in ("weights", "output", "preview"):
        if getattr(arguments, key) is not None:
            setattr(arguments, key, caller / getattr(arguments, key))
    return arguments


def load(weights: Path, options: Mapping[str, str], part: str | None = None) -> Weights | Graph:
    """Read `weights`, say what was assumed, and keep what was said of it beside it. Raises BuildError."""
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
            print(f"{spec} says how photos go into it; change there what is wrong, or give the options again")
        except OSError as error:
            print(f"{spec} can't be written ({error.strerror}): give the options again next time", file=sys.stderr)
    return model


def preview(model: Weights | Graph, photo: Path) -> int:
    """Write the preview of `photo` to where the caller stands. Raises BuildError."""
    from humanseg.segmentation.errors import PhotoError
    from humanseg.serve.preview import write_preview

    target = Path(os.environ.get("CALLED_FROM", "")) / f"{photo.stem}.preview.png"
    try:
        doubts = write_preview(model, photo, target)
    except (OSError, PhotoError) as error:
        raise BuildError(f"{photo}: {error}") from None
    for doubt in doubts:
        print(f"Looks wrong: {doubt}")
    print(f"Look at {target}. Nothing was built: for that, leave --preview out.")
    return 0


def parts() -> Iterator[Path]:
    """Every file of the checkout that goes into a .mar or is a part of the page in it, the weights aside."""
    yield ROOT / "humanseg" / "__init__.py"
    for folder in PACKED:
        yield from sorted(
            path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts
        )
    yield ROOT / "docs" / "openapi.yaml"
    yield CONFIG


def is_fresh(target: Path, weights: Path) -> bool:
    """Whether `target` exists and is newer than all that it is made of."""
    if not target.is_file() or not weights.is_file():
        return False
    makers = [Path(__file__).parent / name for name in MAKERS]
    beside = [each for each in (spec_file(weights),) if each.is_file()]
    newest = max(path.stat().st_mtime for path in (*parts(), *makers, weights, *beside, ROOT / "pyproject.toml"))
    return target.stat().st_mtime > newest


def is_own(target: Path) -> bool:
    """Whether `target` was built from weights that somebody named: not ours to replace by the shipped ones."""
    try:
        with zipfile.ZipFile(target) as mar:
            own = mar.read(ORIGIN) == b"own"
    except (OSError, KeyError, zipfile.BadZipFile):
        return False
    if own:
        print(f"{target} holds weights of your own: kept, though files have changed since. ./build_mar.sh renews it.")
    return own


def build(model: Weights | Graph, weights: Path, version: str, name: str, output: Path) -> Path:
    """Write `output`/`name`.mar of the model that was read from `weights`; return its path. Raises BuildError."""
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
    """torch-model-archiver's own output, which also holds its manifest."""
    handler = content / "handler" / "segmentation_handler.py"
    command = [
        *(sys.executable, "-m", "model_archiver.model_packaging", "--model-name", name, "--version", version),
        *("--handler", str(handler), "--extra-files", str(content), "--config-file", str(CONFIG)),
        *("--archive-format", "zip-store", "--export-path", str(scratch), "--force"),
    ]
    # The archiver collects its files in TMPDIR/NAME: two builds at once would mix there.
    environment = {**os.environ, "TMPDIR": str(scratch), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    archived = scratch / f"{name}.mar"
    if done.returncode != 0 or not archived.is_file():
        last = (done.stderr.strip() or "no output").splitlines()[-1]
        raise BuildError(f"torch-model-archiver failed: {last}")
    return archived


def rewrite(source: Path, target: Path) -> None:
    """`source` with its entries sorted and without times, so that the same inputs give the same bytes."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
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
