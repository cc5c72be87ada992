"""A Docker daemon: the one that runs, or the tests' own: Debian's containerd and dockerd in a temporary folder.

The own one needs no registry: the base is made from Debian packages with mmdebstrap and imported under the name that
the Dockerfile asks for. Of it nothing is left behind: no process, no mount, no file.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BASE = "humanseg-test-base"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass
class Docker:
    """A daemon at a socket, and the client that goes with it. `own`: it was started here, and knows no image yet."""

    client: str
    host: str
    own: bool = True

    def __call__(self, *arguments: object, timeout: float = 120, check: bool = True) -> str:
        """Run `docker ...`; its standard output. Fails with what it printed."""
        result = subprocess.run(
            [self.client, "-H", self.host, *(str(argument) for argument in arguments)],
            env={**os.environ, "DOCKER_BUILDKIT": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        if check and result.returncode:
            pytest.fail(f"docker {arguments[0]} failed:\n{result.stdout[-6000:]}")
        return result.stdout


def missing() -> str:
    """Why no daemon can be started here, the empty string if one can."""
    if os.geteuid() != 0:
        return "needs root"
    for program in ("containerd", "dockerd", "mmdebstrap", "/usr/bin/docker"):
        if not shutil.which(program):
            return f"{program} is not installed (Debian: docker.io, containerd, mmdebstrap)"
    return ""


@contextlib.contextmanager
def running() -> Iterator[Docker]:
    """A daemon for as long as the block lasts; skips the test, with the reason, where none can run."""
    client = next(filter(shutil.which, ("/usr/bin/docker", "docker")), "")  # a daemon and its own client
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if client and "Server Version" in (existing := Docker(client, host, own=False))("info", check=False):
        yield existing
        return
    if reason := missing():
        pytest.skip(f"no container daemon: {reason}")
    folder = Path(tempfile.mkdtemp(prefix="humanseg-docker-"))
    processes: list[subprocess.Popen[bytes]] = []
    docker = Docker("/usr/bin/docker", f"unix://{folder}/docker.sock")
    try:
        with (folder / "log").open("wb") as log:

            def start(*command: str) -> None:
                processes.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))

            (folder / "config.toml").write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
            start(
                *("containerd", "--config", f"{folder}/config.toml", "--root", f"{folder}/containerd"),
                *("--state", f"{folder}/containerd-state", "--address", f"{folder}/containerd.sock"),
            )
            wait(lambda: (folder / "containerd.sock").exists(), processes)
            start(
                *("dockerd", "--containerd", f"{folder}/containerd.sock", "--data-root", f"{folder}/docker"),
                *("--exec-root", f"{folder}/exec", "-H", docker.host, "--pidfile", f"{folder}/docker.pid"),
                *("--iptables=false", "--ip6tables=false", "--bridge=none", "--ip-forward=false"),
                *("--storage-driver", "overlay2"),
            )
            up = wait(lambda: "Server Version" in docker("info", check=False), processes)
        if not up:
            pytest.skip(f"no container daemon can run here: {last_error(folder / 'log')}")
        yield docker
    finally:
        for container in docker("ps", "-aq", check=False).split() if len(processes) == 2 else []:
            docker("rm", "-f", container, check=False)
        for process in reversed(processes):
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for mount in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            place = mount.split()[1]
            if place.startswith(str(folder)):
                subprocess.run(["umount", "-l", place], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def wait(done: object, processes: list[subprocess.Popen[bytes]], seconds: float = 40) -> bool:
    """Wait until `done()`; False when a process ends, or time is up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and all(process.poll() is None for process in processes):
        if done():  # type: ignore[operator]
            return True
        time.sleep(0.2)
    return False


def last_error(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if re.search("error|failed", line, re.I)]
    return (lines or ["no reason in its log"])[-1][:300]


def import_base(docker: Docker) -> None:
    """Debian's minimal system in place of the Dockerfile's base. With this machine's certificate authorities and
    nothing else of it: pip inside the build has to trust whoever answers for PyPI here."""
    with tempfile.TemporaryDirectory(prefix="humanseg-base-") as scratch:
        archive = Path(scratch) / "base.tar"
        pip = Path(scratch) / "pip.conf"
        # A name of its own: the package ca-certificates writes its own file anew when it is installed.
        pip.write_text("[global]\ncert = /etc/build.crt\n")
        hooks = []
        if CERTIFICATES.exists():
            hooks = [
                f"--customize-hook=cp {CERTIFICATES} $1/etc/build.crt",
                f"--customize-hook=cp {pip} $1/etc/pip.conf",
            ]
        command = ["mmdebstrap", "--variant=minbase", '--aptopt=Acquire::Check-Valid-Until "false"', *hooks]
        command += [
            "--dpkgopt=force-unsafe-io",
            "--dpkgopt=path-exclude=/usr/share/man/*",
            "--dpkgopt=path-exclude=/usr/share/doc/*",
        ]
        command += ["--dpkgopt=path-exclude=/usr/share/locale/*", "bookworm", str(archive)]
        process = subprocess.Popen(command, env={**os.environ, "TMPDIR": scratch}, stderr=subprocess.PIPE, text=True)
        try:
            _, errors = process.communicate(timeout=900)
        except subprocess.TimeoutExpired:
            process.terminate()  # not killed: it takes its mounts away
            _, errors = process.communicate()
        if process.returncode:
            pytest.skip(f"no base image: mmdebstrap: {' / '.join(errors.strip().splitlines()[-3:])}")
        docker("import", archive, BASE, timeout=200)


def build(docker: Docker, tag: str) -> None:
    """Build the Dockerfile from the files that it names, with torch's CPU wheel laid into the context."""
    with tempfile.TemporaryDirectory(prefix="humanseg-context-") as scratch:
        context = Path(scratch)
        for name in ("handler", "humanseg", "config", "locks", "deploy/container"):
            ignore = shutil.ignore_patterns("__pycache__", "*.whl")
            shutil.copytree(ROOT / name, context / name, ignore=ignore)
        weights = "model_store/human_segmentation.safetensors"
        for name in (
            "Dockerfile",
            ".dockerignore",
            "pyproject.toml",
            "scripts/pins.sh",
            "docs/openapi.yaml",
            weights,
        ):
            (context / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(ROOT / name, context / name)
        wheels = context / "deploy" / "container" / "wheels"
        fetch_torch(wheels)
        index = ("--build-arg", "TORCH_INDEX=file:///wheels")
        index += ("--build-arg", f"BASE={BASE}") if docker.own else ()
        docker("build", "--network", "host", "--progress", "plain", *index, "-t", tag, context, timeout=1500)


def fetch_torch(place: Path) -> None:
    """torch's CPU wheel for the image's Python, from wherever this machine's pip finds it."""
    pin = re.search(r'"(torch==[^"]+)"', (ROOT / "pyproject.toml").read_text())
    assert pin
    tags = ("--python-version", "3.11", "--only-binary=:all:", "--no-deps")
    command = [
        ROOT / ".venv/bin/python",
        "-m",
        "pip",
        "download",
        "--quiet",
        *tags,
        "-d",
        place,
        f"{pin[1]}+cpu",
    ]
    if (index := os.environ.get("TORCH_INDEX_URL")) is not None:
        command += ["--extra-index-url", index]
    result = subprocess.run([str(argument) for argument in command], capture_output=True, text=True, timeout=600)
    if result.returncode:
        pytest.skip(f"torch's CPU wheel can't be had here: {(result.stderr.strip() or '?').splitlines()[-1]}")
