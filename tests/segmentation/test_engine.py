"""The engines agree: what the workers run is the network that was trained."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from humanseg.segmentation.engine import Engine, OpenVinoEngine, make_engine, reference_engine, warm_up
from humanseg.segmentation.frame import to_frame
from humanseg.segmentation.quiet_openvino import core
from humanseg.segmentation.spec import Spec
from humanseg.segmentation.unet import UNet
from humanseg.segmentation.weights import load_weights, save_weights
from humanseg.serve.build_mar import DEFAULT_WEIGHTS
from humanseg.serve.export import write_graph

# float32 differs by rounding alone. bfloat16 keeps 8 bits of each activation: single pixels on an edge may move by
# more, the mean and the mask may not.
FLOAT32_MOST = 1e-3
BFLOAT16_MEAN = 0.01
BFLOAT16_MASK = 0.005  # share of pixels whose side of the threshold changes


@pytest.fixture(scope="module")
def spec() -> Spec:
    return load_weights(DEFAULT_WEIGHTS).spec


@pytest.fixture(scope="module")
def batch(astronaut: np.ndarray, spec: Spec) -> np.ndarray:
    """Four views of the astronaut: whole, face, mirrored, and noise with nobody in it."""
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    views = [astronaut, astronaut[:256, 100:356], np.ascontiguousarray(astronaut[:, ::-1]), noise]
    return np.stack([to_frame(view, spec) for view in views])


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory, spec: Spec) -> Path:
    path = tmp_path_factory.mktemp("graph") / "network.xml"
    write_graph(load_weights(DEFAULT_WEIGHTS).network, spec, path)
    return path


@pytest.fixture(scope="module")
def torch_engine(spec: Spec) -> Engine:
    return reference_engine(load_weights(DEFAULT_WEIGHTS).network, spec, threads=2)


@pytest.fixture(scope="module")
def float32_engine(graph: Path, spec: Spec) -> Engine:
    return OpenVinoEngine(graph, spec, threads=1, precision="float32")


@pytest.fixture(scope="module")
def reference(torch_engine: Engine, batch: np.ndarray) -> np.ndarray:
    return torch_engine(batch)


def test_reference_gives_probabilities(reference: np.ndarray, batch: np.ndarray) -> None:
    assert reference.shape == (4, *batch.shape[-2:])
    assert reference.dtype == np.float32
    assert reference.min() >= 0
    assert reference.max() <= 1
    assert reference.std() > 0.05


def test_openvino_in_float32_agrees_with_torch(
    float32_engine: Engine, batch: np.ndarray, reference: np.ndarray
) -> None:
    assert np.abs(float32_engine(batch) - reference).max() < FLOAT32_MOST


def test_openvino_in_bfloat16_agrees_with_torch(graph: Path, batch: np.ndarray, reference: np.ndarray) -> None:
    if "BF16" not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has no bfloat16")
    answer = OpenVinoEngine(graph, load_weights(DEFAULT_WEIGHTS).spec, threads=1, precision="bfloat16")(batch)
    assert np.abs(answer - reference).mean() < BFLOAT16_MEAN
    assert ((answer > 0.5) != (reference > 0.5)).mean() < BFLOAT16_MASK


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_torch_on_cuda_agrees_with_torch_on_the_cpu(batch: np.ndarray, reference: np.ndarray) -> None:
    answer = make_engine(
        "torch",
        graph=DEFAULT_WEIGHTS,
        source=DEFAULT_WEIGHTS,
        spec=load_weights(DEFAULT_WEIGHTS).spec,
        threads=1,
        precision="auto",
        gpu=0,
    )(batch)
    assert np.abs(answer - reference).mean() < BFLOAT16_MEAN
    assert ((answer > 0.5) != (reference > 0.5)).mean() < BFLOAT16_MASK


def test_answers_do_not_depend_on_the_batch(graph: Path, batch: np.ndarray) -> None:
    engine = OpenVinoEngine(graph, load_weights(DEFAULT_WEIGHTS).spec, threads=1, precision="auto")
    together = engine(batch)
    for index in (3, 0, 2, 1):
        assert np.array_equal(engine(batch[index : index + 1])[0], together[index])


@pytest.mark.parametrize(("height", "width"), [(3, 4), (2, 3), (16, 9), (1, 1), (1, 100)])
def test_a_frame_of_any_shape_gets_the_answer_that_torch_gives(
    float32_engine: Engine, torch_engine: Engine, astronaut: np.ndarray, spec: Spec, height: int, width: int
) -> None:
    photo = astronaut[: max(1, 512 * height // max(height, width)), : 512 * width // max(height, width)]
    frame = to_frame(photo, spec)[None]
    answer = float32_engine(frame)
    assert answer.shape == (1, *frame.shape[2:])
    assert np.abs(answer - torch_engine(frame)).max() < FLOAT32_MOST


def test_auto_takes_openvino_without_a_gpu(graph: Path, spec: Spec) -> None:
    engine = make_engine(
        "auto",
        graph=graph,
        source=DEFAULT_WEIGHTS,
        spec=load_weights(DEFAULT_WEIGHTS).spec,
        threads=1,
        precision="auto",
    )
    assert engine.name.startswith("openvino")
    warm_up(engine, spec)


def test_the_classic_network_runs_on_both_engines(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "classic.safetensors"
    save_weights(weights, UNet((4, 8)).eval(), input_size=64, threshold=0.5)
    spec = load_weights(weights).spec
    write_graph(load_weights(weights).network, spec, tmp_path / "network.xml")
    openvino_engine = OpenVinoEngine(tmp_path / "network.xml", spec, threads=1, precision="float32")
    torch_engine = reference_engine(load_weights(weights).network, spec, threads=1)
    for shape in ((2, 3, 64, 64), (1, 3, 32, 64), (1, 3, 64, 32)):
        frames = np.random.default_rng(1).random(shape, dtype=np.float32)
        assert np.abs(openvino_engine(frames) - torch_engine(frames)).max() < FLOAT32_MOST


@pytest.mark.slow
def test_openvino_tells_nobody_that_it_runs(tmp_path: Path, graph: Path) -> None:
    """Its telemetry leaves a client's number in the home folder and a thread that sends; here neither is there."""
    code = f"""
import sys, threading
from pathlib import Path
from humanseg.segmentation.engine import OpenVinoEngine
from humanseg.segmentation.spec import Spec
from humanseg.segmentation.spec import Spec
from humanseg.segmentation.unet import UNet
from humanseg.serve.export import write_graph
OpenVinoEngine(Path({str(graph)!r}), Spec(), threads=1, precision="float32")
write_graph(UNet((4, 8)).eval(), Spec((64, 64)), Path({str(tmp_path)!r}) / "graph.xml")
assert [thread.name for thread in threading.enumerate()] == ["MainThread"], threading.enumerate()
assert sys.modules["openvino_telemetry"] is None
"""
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | {"HOME": str(home)}
    root = Path(__file__).resolve().parent.parent.parent
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=root, check=True, timeout=120)
    assert not list(home.iterdir())


@pytest.mark.slow
def test_engines_that_come_and_go_leave_signals_alone(graph: Path) -> None:
    """Each Core of its own put a freed signal stack back when it went: the next SIGCHLD was a segmentation fault."""
    code = f"""
import faulthandler, signal, subprocess
from collections import deque
from pathlib import Path
from humanseg.segmentation.engine import OpenVinoEngine
from humanseg.segmentation.spec import Spec
faulthandler.enable()
signal.signal(signal.SIGCHLD, lambda number, frame: None)
engines = deque(maxlen=2)
for _ in range(4):
    engines.append(OpenVinoEngine(Path({str(graph)!r}), Spec((384, 384)), threads=1, precision="float32"))
while engines:
    engines.popleft()
subprocess.run(["true"], check=True)
print("alive")
"""
    command, root = [sys.executable, "-c", code], Path(__file__).resolve().parents[2]
    result = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False, timeout=120)
    assert (result.returncode, result.stdout.strip()) == (0, "alive"), result.stderr[-500:]
