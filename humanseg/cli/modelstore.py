"""Copy a .mar into the only place that a server loads from: its model store.

TorchServe's management API takes a file name in the server's model store, neither a path nor an upload. For a server
on this host, the configuration that `serve.sh` rendered into STATE_DIR names the store.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from humanseg.cli.console import CommandError
from humanseg.common.files import copy_whole
from humanseg.common.mar import MarError, read_manifest

SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}")  # becomes part of a file name: no slash, no leading dot


@dataclass(frozen=True)
class Mar:
    """The name and version in a .mar."""

    path: Path
    model: str
    version: str

    @property
    def stored_name(self) -> str:
        """Its name in a model store, with the version: it must never replace another version's file."""
        return f"{self.model}-{self.version}.mar"


def read_mar(path: Path) -> Mar:
    """Read a .mar's name and version.

    Raises:
        CommandError: no such file, not a .mar, or an invalid name or version.
    """
    fix = "; build one with ./build_mar.sh"
    try:
        manifest = read_manifest(path)
    except MarError as error:
        raise CommandError(f"{error}{fix}") from None
    model, version = manifest.name, manifest.version
    for what, word in (("model name", model), ("version", version)):
        if not SAFE.fullmatch(word):
            raise CommandError(f"{path} has the {what} {word!r}; only letters, digits and . _ + - are allowed{fix}")
    return Mar(path, model, version)


def find_store(state_dir: Path, management_url: str) -> Path:
    """Find the model store of the server that runs from `state_dir`.

    Raises:
        CommandError: no server was started from there, or one with another management address.
    """
    fix = "give the server's model store with --model-store"
    for config in sorted((*state_dir.glob("*.properties"), *state_dir.glob("*/*.properties"))):
        settings = read_properties(config)
        if "model_store" not in settings:
            continue
        address = settings.get("management_address", "")
        if _place(address) != _place(management_url):
            raise CommandError(f"{config} belongs to the server at {address}, not {management_url}; {fix}")
        return Path(settings["model_store"])
    raise CommandError(f"{state_dir} has no configuration of a running server; set STATE_DIR, or {fix}")


@contextlib.contextmanager
def placed(
    mar: Mar, stores: Sequence[Path], refused: type[Exception], keep_on: tuple[type[Exception], ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Copy a .mar into model stores; yield its file name in each.

    If a copy fails, or the block with `refused`, the new copies are removed, except on `keep_on`. Any other error,
    and an interrupt, keeps them: a server may be loading one.

    Raises:
        CommandError: a store is missing or can't be written.
    """
    names: list[str] = []
    new: list[Path] = []
    try:
        for store in stores:
            name, is_new = _put(mar, store)
            names.append(name)
            if is_new:
                new.append(store / name)
        yield tuple(names)
    except keep_on:
        raise
    except (CommandError, refused):
        for path in new:
            path.unlink(missing_ok=True)
        raise


def _put(mar: Mar, store: Path) -> tuple[str, bool]:
    """Copy a .mar into a model store; return its file name, and whether it is new.

    Raises:
        CommandError: the store is missing or can't be written.
    """
    if not store.is_dir():
        raise CommandError(
            f"the model store {store} is not a folder; give the server's model store with --model-store"
        )
    if mar.path.resolve().parent == store.resolve():
        return mar.path.name, False
    destination = store / mar.stored_name
    if destination.is_file() and _sha256(destination) == _sha256(mar.path):
        return destination.name, False
    try:
        copy_whole(mar.path, destination)
    except OSError as fault:
        raise CommandError(f"{mar.path} can't be copied to {destination}: {fault.strerror or fault}") from None
    return destination.name, True


def read_properties(path: Path) -> dict[str, str]:
    """A .properties file as Java reads it (java.util.Properties), as far as humanseg/serve/config.py writes one."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {key.strip(): _unescaped(value.strip()) for key, value in pairs}


def _unescaped(text: str) -> str:
    def character(match: re.Match[str]) -> str:
        return chr(int(match[1], 16)) if match[1] else match[2]

    units = re.sub(r"\\u([0-9a-fA-F]{4})|\\(.)", character, text)
    return units.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "replace")


def _place(url: str) -> tuple[str, int | None]:
    if url.startswith("unix:"):
        return os.path.realpath(url.removeprefix("unix:")), None
    parts = urlsplit(url)
    host = parts.hostname or ""
    return ("127.0.0.1" if host in ("localhost", "::1", "0.0.0.0") else host), parts.port


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
