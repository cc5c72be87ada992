"""`humanseg status`, `scale`, `register`, `default`, `unregister`: models, versions and workers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from humanseg.cli.console import CommandError, err, print_json, print_table
from humanseg.cli.modelstore import find_store, placed, read_mar
from humanseg.cli.options import DEFAULT_MODEL, ApiKey, AsJson, ManagementUrl, Model, Timeout, management_url
from humanseg.common.names import STATE_DIR

if TYPE_CHECKING:
    from humanseg.client import Management, ModelVersion

app = typer.Typer()

Version = Annotated[str, typer.Argument(help="Version of the model, e.g. 1.0.")]


@app.command()
def status(
    url: ManagementUrl = None, timeout: Timeout = 30.0, as_json: AsJson = False, api_key: ApiKey = None
) -> None:
    """Show the models, their versions, workers and queues."""
    with _manage(url, timeout, api_key) as server:
        models = server.models()
        # Only a worker can answer this.
        facts = [server.facts(model.name, model.version) if model.ready else {} for model in models]
    _show(models, as_json, f"Models at {management_url(url)}", [entry.get("network", {}) for entry in facts])


@app.command()
def scale(
    workers: Annotated[int, typer.Argument(min=0, help="Worker processes to run.")],
    model: Model = DEFAULT_MODEL,
    version: Annotated[
        str | None, typer.Option("--version", help="Version to scale. Default: the default version.")
    ] = None,
    url: ManagementUrl = None,
    timeout: Timeout = 300.0,
    as_json: AsJson = False,
) -> None:
    """Change the number of workers, and wait until they are READY.

    Scaling down kills workers immediately, with the photos in progress.
    """
    with _manage(url, timeout) as server, err().status(f"Scaling {model} to {workers}"):
        scaled = server.scale(model, workers, version=version, timeout=timeout)
    _show([scaled], as_json, "Scaled")


@app.command()
def register(
    mar: Annotated[Path, typer.Argument(help="A .mar on this host, built by ./build_mar.sh.")],
    default: Annotated[bool, typer.Option("--default", help="Make it the default version when READY.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of workers. Default: as many as the default version.")
    ] = None,
    model_store: Annotated[
        Path | None,
        typer.Option("--model-store", help="The server's model store. Default: found in STATE_DIR."),
    ] = None,
    state_dir: Annotated[
        Path, typer.Option("--state-dir", envvar="STATE_DIR", help="State folder of serve.sh.")
    ] = Path(STATE_DIR),
    url: ManagementUrl = None,
    timeout: Timeout = 300.0,
    as_json: AsJson = False,
) -> None:
    """Load a model archive beside the running versions, and wait until its workers are READY."""
    from humanseg.client import HumansegError

    with _manage(url, timeout) as server:
        archive = read_mar(mar)
        same = [model for model in server.models() if model.name == archive.model]
        if any(other.version == archive.version for other in same):
            raise CommandError(
                f"{archive.model} {archive.version} is already registered; build the new one with "
                f"another --version, or first run: humanseg unregister {archive.version}"
            )
        # A version that takes over needs as many workers as its predecessor.
        count = workers or max((other.min_workers for other in same if other.default), default=0) or 1
        store = model_store or find_store(state_dir, server.url)
        with placed(archive, [store], HumansegError) as (name,), err().status(f"Loading {name} with {count} workers"):
            registered = server.register(name, workers=count, timeout=timeout)
        if default:
            server.set_default(registered.name, registered.version)
        registered = server.version(registered.name, registered.version)
    _show([registered], as_json, "Registered")


@app.command()
def default(
    version: Version, model: Model = DEFAULT_MODEL, url: ManagementUrl = None, as_json: AsJson = False
) -> None:
    """Set the default version, which answers requests without a version. It must have a READY worker."""
    with _manage(url, 60.0) as server:
        if not server.version(model, version).ready:
            raise CommandError(
                f"{model} {version} has no READY worker, so every request would fail; first run: "
                f"humanseg scale 1 --model {model} --version {version}"
            )
        server.set_default(model, version)
        models = server.versions(model)
    _show(models, as_json, "Default set")


@app.command()
def unregister(
    version: Version,
    model: Model = DEFAULT_MODEL,
    drain: Annotated[
        float,
        typer.Option(min=0, help="Seconds that its queue must stay empty; longer than any photo takes."),
    ] = 10.0,
    url: ManagementUrl = None,
    timeout: Timeout = 300.0,
    as_json: AsJson = False,
) -> None:
    """Unload a version when it has no more requests."""
    with _manage(url, timeout) as server:
        if server.version(model, version).default:
            raise CommandError(f"{model} {version} is the default version; first run: humanseg default OTHER_VERSION")
        with err().status(f"Waiting until {model} {version} has no more requests"):
            server.unregister(model, version, drain=drain, timeout=timeout)
        models = server.versions(model)
    _show(models, as_json, "Left")


def _manage(url: str | None, timeout: float, api_key: str | None = None) -> Management:
    from humanseg.client import Management

    return Management(management_url(url), timeout=timeout, api_key=api_key)


def _show(
    models: Sequence[ModelVersion], as_json: bool, title: str, networks: Sequence[dict[str, Any]] | None = None
) -> None:
    import dataclasses

    if as_json:
        documents = [{**dataclasses.asdict(model), "ready": model.ready} for model in models]
        for document, network in zip(documents, networks or (), strict=False):
            document["network"] = network
        print_json(documents)
        return
    rows = [
        (
            model.name,
            f"{model.version} (default)" if model.default else model.version,
            f"{model.ready} of {model.max_workers}",
            f"{model.queued} of {model.queued + model.queue_room}",
            model.batch_size,
            f"{sum(worker.memory for worker in model.workers) / 2**20:.0f} MiB",
            model.mar,
        )
        for model in models
    ]
    columns = ("model", "version", "READY", "queued", "batch", "memory", "archive")
    if networks is None:
        print_table(title, columns, rows)
        return
    with_networks = [(*row, _network(network)) for row, network in zip(rows, networks, strict=True)]
    print_table(title, (*columns, "network"), with_networks)


def _network(network: dict[str, Any]) -> str:
    """`onnx 320x320, openvino float32, 1 thread`."""
    if not network:
        return ""
    return f"{network['architecture']} {network['input_size']}, {network['engine']}"
