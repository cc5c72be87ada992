"""`humanseg release`: a new version into running servers, checked and watched, and back again by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from humanseg.cli.console import CommandError, err, out
from humanseg.common.names import STATE_DIR

app = typer.Typer()


@app.command()
def release(
    mar: Annotated[Path | None, typer.Option(help="The new version, as ./build_mar.sh --version V makes it.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights to build it from, instead of --mar.")] = None,
    version: Annotated[str | None, typer.Option(help="Its version, with --weights.")] = None,
    server: Annotated[
        list[str] | None,
        typer.Option(
            help="INFERENCE[,MANAGEMENT[,METRICS]] addresses; the ports follow each other if not given. Repeatable.",
            metavar="URL",
        ),
    ] = None,
    state_dir: Annotated[
        list[Path] | None,
        typer.Option(
            "--state-dir", help="Where a server on this host keeps its state. Repeatable.", envvar="STATE_DIR"
        ),
    ] = None,
    model_store: Annotated[
        list[Path] | None,
        typer.Option("--model-store", help="A server's model store, in the order of --server, instead."),
    ] = None,
    watch: Annotated[float, typer.Option(min=0, help="Seconds to watch for errors after the switch.")] = 60.0,
    drain: Annotated[float, typer.Option(min=0, help="Seconds that a version must be idle before it goes.")] = 10.0,
    gate: Annotated[
        Path | None,
        typer.Option(metavar="REPORT", help="Refuse without this report of `humanseg compare`, and keep it."),
    ] = None,
    keep_old: Annotated[bool, typer.Option("--keep-old", help="Leave the old version loaded.")] = False,
    api_key: Annotated[
        str | None, typer.Option("--api-key", envvar="HUMANSEG_API_KEY", help="For servers with keys.")
    ] = None,
) -> None:
    """Release a .mar: load it, compare golden predictions, switch, watch, clear up. Rolls back by itself.

    Exit status 0: the new version answers. 1: the old one does, and the last line says why.
    """
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="release-") as scratch:
        if mar is None:
            mar = _build(weights, version, Path(scratch))
        elif weights is not None or version is not None:
            raise CommandError("give --mar, or --weights with --version")
        _release(mar, server, state_dir, model_store, watch, drain, gate, keep_old, api_key)


def _build(weights: Path | None, version: str | None, folder: Path) -> Path:
    """The .mar of `weights`, in `folder`."""
    if weights is None or version is None:
        raise CommandError("give --mar, or --weights with --version")
    from humanseg.serve.build_mar import DEFAULT_NAME, build, load

    return build(load(weights, {}), weights, version, DEFAULT_NAME, folder)


def _release(
    mar: Path,
    server: list[str] | None,
    state_dir: list[Path] | None,
    model_store: list[Path] | None,
    watch: float,
    drain: float,
    gate: Path | None,
    keep_old: bool,
    api_key: str | None,
) -> None:
    from humanseg.cli.modelstore import put, read_mar
    from humanseg.cli.options import inference_url
    from humanseg.deploy.release import Release, Rollout, Server
    from humanseg.serve.golden import read_golden

    archive, golden = read_mar(mar), read_golden(mar)
    if not golden:
        raise CommandError(f"{mar} holds no golden predictions; build it anew with ./build_mar.sh")
    servers = tuple(Server.parse(each) for each in server or [inference_url(None)])
    if model_store and len(model_store) != len(servers):
        raise CommandError(f"{len(servers)} servers but {len(model_store)} times --model-store; give one for each")
    folders = model_store or [_store(state_dir or [Path(STATE_DIR)], each.management_url) for each in servers]
    if gate is not None:
        pass_gate(gate, mar, [(each.management_url, folder) for each, folder in zip(servers, folders, strict=True)])
    files = tuple(put(archive, folder)[0] for folder in folders)
    if gate is not None:
        _keep_report(gate, list(zip(folders, files, strict=True)))
    Rollout(
        Release(archive.model, archive.version, golden, servers, files, watch, drain, keep_old, api_key),
        lambda text: err().print(text, markup=False, soft_wrap=True),
    ).run()
    out().print(f"{archive.model} {archive.version} is released to {len(servers)} servers.")


def pass_gate(report: Path, mar: Path, servers: list[tuple[str, Path]]) -> None:
    """Raise CommandError unless `report` says that what is in `mar` is not worse than what each server runs."""
    from humanseg.client.management import Management
    from humanseg.training.gate import read_gate

    gate = read_gate(report)
    if not gate.passed:
        raise CommandError(f"{report} does not let it pass: the verdict is {gate.state!r}")
    new = _weights(mar)
    if gate.new_sha256 != new:
        raise CommandError(f"{report} is about other weights ({gate.new_sha256[:12]}) than {mar} has ({new[:12]})")
    from humanseg.cli.modelstore import read_mar

    model = read_mar(mar).model
    for url, store in servers:
        with Management(url) as management:
            running = next(each for each in management.versions(model) if each.default)
        file = store / Path(running.mar).name
        if not file.is_file():
            raise CommandError(f"{url} runs {running.mar}, which is not in {store}: what it runs can't be checked")
        if _weights(file) != gate.old_sha256:
            raise CommandError(
                f"{report} compares with weights {gate.old_sha256[:12]}, but {url} runs {_weights(file)[:12]} "
                f"({file.name}); compare with that"
            )


def _weights(mar: Path) -> str:
    """SHA-256 of the weights that a .mar was built from."""
    import json
    import zipfile

    try:
        with zipfile.ZipFile(mar) as packed:
            return str(json.loads(packed.read("model.json"))["weights_sha256"])
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise CommandError(
            f"{mar} does not say which weights it has ({error}); build it with ./build_mar.sh"
        ) from None


def _keep_report(report: Path, places: list[tuple[Path, str]]) -> None:
    """Put the report beside the new version's file in each model store."""
    from humanseg.cli.compare import note_copy
    from humanseg.common.files import copy_whole
    from humanseg.training.gate import read_gate

    shown = sorted(read_gate(report).request_ids)
    for folder, file in places:
        copy = (folder / file).with_suffix(".comparison.html")
        note_copy(copy, shown)
        copy_whole(report, copy)


def _store(states: list[Path], management_url: str) -> Path:
    """The model store of the server at `management_url`, which is started from one of `states`."""
    from humanseg.cli.modelstore import find_store

    reasons = []
    for state in states:
        try:
            return find_store(state, management_url)
        except CommandError as error:
            reasons.append(str(error))
    raise CommandError("; ".join(reasons))
