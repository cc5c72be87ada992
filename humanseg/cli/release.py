"""`humanseg release`: release a new version to running servers, with verification and automatic rollback."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from humanseg.cli.console import CommandError, err, out
from humanseg.common.names import STATE_DIR

app = typer.Typer()


@app.command()
def release(
    mar: Annotated[Path | None, typer.Option(help="The new version, built by ./build_mar.sh --version V.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Build the .mar from these weights, instead of --mar.")] = None,
    version: Annotated[str | None, typer.Option(help="Version of the new model, with --weights.")] = None,
    server: Annotated[
        list[str] | None,
        typer.Option(
            help="Addresses INFERENCE,MANAGEMENT,METRICS; omitted ones use the next port. Repeatable.",
            metavar="URL",
        ),
    ] = None,
    state_dir: Annotated[
        list[Path] | None,
        typer.Option("--state-dir", help="State folder of a server on this host. Repeatable.", envvar="STATE_DIR"),
    ] = None,
    model_store: Annotated[
        list[Path] | None,
        typer.Option(
            "--model-store", help="Model store of a server instead of --state-dir, in the order of --server."
        ),
    ] = None,
    watch: Annotated[float, typer.Option(min=0, help="Seconds to monitor for errors after the switch.")] = 60.0,
    drain: Annotated[
        float, typer.Option(min=0, help="Seconds that the old version must be idle before it is unloaded.")
    ] = 10.0,
    gate: Annotated[
        Path | None,
        typer.Option(metavar="REPORT", help="Require this passing report of `humanseg compare`, and store it."),
    ] = None,
    keep_old: Annotated[bool, typer.Option("--keep-old", help="Keep the old version loaded.")] = False,
    api_key: Annotated[str | None, typer.Option("--api-key", envvar="HUMANSEG_API_KEY", help="API key.")] = None,
) -> None:
    """Release a .mar: load it, verify golden predictions, switch, monitor, clean up. Rolls back automatically.

    Exit status 0: the new version is the default. 1: rolled back; the last line states the cause.
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
    from humanseg.cli.modelstore import placed, read_mar
    from humanseg.cli.options import inference_url
    from humanseg.deploy.release import Release, ReleaseError, RollbackError, Rollout, Server
    from humanseg.serve.golden import read_golden

    archive, golden = read_mar(mar), read_golden(mar)
    if not golden:
        raise CommandError(f"{mar} contains no golden predictions; rebuild it with ./build_mar.sh")
    servers = tuple(Server.parse(item) for item in server or [inference_url(None)])
    if model_store and len(model_store) != len(servers):
        raise CommandError(
            f"{len(servers)} servers but {len(model_store)} --model-store options; give one per server"
        )
    folders = model_store or [_store(state_dir or [Path(STATE_DIR)], item.management_url) for item in servers]
    if gate is not None:
        pass_gate(gate, mar, [(item.management_url, folder) for item, folder in zip(servers, folders, strict=True)])
    # after a RollbackError a server still has the version, and would miss its file after a restart
    with placed(archive, folders, ReleaseError, keep_on=(RollbackError,)) as files:
        Rollout(
            Release(archive.model, archive.version, golden, servers, files, watch, drain, keep_old, api_key),
            lambda text: err().print(text, markup=False, soft_wrap=True),
        ).run()
    if gate is not None:
        _keep_report(gate, list(zip(folders, files, strict=True)))
    out().print(f"{archive.model} {archive.version} is released to {len(servers)} servers.")


def pass_gate(report: Path, mar: Path, servers: list[tuple[str, Path]]) -> None:
    """Raise CommandError unless `report` shows that `mar` is not worse than the model of each server."""
    from humanseg.client.management import Management
    from humanseg.training.gate import read_gate

    gate = read_gate(report)
    if not gate.passed:
        raise CommandError(f"{report} blocks the release: its verdict is {gate.state!r}")
    new = _weights(mar)
    if gate.new_sha256 != new:
        raise CommandError(f"{report} is about other weights ({gate.new_sha256[:12]}) than {mar} has ({new[:12]})")
    from humanseg.cli.modelstore import read_mar

    model = read_mar(mar).model
    for url, store in servers:
        with Management(url) as management:
            running = next(item for item in management.versions(model) if item.default)
        file = store / Path(running.mar).name
        if not file.is_file():
            raise CommandError(f"{url} runs {running.mar}, which is not in {store}: its weights can't be verified")
        if _weights(file) != gate.old_sha256:
            raise CommandError(
                f"{report} compares with weights {gate.old_sha256[:12]}, but {url} runs {_weights(file)[:12]} "
                f"({file.name}); compare with those"
            )


def _weights(mar: Path) -> str:
    """SHA-256 of the weights that a .mar was built from."""
    import json
    import zipfile

    try:
        with zipfile.ZipFile(mar) as packed:
            return str(json.loads(packed.read("model.json"))["weights_sha256"])
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise CommandError(f"{mar} does not record its weights ({error}); build it with ./build_mar.sh") from None


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
