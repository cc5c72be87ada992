"""The archive's part of a server: the embedded object store, and the drain of the spool on shutdown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping

from humanseg.archive.ship.weed import find_weed
from humanseg.serve.config import CONFIG
from humanseg.serve.process import die_with_parent
from humanseg.serve.settings import ServeSettings


def start_store(settings: ServeSettings, environment: Mapping[str, str]) -> subprocess.Popen[bytes] | None:
    """Start the embedded S3-compatible store in STATE_DIR/store; None if ARCHIVE_BUCKET is set.

    Also None if it is not installed, as in the container: records then wait in the spool. The start does not wait for
    it: photos go to the spool, and the uploader connects when the store is up.
    """
    if environment.get("ARCHIVE_BUCKET") or find_weed() is None:
        return None
    with (settings.state_dir / "logs" / "store.log").open("ab") as log:
        return subprocess.Popen(
            [
                *(
                    sys.executable,
                    "-m",
                    "humanseg.archive.ship.local_store",
                    "--dir",
                    str(settings.state_dir / "store"),
                ),
                *("--avoid", *map(str, settings.ports.values())),  # TorchServe opens them later
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(environment),
            preexec_fn=die_with_parent,
        )


def drain(settings: ServeSettings, seconds: float) -> None:
    """Ship the spool for at most `seconds`, and report on stderr what is left."""
    from humanseg.archive.capture.hook import open_spool

    spool = open_spool(settings.state_dir)
    if spool.is_empty():
        return
    command = [
        sys.executable,
        "-m",
        "humanseg.archive.ship.command",
        str(CONFIG / "model-config.yaml"),
        f"{seconds:.0f}",
    ]
    try:
        result = subprocess.run(
            command,
            env={**os.environ, "STATE_DIR": str(settings.state_dir)},
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            timeout=seconds + 2,
            check=False,
        )
        finished = result.returncode == 0
    except subprocess.TimeoutExpired:
        finished = False
    segments = spool.backlog().segments
    if not finished or segments:
        message = {"segments_left_in_spool": segments, "spool": str(spool.root)}
        print(
            f"serve: the drain is incomplete; the next start ships the rest: {json.dumps(message)}",
            file=sys.stderr,
        )
