"""Reads a weights file, however it was saved, into its sets of named tensors.

`torch.save` has no format of its own for weights: people save the state dict, or a dict that holds it under any key,
beside the optimizer, the epoch and the arguments of the run. This module finds every mapping from names to tensors in
a file; `humanseg.segmentation.architectures` then identifies the network among them.

Files are always read with `weights_only=True`, so that none can run code. Common metadata beside the weights (NumPy
numbers, argparse's Namespace, paths, dates) is on an allow list; it is data and executes nothing.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import importlib
import json
import pathlib
import re
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from humanseg.segmentation.errors import WeightsError

# Prefixes that wrappers add to tensor names: DataParallel, torch.compile, FSDP, activation checkpoints.
WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
SHARD_INDEX = (".safetensors.index.json", ".bin.index.json")  # Hugging Face's list of the parts of one file
IN_FOLDER = ("model.safetensors", "pytorch_model.bin")  # files of `save_pretrained`
DEEPEST = 8  # mappings inside mappings


@dataclass(frozen=True)
class TensorSet:
    """A mapping from names to tensors in a file. name: the keys that lead to it, "" for the top level."""

    name: str
    tensors: dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """A file's content.

    sets: its sets of named tensors, floating-point ones as float32, all on the CPU, without wrappers' prefixes.
    metadata: of a safetensors file. config: config.json of a `save_pretrained` folder.
    """

    sets: tuple[TensorSet, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read `path`: a file of any common format, the index of a sharded one, or a `save_pretrained` folder.

    Raises WeightsError: no such file, damaged, no tensors, or a pickle that contains more than data.
    """
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    metadata: dict[str, str] = {}
    content: Any
    if path.name.endswith(SHARD_INDEX):
        content = dict(_read_shards(path))
    elif path.suffix == ".safetensors":
        metadata, content = read_safetensors(path)
    else:
        content = _read_pickle(path)
    sets = tuple(TensorSet(name, _cleaned(tensors)) for name, tensors in _tensor_sets(content))
    if not sets:
        raise WeightsError(f"{path}: contains no named tensors, neither at the top level nor under any key")
    return Checkpoint(sets, metadata)


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a file. Raises WeightsError when it is damaged."""
    try:
        with safe_open(str(path), framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator)
            return file.metadata() or {}, state
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({error})") from None


def _read_folder(folder: Path) -> Checkpoint:
    names = [*IN_FOLDER, *(f"{name}.index.json" for name in IN_FOLDER)]
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise WeightsError(f"{folder}: the folder contains none of {', '.join(names)}")
    read = read_checkpoint(found)
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        config = {}
    return Checkpoint(read.sets, read.metadata, config if isinstance(config, dict) else {})


def _read_shards(index: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise WeightsError(f"{index}: not a readable index of weights: it has no weight_map") from None
    for name in names:
        part = index.parent / Path(str(name)).name  # never outside the index's folder
        if not part.is_file():
            raise WeightsError(f"{index}: refers to {name}, which is not in its folder")
        content = read_safetensors(part)[1] if part.suffix == ".safetensors" else _read_pickle(part)
        yield from ((str(key), value) for key, value in content.items() if isinstance(value, Tensor))


def _read_pickle(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(list(_harmless())):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises all kinds of exceptions on invalid data
        text = str(error)
        held = re.search(r"(?:GLOBAL |<class ')([\w.]+)", text)
        if "weights_only" in text.lower() and held is not None:
            raise WeightsError(_refusal(path, held[1])) from None
        first = text.strip().splitlines()[0] if text.strip() else type(error).__name__
        raise WeightsError(f"{path}: not a readable PyTorch checkpoint ({first[:200]})") from None


def _refusal(path: Path, held: str) -> str:
    clean = path.with_name(f"{path.name.split('.')[0]}.clean.pt")
    return (
        f"{path}: contains an object of {held}, and loading it runs code from the file. If you trust the file, "
        "convert it where its classes can be imported, and use the new file:\n"
        f'  import torch; found = torch.load("{path.name}", map_location="cpu", weights_only=False)\n'
        '  found = found.get("state_dict", found) if isinstance(found, dict) else found\n'
        f'  torch.save(getattr(found, "state_dict", lambda: found)(), "{clean.name}")'
    )


def _harmless() -> Iterator[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """What a pickle may contain besides tensors and plain values: data that executes nothing when loaded."""
    array = importlib.import_module("numpy._core.multiarray")
    for folder in ("numpy.core", "numpy._core"):  # before and after NumPy 2
        yield array.scalar, f"{folder}.multiarray.scalar"
        yield array._reconstruct, f"{folder}.multiarray._reconstruct"
    yield from (np.ndarray, np.dtype, *(kind for kind in vars(np.dtypes).values() if isinstance(kind, type)))
    yield _latin1, "_codecs.encode"  # how old pickles encode the bytes of a NumPy number
    yield from (argparse.Namespace, types.SimpleNamespace, collections.OrderedDict)
    yield _without_default, "collections.defaultdict"
    yield from (datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone)
    yield from (bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset)
    for name in ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath"):
        for module in ("pathlib", "pathlib._local"):  # the second one since Python 3.13
            yield pathlib.PurePosixPath, f"{module}.{name}"
    for module in ("lightning_fabric", "lightning.fabric"):
        yield collections.OrderedDict, f"{module}.utilities.data.AttributeDict"
    for module in ("pytorch_lightning", "lightning.pytorch"):
        yield collections.OrderedDict, f"{module}.utilities.parsing.AttributeDict"


def _without_default(factory: Any = None, *content: Any) -> collections.OrderedDict[Any, Any]:
    """A replacement for defaultdict, which PyTorch's unpickler can't fill."""
    return collections.OrderedDict(*content)


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")


def _tensor_sets(content: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every mapping from names to tensors in `content`, outermost first."""
    if not isinstance(content, Mapping) or depth > DEEPEST:
        return
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if tensors:
        yield name, tensors
    for key, value in content.items():
        yield from _tensor_sets(value, f"{name}/{key}" if name else str(key), depth + 1)


def _cleaned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` without wrappers' names, floating-point ones in float32."""
    plain = {name: ".".join(part for part in name.split(".") if part not in WRAPPERS) for name in tensors}
    if len(set(plain.values())) != len(plain):  # the prefixes distinguish two copies
        plain = {name: name for name in tensors}
    return {
        plain[name]: tensor.detach().float() if tensor.is_floating_point() else tensor.detach()
        for name, tensor in tensors.items()
    }
