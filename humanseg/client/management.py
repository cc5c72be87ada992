"""Manage a server's models: versions, workers, and the default version.

This is TorchServe's management API (https://pytorch.org/serve/management_api.html) without its pitfalls:

- a change is requested synchronously, and the call returns when the workers are READY;
- TorchServe kills the workers of an unregistered version with their requests in progress, and never answers queued
requests. `unregister` therefore drains the version first.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import quote

from humanseg.client.errors import (
    AnswerError,
    HumansegError,
    NotReadyError,
    ServerFaultError,
    StatusError,
    UnauthorizedError,
)
from humanseg.client.transport import Transport

READY = "READY"
POLL = 0.25  # seconds between two polls of the workers


@dataclass(frozen=True)
class Worker:
    """One worker process. `memory` is in bytes, 0 while unknown; `status` is READY, LOADING or UNLOADING."""

    id: str
    status: str
    pid: int
    memory: int
    gpu: bool


@dataclass(frozen=True)
class ModelVersion:
    """One registered version of a model.

    Attributes:
        default: whether requests without a version go here.
        mar: the file or URL it was loaded from.
        min_workers, max_workers: what it was last scaled to.
        batch_size: maximum photos per micro-batch; `max_batch_delay`: milliseconds to wait for them.
        queued: requests waiting for a worker; `queue_room`: free places in the queue before it answers 503.
    """

    name: str
    version: str
    default: bool
    mar: str
    min_workers: int
    max_workers: int
    batch_size: int
    max_batch_delay: int
    queued: int
    queue_room: int
    workers: tuple[Worker, ...]

    @property
    def ready(self) -> int:
        """How many workers are READY."""
        return sum(worker.status == READY for worker in self.workers)


class Management:
    """The management API of one server.

    Args:
        url: the management address, `http://...` or `unix:/path/to/socket`. It has no authentication: keep it on
        loopback, or better on a socket, which neither web pages nor other users of the host can access.
        timeout: of ordinary calls, in seconds.
        retries: additional attempts of read-only calls. A change is sent once.
        api_key: what a worker requires for `facts` if the server has API_KEYS_FILE.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8081",
        *,
        timeout: float = 60.0,
        retries: int = 4,
        api_key: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = Transport(url.rstrip("/"), timeout, retries, api_key)
        self._sleep = sleep
        self._clock = clock

    @property
    def url(self) -> str:
        """The management address."""
        return self._transport.url

    def models(self) -> tuple[ModelVersion, ...]:
        """Every version of every model, by name and version."""
        names: list[str] = []
        page: str | None = None
        while True:
            listing = self._get("/models", {"next_page_token": page} if page else {})
            names += [model["modelName"] for model in listing["models"]]
            page = listing.get("nextPageToken")
            if page is None:
                return tuple(version for name in sorted(names) for version in self.versions(name))

    def versions(self, model: str) -> tuple[ModelVersion, ...]:
        """All versions of one model.

        Raises:
            NotFoundError: no such model.
        """
        default = self._get(_path(model), {})[0]["modelVersion"]
        every = self._get(_path(model, "all"), {})
        return tuple(sorted((_version(entry, default) for entry in every), key=lambda version: version.version))

    def version(self, model: str, version: str | None = None) -> ModelVersion:
        """One version of a model; the default one when `version` is None.

        Raises:
            NotFoundError: no such model or version.
        """
        for candidate in self.versions(model):
            if candidate.version == version or (version is None and candidate.default):
                return candidate
        self._get(_path(model, version), {})  # the server's own 404
        raise AnswerError(f"{self.url} describes {model} {version} but does not list it; retry")

    def facts(self, model: str, version: str) -> dict[str, Any]:
        """Get the description of a version by its workers, such as `["network"]["architecture"]`.

        A busy worker answers after its photos. Empty if no worker runs, if it has another handler, or if it requires
        an API key.

        Raises:
            NotFoundError: no such model or version.
        """
        try:
            (answer,) = self._get(_path(model, version), {"customized": "true"})
        except UnauthorizedError:
            return {}
        facts = answer.get("customizedMetadata")
        try:
            facts = json.loads(facts) if isinstance(facts, str) else facts
        except ValueError:
            facts = None
        return facts if isinstance(facts, dict) else {}

    def scale(self, model: str, workers: int, *, version: str | None = None, timeout: float = 300.0) -> ModelVersion:
        """Run exactly `workers` workers (0 or more) and return when all of them are READY.

        Surplus workers are killed immediately, with their photos in progress: scale down when the server is idle.

        Raises:
            NotReadyError: not READY within `timeout` seconds.
            NotFoundError, ServerFaultError: no such model; the workers could not start.
        """
        if workers < 0:
            raise ValueError(f"workers={workers} must be 0 or more")
        current = self.version(model, version)
        number = {"min_worker": str(workers), "max_worker": str(workers), "synchronous": "true"}
        self._change("PUT", _path(model, current.version), number, timeout)
        return self.wait_ready(model, current.version, workers, timeout=timeout)

    def register(
        self, mar: str, *, workers: int = 1, model: str | None = None, timeout: float = 300.0
    ) -> ModelVersion:
        """Load a .mar beside the running versions, and return when its workers are READY. The default version stays.

        Args:
            mar: a file name in the server's own model store, or an http(s) URL the server can read.
            workers: number of workers, 1 or more.
            model: the name to register; None uses the one in the .mar.
            timeout: seconds until the workers must be READY.

        Raises:
            NotFoundError: no such file in the server's model store.
            ConflictError: this version is already registered.
            ServerFaultError: the .mar is broken or its workers can't start.
            NotReadyError: not READY within `timeout` seconds.
        """
        if workers < 1:
            raise ValueError(f"workers={workers} must be 1 or more for a new version")
        before = {(model.name, model.version) for model in self.models()}
        asked = {"url": mar, "initial_workers": str(workers), "synchronous": "true"}
        if model is not None:
            asked["model_name"] = model
        try:
            self._change("POST", "/models", asked, timeout)
            new = self._new(mar, before)
            if not new:
                raise AnswerError(f"{self.url} accepted {mar} but lists no new version; see its log")
            return self.wait_ready(new[0].name, new[0].version, workers, timeout=timeout)
        except HumansegError as error:
            # TorchServe keeps a version whose workers could not start, and answers a second attempt with 409.
            for version in self._new(mar, before):
                self._change("DELETE", _path(version.name, version.version), {}, timeout)
            if isinstance(error, ServerFaultError):
                why = f"{error.message}; see the server's model_log.log for the cause"
                raise ServerFaultError(error.status, error.type, why, error.request_id) from None
            raise

    def _new(self, mar: str, before: set[tuple[str, str]]) -> list[ModelVersion]:
        return [model for model in self.models() if model.mar == mar and (model.name, model.version) not in before]

    def set_default(self, model: str, version: str) -> None:
        """Set the default version, which answers requests without a version.

        Raises:
            NotFoundError: no such model or version.
        """
        self._change("PUT", _path(model, version) + "/set-default", {}, None)

    def unregister(self, model: str, version: str, *, drain: float = 10.0, timeout: float = 300.0) -> None:
        """Unload a version after its queue has been empty for `drain` seconds.

        TorchServe shows the queue but not the photos in progress, so `drain` must be longer than any photo takes.
        Requests to its versioned path prevent it from draining.

        Raises:
            ForbiddenError: it is the default version and others are registered: set another default first.
            NotFoundError: no such model or version.
            NotReadyError: the queue did not stay empty within `timeout` seconds.
        """
        current = self.version(model, version)
        # The server rejects the default version, and a version without workers need not drain.
        if current.workers and not current.default:
            self._run_dry(model, version, drain, timeout)
        self._change("DELETE", _path(model, version), {}, timeout)

    def wait_ready(self, model: str, version: str, workers: int, *, timeout: float = 300.0) -> ModelVersion:
        """Wait until exactly `workers` workers run and all of them are READY."""
        end = self._clock() + timeout
        while True:
            current = self.version(model, version)
            if current.ready == workers == len(current.workers):
                return current
            if self._clock() >= end:
                raise NotReadyError(
                    f"{model} {version} has {current.ready} of {workers} workers READY after {timeout:g} s; "
                    "see the server's model_log.log, or use a longer timeout"
                )
            self._sleep(POLL)

    def _run_dry(self, model: str, version: str, drain: float, timeout: float) -> None:
        start = quiet_since = self._clock()
        while (now := self._clock()) - quiet_since < drain:
            if now - start >= timeout:
                raise NotReadyError(
                    f"{model} {version} still has requests queued after {timeout:g} s; "
                    "stop the clients that request this version by its path, then retry"
                )
            if self.version(model, version).queued:
                quiet_since = now
            self._sleep(POLL)

    def _change(self, method: str, path: str, params: Mapping[str, str], timeout: float | None) -> None:
        try:
            self._transport.send(method, path, params=params, timeout=timeout, retries=0)
        except StatusError as error:
            if error.status != 405:
                raise
            why = f"the model API of {self.url} is off; set enable_model_api=true in its config.properties"
            raise StatusError(405, error.type, why, error.request_id) from None

    def _get(self, path: str, params: Mapping[str, str]) -> Any:
        answer = self._transport.send("GET", path, params=params)
        try:
            return answer.json()
        except ValueError:
            raise AnswerError(f"{answer.url} is not TorchServe's management API; check the management URL") from None

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Management:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _path(model: str, version: str | None = None) -> str:
    path = f"/models/{quote(model, safe='')}"
    return path if version is None else f"{path}/{quote(version, safe='')}"


def _version(answer: Mapping[str, Any], default: str) -> ModelVersion:
    queue = answer.get("jobQueueStatus") or {}
    return ModelVersion(
        name=answer["modelName"],
        version=answer["modelVersion"],
        default=answer["modelVersion"] == default,
        mar=answer["modelUrl"],
        min_workers=answer["minWorkers"],
        max_workers=answer["maxWorkers"],
        batch_size=answer["batchSize"],
        max_batch_delay=answer["maxBatchDelay"],
        queued=queue.get("pendingRequests", 0),
        queue_room=queue.get("remainingCapacity", 0),
        workers=tuple(
            Worker(str(worker["id"]), worker["status"], worker["pid"], worker["memoryUsage"], worker["gpu"])
            for worker in answer["workers"]
        ),
    )
