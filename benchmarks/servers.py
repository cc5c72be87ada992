"""The servers under test: how to start each, how to post a photo, and how to verify its response."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import numpy as np
import requests
from PIL import Image

from benchmarks.load import Target
from humanseg.common.allocation import ENVIRONMENT as ALLOCATION
from humanseg.common.ports import free_ports
from humanseg.common.processes import end_with_parent

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
DATA = HERE / ".data"
CORES = len(os.sched_getaffinity(0))
START_SECONDS = 300


@dataclass(frozen=True)
class Spec:
    """One server. kind: "ours", "peer" or "product". command, environment: {port} stands for its port.

    form: how a photo is posted, "raw", "multipart" (in `part`) or "base64" (JSON, in `field`).
    outputs: for each kind of output that it can give, the headers to send (raw, base64) or further form fields.
    restless: it uses CPU while idle (LitServe's loops poll), so it is stopped between its turns.
    """

    name: str
    kind: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    path: str
    form: str = "raw"
    part: str = ""
    outputs: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: {"mask": {}})
    restless: bool = False


@dataclass
class Running:
    """A started server. start_seconds: until its first correct response."""

    spec: Spec
    process: subprocess.Popen[bytes]
    port: int
    state: Path
    start_seconds: float = 0.0
    targets: dict[tuple[str, str], Target] = field(default_factory=dict)

    def target(self, photo: Path, output: str) -> Target:
        """Where and how to post `photo` for `output`; the body's file is written at the first call."""
        key = (photo.name, output)
        if key not in self.targets:
            more = self.spec.outputs[output]
            body, content_type = body_of(self.spec, photo.read_bytes(), more)
            path = self.state / f"{photo.stem}-{output}.body"
            path.write_bytes(body)
            headers = {"content-type": content_type, **({} if self.spec.form == "multipart" else more)}
            url = f"http://127.0.0.1:{self.port}{self.spec.path}"
            self.targets[key] = Target(url, path, tuple(headers.items()))
        return self.targets[key]

    def halt(self) -> None:
        """Let a restless server sleep until `go_on`."""
        if self.spec.restless:
            os.killpg(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Undo `halt`."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        """SIGTERM to the whole group, SIGKILL after a while."""
        self.go_on()
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(30 if self.spec.kind == "ours" else 5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def body_of(spec: Spec, photo: bytes, fields: Mapping[str, str]) -> tuple[bytes, str]:
    """The posted bytes and their content type; `fields` go into a multipart form beside the photo."""
    if spec.form == "raw":
        return photo, "image/jpeg"
    if spec.form == "base64":
        return json.dumps({spec.part: base64.b64encode(photo).decode()}).encode(), "application/json"
    line = "humanseg-benchmark-boundary"
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{text}'.encode() for name, text in fields.items()]
    about = f'Content-Disposition: form-data; name="{spec.part}"; filename="photo.jpg"\r\nContent-Type: image/jpeg'
    parts.append(about.encode() + b"\r\n\r\n" + photo)
    body = b"".join(f"--{line}\r\n".encode() + part + b"\r\n" for part in parts) + f"--{line}--\r\n".encode()
    return body, f"multipart/form-data; boundary={line}"


def start(spec: Spec, state: Path, probe: Path) -> Running:
    """Start a server and return once it answers `probe` with a mask."""
    state.mkdir(parents=True, exist_ok=True)
    ports = free_ports(5)
    names = {
        "port": str(ports[0]),
        "state": str(state),
        **{f"port{index}": str(port) for index, port in enumerate(ports)},
    }
    environment = {**os.environ, **{key: value.format(**names) for key, value in spec.environment.items()}}
    with (state / "output.log").open("wb") as log:
        began = time.monotonic()
        process = subprocess.Popen(
            [word.format(**names) for word in spec.command],
            cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            preexec_fn=end_with_parent,  # a benchmark that is killed leaves no server behind
        )  # fmt: skip
    running = Running(spec, process, ports[0], state)
    try:
        while ask(running, probe) is None:
            if process.poll() is not None or time.monotonic() - began > START_SECONDS:
                tail = (state / "output.log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{spec.name} did not start:\n{tail}")
            time.sleep(0.1)
        running.start_seconds = time.monotonic() - began
    except BaseException:
        running.stop()
        raise
    return running


def ask(running: Running, photo: Path, output: str = "mask") -> bytes | None:
    """One photo's response, or None."""
    target = running.target(photo, output)
    try:
        answer = requests.post(target.url, data=target.body.read_bytes(), headers=dict(target.headers), timeout=30)
    except requests.RequestException:
        return None
    return answer.content if answer.status_code == 200 else None


def mask_in(picture: bytes) -> np.ndarray:
    """bool [H, W] from a mask, or from the alpha of a cutout."""
    image = Image.open(BytesIO(picture))
    grey = image.getchannel("A") if image.mode == "RGBA" else image.convert("L")
    return np.asarray(grey) > 127


def agreement(picture: bytes, reference: bytes) -> float:
    """Intersection over union of two masks, 1 where both are empty."""
    found, wanted = mask_in(picture), mask_in(reference)
    union = np.logical_or(found, wanted).sum()
    return float(np.logical_and(found, wanted).sum() / union) if union else 1.0


def with_archive_off(mar: Path, target: Path) -> Path:
    """A copy of `mar` whose model-config.yaml says `archive: mode: off`."""
    with zipfile.ZipFile(mar) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for entry in old.namelist():
            data = old.read(entry)
            if entry.endswith("model-config.yaml"):
                text = data.decode()
                assert "mode: opt-out" in text, "model-config.yaml does not say mode: opt-out"
                data = text.replace("mode: opt-out", 'mode: "off"').encode()
            new.writestr(entry, data)
    return target


def ours(name: str, mar: Path) -> Spec:
    """./serve.sh with its own ports and STATE_DIR."""
    ports = ("INFERENCE", "MANAGEMENT", "METRICS", "GRPC_INFERENCE", "GRPC_MANAGEMENT")
    return Spec(
        name,
        "ours",
        (str(ROOT / "serve.sh"),),
        {f"{each}_PORT": f"{{port{index}}}" for index, each in enumerate(ports)}
        | {"STATE_DIR": "{state}/served", "MODEL_MAR": str(mar), "WORKERS": str(CORES)},
        "/predictions/human_segmentation",
        outputs={each: {"x-output": each} for each in ("mask", "cutout", "json")},
    )


def peers(model: Path) -> Sequence[Spec]:
    """The four peers, each with both stacks."""
    python = sys.executable
    specs = []
    for stack in ("torch", "ours"):
        environment = {
            "BENCH_MODEL": str(model), "BENCH_STACK": stack, "BENCH_WORKERS": str(CORES), "BENCH_THREADS": "1",
            "BENCH_PORT": "{port}", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1",
            **ALLOCATION, "BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": "{state}",
            "PROMETHEUS_MULTIPROC_DIR": "{state}",
        }  # fmt: skip
        app = "benchmarks.peers."
        bento = str(Path(python).with_name("bentoml"))
        specs += [
            Spec(f"LitServe, {stack}", "peer", (python, "-m", f"{app}litserve_app"), environment, "/predict",
                 "base64", "image_data", restless=True),
            Spec(f"BentoML, {stack}", "peer",
                 (bento, "serve", f"{app}bentoml_app:Segmentation", "--host", "127.0.0.1", "--port", "{port}"),
                 environment, "/predict", "multipart", "image"),
            Spec(f"mosec, {stack}", "peer",
                 (python, "-m", f"{app}mosec_app", "--address", "127.0.0.1", "--port", "{port}", "--timeout", "60000",
                  "--max-request-size", "64000000", "--log-level", "warning"),
                 environment, "/inference"),
            Spec(f"FastAPI, {stack}", "peer", (python, "-m", f"{app}fastapi_app"), environment, "/predict"),
        ]  # fmt: skip
    return specs


def rembg(onnx: Path) -> Spec:
    """rembg's own server with our network as its custom model; ONNX Runtime with one thread for each core."""
    extras = quote(json.dumps({"model_path": str(onnx)}))  # of a POST too, rembg reads these from the query
    fields = {"model": "u2net_custom"}
    return Spec(
        "rembg",
        "product",
        (str(HERE / ".venv" / "rembg" / "bin" / "rembg"), "s", "--host", "127.0.0.1", "--port", "{port}",
         "--log_level", "warning", "--no-ui"),
        {"REMBG_HOME": str(onnx.parent), "NUMBA_CACHE_DIR": str(DATA / "numba")},
        f"/api/remove?extras={extras}",
        "multipart",
        "file",
        {"mask": {**fields, "om": "true"}, "cutout": fields},
    )  # fmt: skip
