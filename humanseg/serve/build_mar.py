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
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODEL_STORE = ROOT / "model_store"
DEFAULT_WEIGHTS = MODEL_STORE / "human_segmentation.safetensors"
DEFAULT_NAME = "human_segmentation"
CONFIG = ROOT / "config" / "model-config.yaml"
PACKED = ("handler", "humanseg/segmentation", "humanseg/archive")
ORIGIN = "origin.txt"  # inside the .mar: "shipped" or "own" weights
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold


class BuildError(Exception):
    """Why there is no .mar, in one line."""


def main() -> int:
    """Entry point of build_mar.sh."""
    parser = argparse.ArgumentParser(
        prog="build_mar.sh", description="Package weights and handler as a TorchServe model archive."
    )
    parser.add_argument(
        "--weights",
        type=Path,
        default=DEFAULT_WEIGHTS,
        metavar="FILE",
        help=".safetensors, or a PyTorch checkpoint of the classic U-Net (default: the shipped weights)",
    )
    parser.add_argument("--version", default="1.0", help="model version (default: %(default)s)")
    parser.add_argument("--name", default=DEFAULT_NAME, help="model name, and the archive's (default: %(default)s)")
    parser.add_argument(
        "--output",
        type=Path,
        default=MODEL_STORE,
        metavar="DIR",
        help="folder for NAME.mar (default: model_store)",
    )
    parser.add_argument("--if-stale", action="store_true", help="do nothing when NAME.mar is newer than its parts")
    arguments = parser.parse_args()
    caller = Path(os.environ.get("CALLED_FROM", ""))
    arguments.weights, arguments.output = caller / arguments.weights, caller / arguments.output
    target = arguments.output / f"{arguments.name}.mar"
    if arguments.if_stale and (is_fresh(target, arguments.weights) or is_own(target)):
        return 0
    try:
        build(arguments.weights, arguments.version, arguments.name, arguments.output)
    except BuildError as error:
        print(f"build_mar: {error}", file=sys.stderr)
        return 1
    print(f"Built {target} ({target.stat().st_size / 1e6:.1f} MB), version {arguments.version}")
    return 0


def parts() -> Iterator[Path]:
    """Every file of the checkout that goes into a .mar, the weights aside."""
    yield ROOT / "humanseg" / "__init__.py"
    for folder in PACKED:
        yield from sorted(
            path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts
        )
    yield CONFIG


def is_fresh(target: Path, weights: Path) -> bool:
    """Whether `target` exists and is newer than all that it is made of."""
    if not target.is_file() or not weights.is_file():
        return False
    makers = [Path(__file__).parent / name for name in ("build_mar.py", "export.py", "golden.py", "golden.jpg")]
    newest = max(path.stat().st_mtime for path in (*parts(), *makers, weights, ROOT / "pyproject.toml"))
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


def build(weights: Path, version: str, name: str, output: Path) -> Path:
    """Write `output`/`name`.mar and return its path. Raises BuildError."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise BuildError(f"--name {name!r}: use letters, digits, '_', '-' and '.'.")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", version):
        raise BuildError(f"--version {version!r}: use letters, digits, '_', '-' and '.', for example 1.0.")
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="build-mar-") as scratch:
            content = Path(scratch) / "content"
            content.mkdir()
            write_model(weights, content)
            (content / ORIGIN).write_text("shipped" if weights.resolve() == DEFAULT_WEIGHTS else "own")
            for part in parts():
                if part != CONFIG:
                    copy = content / part.relative_to(ROOT)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(part, copy)
            archived = run_archiver(content, version, name, Path(scratch))
            partial = output / f".{name}.mar.{os.getpid()}"
            try:
                rewrite(archived, partial)
                # A server that reads it sees the old one or the new one.
                partial.replace(output / f"{name}.mar")
            finally:
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise BuildError(f"{error.strerror or error}: {error.filename or output}") from None
    return output / f"{name}.mar"


def write_model(weights: Path, folder: Path) -> None:
    """The model's files (see humanseg/segmentation/model_files.py) from a file of weights."""
    from humanseg.segmentation.model_files import GRAPH, WEIGHTS, ModelInfo
    from humanseg.segmentation.weights import WeightsError, load_weights, save_weights
    from humanseg.serve.export import write_graph
    from humanseg.serve.golden import write_golden

    try:
        loaded = load_weights(weights)
    except WeightsError as error:
        raise BuildError(str(error)) from None
    if weights.suffix == ".safetensors":
        shutil.copyfile(weights, folder / WEIGHTS)
    else:
        save_weights(
            folder / WEIGHTS,
            loaded.network,  # type: ignore[arg-type]
            input_size=loaded.input_size,
            threshold=loaded.threshold,
            calibration=loaded.calibration,
        )
        sort_metadata(folder / WEIGHTS)
    write_graph(loaded.network, loaded.input_size, folder / GRAPH)
    write_golden(folder / GRAPH, loaded.input_size, folder)
    calibration = loaded.calibration.text()
    ModelInfo(loaded.architecture, loaded.input_size, loaded.threshold, loaded.sha256, calibration).write(folder)


def sort_metadata(path: Path) -> None:
    """Put the metadata of a safetensors file in order: the library writes it in a random one."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")  # of the JSON header that follows
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


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
            if entry == "MAR-INF/MANIFEST.json":
                manifest = json.loads(data)
                manifest["createdOn"] = "01/01/1980 00:00:00"
                data = json.dumps(manifest, indent=2, sort_keys=True).encode()
            info = zipfile.ZipInfo(entry, EPOCH)
            info.external_attr = 0o644 << 16
            new.writestr(info, data)


if __name__ == "__main__":
    sys.exit(main())
