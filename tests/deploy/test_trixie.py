"""`./serve.sh` on a fresh Debian 13, whose Python is 3.13: the pins come up and a mask is answered."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
import requests
from PIL import Image

from humanseg.common.ports import free_ports
from tests.running import MODEL, PORT_NAMES, ROOT

pytestmark = pytest.mark.slow
PACKAGES = "python3,python3-venv,ca-certificates,util-linux"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
INSTALL_SECONDS = 1200  # a gigabyte of wheels, the first time; pip's cache is this machine's own
ENOUGH = 12 << 30  # bytes of free disk: where PyTorch's CPU build can't be reached, PyPI's takes most of it
CPU_INDEX = "https://download.pytorch.org/whl/cpu/torch/"
BUNDLE = Path("etc/ssl/certs/ca-certificates.crt")


def mirror() -> str:
    """The mirror of Debian that this machine uses."""
    sources = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    text = "\n".join(source.read_text() for source in sources if source.is_file())
    match = re.search(r"^(?:URIs:|deb)\s.*?(https?://\S*/debian)/?(?:\s|$)", text, re.MULTILINE)
    return match[1] if match else "http://deb.debian.org/debian"


def reachable(url: str) -> bool:
    """Whether `url` answers at all."""
    try:
        return requests.head(url, timeout=10).status_code < 500
    except requests.RequestException:
        return False


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Debian 13 with nothing but what the README asks for, and the checkout in /srv/humanseg."""
    if shutil.which("mmdebstrap") is None or os.geteuid() != 0:
        pytest.skip("needs mmdebstrap, and root for chroot")
    if not os.environ.get("TRIXIE") and not reachable(CPU_INDEX):
        pytest.skip(f"{CPU_INDEX} can't be reached: PyPI's torch would bring 5 GB; TRIXIE=1 runs it all the same")
    folder = tmp_path_factory.mktemp("trixie")
    if shutil.disk_usage(folder).free < ENOUGH:
        pytest.skip(f"needs {ENOUGH >> 30} GB of free disk")
    target = folder / "root"
    made = subprocess.run(
        ["unshare", "--mount", "mmdebstrap", "--variant=apt", f"--include={PACKAGES}", "trixie", target, mirror()],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"mmdebstrap could not make one: {made.stderr.strip().splitlines()[-1]}")
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True,
        check=True,
    ).stdout.decode().split("\0")  # fmt: skip
    for name in filter(None, files):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "benchmarks/")):
            copy = target / "srv" / "humanseg" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy)
    if (Path("/") / BUNDLE).is_file():  # a proxy's own authority is in it
        shutil.copyfile(Path("/") / BUNDLE, target / BUNDLE)
    shutil.copyfile("/etc/resolv.conf", target / "etc" / "resolv.conf")
    yield target
    shutil.rmtree(folder)


def test_serve_sh_answers_on_debian_13(root: Path, astronaut_jpeg: bytes) -> None:
    cache = Path(os.environ.get("PIP_CACHE_DIR", Path.home() / ".cache" / "pip"))
    cache.mkdir(parents=True, exist_ok=True)
    (root / "root" / ".cache" / "pip").mkdir(parents=True)
    ports = dict(zip(PORT_NAMES, map(str, free_ports(len(PORT_NAMES))), strict=True))
    given = {name: value for name, value in os.environ.items() if name.startswith("PIP_") and name != "PIP_CACHE_DIR"}
    variables = {
        **given,
        **ports,
        "WORKERS": "1",
        "STATE_DIR": "/tmp/state",
        "HOME": "/root",
        "PATH": PATH,
    }
    # Namespaces of their own: the mounts are gone and every process is ended with the first one.
    script = (
        f"mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev && "
        f"mount --bind {cache} {root}/root/.cache/pip && exec chroot {root} /srv/humanseg/serve.sh"
    )
    process = subprocess.Popen(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", script],
        env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    lines: list[str] = []

    def collect() -> None:
        assert process.stdout
        lines.extend(process.stdout)

    reader = threading.Thread(target=collect, daemon=True)
    reader.start()
    try:
        end = time.monotonic() + INSTALL_SECONDS
        while not any(line.startswith("READY ") for line in lines):
            if process.poll() is not None or time.monotonic() > end:
                pytest.fail("the server did not become ready:\n" + "".join(lines[-30:]))
            time.sleep(0.5)
        url = f"http://127.0.0.1:{ports['INFERENCE_PORT']}/predictions/{MODEL}"
        answer = requests.post(url, data=astronaut_jpeg, timeout=60)
        assert answer.status_code == 200
        with Image.open(BytesIO(answer.content)) as picture:
            assert picture.size == (512, 512)
        assert (root / "srv/humanseg/.venv/lib/python3.13").is_dir()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
        reader.join(30)
        assert process.stdout
        process.stdout.close()
