"""Releases a new version to running servers without a failed request, with automatic rollback.

    load      the new version starts beside the old one and gets no traffic
    golden    each server predicts the .mar's golden pictures on the new version's path
    switch    the new version becomes the default
    watch     monitor golden pictures on the default path, 5xx counters and workers
    clear     the old version is drained and unloaded
An error in the first two steps unloads the new version; a later one first restores the old default. With several
servers, each step runs on all of them before the next one.
"""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np

from humanseg.client import Client, HumansegError
from humanseg.serve.golden import TOLERANCE, Golden

POLL = 1.0  # seconds between two checks while watching


class ReleaseError(ValueError):
    """The release failed: one line with the cause. The old version is the default again."""


class RollbackError(ReleaseError):
    """The release failed, and a server still has the new version."""


@dataclass(frozen=True)
class Server:
    """One server's three addresses."""

    url: str
    management_url: str
    metrics_url: str

    @classmethod
    def parse(cls, text: str) -> Server:
        """Parse INFERENCE[,MANAGEMENT[,METRICS]]; omitted addresses use the next port.

        MANAGEMENT may be unix:/path/to/socket.

        >>> Server.parse("http://127.0.0.1:8080").metrics_url
        'http://127.0.0.1:8082'
        """
        given = [item.rstrip("/") for item in text.split(",")]
        for number, item in enumerate(given):
            parts = urlsplit(item)
            socket = number == 1 and item.startswith("unix:/")
            http = parts.scheme in ("http", "https") and parts.hostname
            if not (socket or http) or len(given) > 3:
                raise ReleaseError(
                    f"--server {text!r} is not INFERENCE[,MANAGEMENT[,METRICS]], "
                    "e.g. http://127.0.0.1:8080 or http://127.0.0.1:8080,http://127.0.0.1:9081"
                )
        while len(given) < 3:
            step = 2 if given[-1].startswith("unix:") else 1
            parts = urlsplit(given[0] if step == 2 else given[-1])
            port = parts.port or (443 if parts.scheme == "https" else 80)
            given.append(f"{parts.scheme}://{parts.hostname}:{port + step}")
        return cls(*given)


@dataclass(frozen=True)
class Release:
    """The release plan. files: the .mar's name in each server's model store, one per server."""

    model: str
    version: str
    golden: tuple[Golden, ...]
    servers: tuple[Server, ...]
    files: tuple[str, ...]
    watch_seconds: float = 60.0
    drain_seconds: float = 10.0
    keep_old: bool = False
    api_key: str | None = None


class Rollout:
    """Executes one release. `say` receives each step; the clock is passed in."""

    def __init__(
        self,
        release: Release,
        say: Callable[[str], None] = lambda text: None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.release, self._say, self._sleep, self._clock = release, say, sleep, clock
        self._clients = [
            # No retries: during a release, a single failed request triggers the rollback.
            Client(item.url, management_url=item.management_url, api_key=release.api_key, retries=0)
            for item in release.servers
        ]
        for client in self._clients:
            client.model = release.model
        self._old: dict[int, str] = {}  # the default version before, by server
        self._loaded: list[int] = []
        self._switched: list[int] = []

    def run(self) -> None:
        """Run all steps. Raises ReleaseError after the rollback, RollbackError if that failed."""
        try:
            self._load()
            self._ask_golden(self.release.version)
            self._switch()
            self._watch()
        except (HumansegError, ReleaseError, OSError, KeyboardInterrupt) as error:
            reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
            self._say(f"rolling back: {reason}")
            self._roll_back(reason)
            raise ReleaseError(f"{self.release.model} {self.release.version} was not released: {reason}") from None
        if not self.release.keep_old:
            self._clear()

    def _load(self) -> None:
        release = self.release
        for number, client in enumerate(self._clients):
            versions = client.management.versions(release.model)
            old = next(item for item in versions if item.default)
            if any(item.version == release.version for item in versions):
                raise ReleaseError(
                    f"{client.url} already has version {release.version}; build the .mar with another --version"
                )
            self._old[number] = old.version
            workers = max(1, old.min_workers)
            self._say(f"{client.url}: loading {release.version} beside {old.version} with {workers} workers")
            client.management.register(release.files[number], workers=workers)
            self._loaded.append(number)

    def _ask_golden(self, version: str | None, servers: Sequence[int] | None = None) -> None:
        for number in range(len(self._clients)) if servers is None else servers:
            client = self._clients[number]
            for golden in self.release.golden:
                answer = client.segment(
                    golden.photo_bytes, output="probability", keep="all", archive=False, version=version
                )
                if answer.model_version != self.release.version:
                    raise ReleaseError(
                        f"{client.url} answered with version {answer.model_version}, not {self.release.version}"
                    )
                difference = golden.difference(np.asarray(answer.image()))
                if difference > TOLERANCE:
                    raise ReleaseError(
                        f"{client.url} predicts the golden picture {golden.name!r} differently from the .mar: "
                        f"it is off by {difference:.3f}, the limit is {TOLERANCE}"
                    )
            if version is not None:
                self._say(f"{client.url}: {len(self.release.golden)} golden predictions match")

    def _switch(self) -> None:
        for number, client in enumerate(self._clients):
            self._switched.append(number)
            client.management.set_default(self.release.model, self.release.version)
            self._say(f"{client.url}: {self.release.version} is the default version")

    def _watch(self) -> None:
        """Return after `watch_seconds` without an error; raise at the first one."""
        before = [server_errors(item.metrics_url) for item in self.release.servers]
        end = self._clock() + self.release.watch_seconds
        self._say(f"watching for {self.release.watch_seconds:g} s")
        while self._clock() < end:
            self._sleep(min(POLL, max(0.0, end - self._clock())))
            for number, (client, server) in enumerate(zip(self._clients, self.release.servers, strict=True)):
                new = server_errors(server.metrics_url) - before[number]
                if new > 0:
                    raise ReleaseError(f"{client.url} has answered {new:g} requests with 5xx since the switch")
                version = client.management.version(self.release.model, self.release.version)
                if version.ready < version.min_workers:
                    raise ReleaseError(f"{client.url} has {version.ready} of {version.min_workers} workers READY")
            self._ask_golden(None)

    def _clear(self) -> None:
        for number, client in enumerate(self._clients):
            old = self._old[number]
            client.management.unregister(self.release.model, old, drain=self.release.drain_seconds)
            self._say(f"{client.url}: {old} is unloaded")

    def _roll_back(self, reason: str) -> None:
        failed = []
        for number in dict.fromkeys([*self._switched, *self._loaded]):
            client, release = self._clients[number], self.release
            try:
                if number in self._switched:
                    client.management.set_default(release.model, self._old[number])
                    self._say(f"{client.url}: {self._old[number]} is the default version again")
                client.management.unregister(release.model, release.version, drain=release.drain_seconds)
            except HumansegError as error:
                failed.append(f"{client.url}: {error}")
        if failed:
            raise RollbackError(f"{reason}; the rollback failed at {'; '.join(failed)}")


def server_errors(metrics_url: str) -> float:
    """The number of 5xx responses of a server since its start. Raises OSError if its metrics can't be read."""
    url = f"{metrics_url.rstrip('/').removesuffix('/metrics')}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        page = answer.read().decode()
    counts = re.findall(r"^Requests5XX(?:\{.*\})? ([0-9.eE+-]+)", page, re.MULTILINE)
    return sum(float(count) for count in counts)
