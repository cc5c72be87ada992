"""Graphs of every format: what they tell, what must be said, and answers as their own frameworks give them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from humanseg.segmentation.engine import OnnxRuntimeEngine, OpenVinoEngine, TorchEngine, load_network
from humanseg.segmentation.errors import WeightsError
from humanseg.segmentation.frame import to_frame, to_input
from humanseg.segmentation.graph import Graph, graph_kind, load_graph
from humanseg.segmentation.models import load_model, reference
from humanseg.segmentation.quiet_openvino import openvino
from humanseg.segmentation.spec import Spec, write_spec_file
from humanseg.segmentation.weights import load_weights
from tests.segmentation.mediapipe import mediapipe_folder
from tests.segmentation.networks import CopiedUNet, used
from tests.segmentation.smp import import_smp

SIZE = 64
SAME = 2e-4  # of a probability: two frameworks' float32, which differ by rounding alone


@pytest.fixture(scope="module")
def network() -> CopiedUNet:
    torch.manual_seed(5)
    return used(CopiedUNet(2, bilinear=True, width=4))


def export_onnx(network: nn.Module, path: Path, size: int = SIZE, **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (torch.zeros(1, 3, size, size),), str(path), dynamo=False, **options)
    return path


DYNAMIC = {"input_names": ["photo"], "output_names": ["mask"], "dynamic_axes": {"photo": {2: "h", 3: "w"}}}


def export_torch(network: nn.Module, path: Path, size: int = SIZE) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(network, (torch.zeros(1, 3, size, size),)), str(path))
    return path


def script(network: nn.Module, path: Path, size: int = SIZE, *, traced: bool = True) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.jit.trace(network, torch.zeros(1, 3, size, size)) if traced else torch.jit.script(network)
        made.save(str(path))
    return path


def frames(spec: Spec, count: int = 1) -> np.ndarray:
    width, height = spec.input_size
    return np.random.default_rng(3).random((count, 3, height, width), np.float32)


def by_torch(network: nn.Module, batch: np.ndarray) -> np.ndarray:
    """The probability of channel 1, as whoever trained the network computes it."""
    with torch.inference_mode():
        answer: np.ndarray = network(torch.from_numpy(batch)).softmax(1)[:, 1].numpy()
    return answer


SLOW = pytest.mark.slow


class Scripted(nn.Module):
    """With what tracing has not: a branch, a loop, and a function of PyTorch's with branches of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 2, 3, 1, 1)
        self.deep = True

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if self.deep:
            for _ in range(2):
                x = nn.functional.relu(x) + 0.1
        return nn.functional.interpolate(self.second(x), scale_factor=2.0, mode="bilinear", align_corners=False)


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is:DeprecationWarning")
@pytest.mark.parametrize(
    "kind",
    ["onnx", "xml", *(pytest.param(kind, marks=SLOW) for kind in ("dynamic onnx", "pt2", "traced", "scripted"))],
)
def test_a_graph_of_every_format_answers_as_torch_does(tmp_path: Path, network: CopiedUNet, kind: str) -> None:
    options = {} if kind in ("onnx", "pt2") else {"input_size": f"{SIZE}x{SIZE}"}
    if kind == "onnx":
        path = export_onnx(network, tmp_path / "a.onnx")
    elif kind == "dynamic onnx":
        path = export_onnx(network, tmp_path / "a.onnx", **DYNAMIC)
    elif kind == "pt2":
        path = export_torch(network, tmp_path / "a.pt2")
    elif kind == "xml":
        path = tmp_path / "a.xml"
        openvino.save_model(load_graph(export_onnx(network, tmp_path / "a.onnx")).model, path, compress_to_fp16=False)
    elif kind == "traced":
        path = script(network, tmp_path / "a.pt")
    else:
        path = script(Scripted().eval(), tmp_path / "a.pt", traced=False)
    graph = load_graph(path, options)
    assert graph.spec.input_size == (SIZE, SIZE)
    assert (graph.spec.output_activation, graph.spec.person_channel) == ("softmax", 1)
    batch = frames(graph.spec, 2)
    original = torch.jit.load(str(path)) if kind == "scripted" else network
    assert np.abs(reference(graph)(batch) - by_torch(original, batch)).max() < SAME


def test_a_graph_of_any_size_takes_a_photo_of_any_shape(tmp_path: Path, network: CopiedUNet) -> None:
    path = export_onnx(network, tmp_path / "a.onnx", **DYNAMIC)
    graph = load_graph(path, {"input_size": "96"})
    assert graph.spec.resize == "fit"
    engine = reference(graph)
    for shape in ((3, 96, 64), (3, 32, 96), (3, 96, 96)):
        batch = np.random.default_rng(0).random((1, *shape), np.float32)
        assert np.abs(engine(batch) - by_torch(network, batch)).max() < SAME


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.pt", "a.pt2", "a.onnx"])
def test_what_a_gpu_would_run_answers_as_the_cpu_s_graph(tmp_path: Path, network: CopiedUNet, name: str) -> None:
    """The engines that a worker with a GPU starts, here on the CPU."""
    spec = Spec((SIZE, SIZE), "stretch", output_activation="softmax", person_channel=1)
    if name == "a.onnx":
        pytest.importorskip("onnxruntime")
        path = export_onnx(network, tmp_path / name)
        engine: Any = OnnxRuntimeEngine(path, spec, device="cpu", threads=1)
    else:
        path = export_torch(network, tmp_path / name) if name == "a.pt2" else script(network, tmp_path / name)
        if name == "a.pt":
            path = path.rename(tmp_path / "network.torchscript")
        loaded, batches = load_network(path)
        assert batches == (name == "a.pt")
        engine = TorchEngine(loaded, spec, device="cpu", threads=1, precision="float32", batches=batches)
    batch = frames(spec, 3)
    assert np.abs(engine(batch) - by_torch(network, batch)).max() < SAME


class Head(nn.Module):
    """A small network with an output of one's choice."""

    def __init__(self, channels: int, last: nn.Module | None = None, *, many: bool = False) -> None:
        super().__init__()
        self.conv, self.last, self.many = nn.Conv2d(3, channels, 3, padding=1), last or nn.Identity(), many

    def forward(self, x: Tensor) -> Any:
        out = self.last(self.conv(x))
        return (out, out * 0.5) if self.many else out


@pytest.mark.parametrize(
    ("head", "activation", "person"),
    [
        (Head(1), "sigmoid", 0),
        (Head(1, nn.Sigmoid()), "none", 0),
        (Head(2), "softmax", 1),
        (Head(2, nn.Softmax(1)), "none", 1),
        (Head(1, nn.Sequential(nn.Sigmoid(), nn.Upsample(scale_factor=2.0))), "none", 0),
    ],
)
def test_what_comes_out_is_told_from_the_last_operation(
    tmp_path: Path, head: nn.Module, activation: str, person: int
) -> None:
    spec = load_graph(export_onnx(head.eval(), tmp_path / "a.onnx")).spec
    assert (spec.output_activation, spec.person_channel) == (activation, person)
    assert spec.resize == "stretch"


def test_of_many_channels_the_person_s_must_be_said(tmp_path: Path) -> None:
    torch.manual_seed(0)
    head = Head(21).eval()
    path = export_onnx(head, tmp_path / "a.onnx")
    with pytest.raises(WeightsError, match=r"has 21 output channels: specify the person's \(--person-channel 15\)"):
        load_graph(path)
    with pytest.raises(WeightsError, match="person_channel is 21; the network has 21"):
        load_graph(path, {"person_channel": "21"})
    batch = frames(Spec((SIZE, SIZE)))
    with torch.inference_mode():
        truth = head(torch.from_numpy(batch)).softmax(1).numpy()
    person = reference(load_graph(path, {"person_channel": "15"}))(batch)
    assert np.abs(person - truth[:, 15]).max() < SAME
    anybody = reference(load_graph(path, {"background_channel": "0"}))(batch)
    assert np.abs(anybody - (1 - truth[:, 0])).max() < SAME


def test_one_of_several_outputs_is_taken_and_another_can_be_named(tmp_path: Path) -> None:
    torch.manual_seed(0)
    head = Head(1, many=True).eval()
    path = export_onnx(head, tmp_path / "a.onnx", output_names=["fused", "side"])
    graph = load_graph(path)
    assert any("it has the outputs fused, side: fused is used" in note for note in graph.notes)
    batch = frames(graph.spec)
    with torch.inference_mode():
        first, second = head(torch.from_numpy(batch))
    assert np.abs(reference(graph).output(batch) - first.numpy()).max() < SAME
    for name in ("side", "1"):
        assert np.abs(reference(load_graph(path, {"output_name": name})).output(batch) - second.numpy()).max() < SAME
    with pytest.raises(WeightsError, match="output_name is 'depth'; the graph has fused, side"):
        load_graph(path, {"output_name": "depth"})


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (nn.Conv2d(1, 1, 3), r"without 3 channels"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), "not a map of pixels"),
    ],
)
def test_what_is_no_segmentation_of_photos_is_refused(tmp_path: Path, network: nn.Module, words: str) -> None:
    channels = next(network.parameters()).shape[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (torch.zeros(1, channels, SIZE, SIZE),), str(tmp_path / "a.onnx"), dynamo=False)
    with pytest.raises(WeightsError, match=words):
        load_graph(tmp_path / "a.onnx")


class Labels(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.argmax(1, keepdim=True)


def test_labels_instead_of_scores_are_refused(tmp_path: Path) -> None:
    path = export_onnx(nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), Labels()), tmp_path / "a.onnx")
    with pytest.raises(WeightsError, match=r"has integer output \(i64\), .* export it without its argmax"):
        load_graph(path)


def test_the_size_of_a_graph_that_takes_any_must_be_said(tmp_path: Path, network: CopiedUNet) -> None:
    path = export_onnx(network, tmp_path / "a.onnx", **DYNAMIC)
    with pytest.raises(WeightsError, match="accepts any size: specify the training size with --input-size"):
        load_graph(path)


def test_the_file_beside_a_graph_says_what_it_does_not_and_options_overrule_it(
    tmp_path: Path, network: CopiedUNet
) -> None:
    path = export_onnx(network, tmp_path / "a.onnx", **DYNAMIC)
    write_spec_file(tmp_path / "a.onnx.yaml", Spec((SIZE, SIZE), "pad", mean=(0.5, 0.5, 0.5), threshold=0.3))
    graph = load_graph(path, {"threshold": 0.7})
    assert graph.spec == Spec((SIZE, SIZE), "pad", mean=(0.5, 0.5, 0.5), threshold=0.7)
    assert graph.notes == ()


@pytest.mark.parametrize("name", ["a.onnx", "a.pt2", "a.tflite", "a.xml"])
def test_a_damaged_graph_is_one_line_that_names_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"these are no weights")
    with pytest.raises(WeightsError) as error:
        load_graph(tmp_path / name)
    assert str(error.value).startswith(f"{tmp_path / name}: not readable as ")
    assert "\n" not in str(error.value)
    with pytest.raises(WeightsError, match="no such file"):
        load_graph(tmp_path / f"other{name}")


def test_code_in_a_torch_export_file_is_not_run(tmp_path: Path) -> None:
    """torch.export unpickles example inputs without limits where they hold more than tensors."""
    import io
    import zipfile

    flag = tmp_path / "was-run"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (str(flag),))

    path = export_torch(Head(1).eval(), tmp_path / "good.pt2")
    evil = io.BytesIO()
    torch.save(Trap(), evil)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "evil.pt2", "w") as new:
        for entry in old.namelist():
            new.writestr(entry, evil.getvalue() if "sample_inputs" in entry else old.read(entry))
    with pytest.raises(WeightsError, match="not readable as a torch.export graph"):
        load_graph(tmp_path / "evil.pt2")
    assert not flag.exists()


def test_a_checkpoint_is_no_graph_and_a_graph_no_checkpoint(tmp_path: Path, network: CopiedUNet) -> None:
    torch.save(network.state_dict(), tmp_path / "a.pt")
    assert graph_kind(tmp_path / "a.pt") is None
    assert load_model(tmp_path / "a.pt").architecture == "inc_unet"
    path = script(network, tmp_path / "b.pt")
    assert graph_kind(path) == "torchscript"
    assert isinstance(load_model(path, {"input_size": "64"}), Graph)
    with pytest.raises(WeightsError, match="is a TorchScript graph, which can be served but not trained"):
        load_weights(path)


# Networks that nobody here wrote, each against its own framework on the same photo.


@pytest.fixture(scope="module")
def mediapipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mediapipe_folder(tmp_path_factory.mktemp("mediapipe"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["selfie_segmentation", "selfie_segmentation_landscape"])
def test_mediapipe_s_selfie_segmentation_answers_as_litert_does(
    mediapipe: Path, astronaut: np.ndarray, name: str
) -> None:
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    path = mediapipe / f"{name}.tflite"
    graph = load_graph(path)
    assert graph.spec.layout == graph.spec.output_layout == "NHWC"
    assert graph.spec.output_activation == "none"
    batch = to_frame(astronaut, graph.spec)[None]
    interpreter = litert.Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], to_input(batch, graph.spec))
    interpreter.invoke()
    theirs = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[..., 0]
    ours = reference(graph)(batch)
    assert 0.3 < (theirs > 0.5).mean() < 0.7  # it does find the astronaut
    assert np.abs(ours - theirs).max() < SAME


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
def test_smp_s_unet_as_a_graph_answers_as_its_own_framework_does(
    tmp_path: Path, astronaut: np.ndarray, suffix: str
) -> None:
    smp = import_smp()
    torch.manual_seed(4)
    network = used(smp.Unet("mobilenet_v2", encoder_weights=None, classes=1))
    path = tmp_path / f"smp.{suffix}"
    (export_onnx if suffix == "onnx" else export_torch)(network, path, 96)
    imagenet = {"mean": "0.485,0.456,0.406", "std": "0.229,0.224,0.225"}
    graph = load_graph(path, imagenet)
    batch = to_frame(astronaut, graph.spec)[None]
    mean, std = (
        torch.tensor([float(number) for number in imagenet[key].split(",")])[:, None, None] for key in imagenet
    )
    photo = (torch.from_numpy(batch) - mean) / std
    if suffix == "onnx":
        onnxruntime = pytest.importorskip("onnxruntime")
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        logits = session.run(None, {session.get_inputs()[0].name: photo.numpy()})[0]
    else:
        with torch.inference_mode():
            logits = torch.export.load(str(path)).module()(photo).numpy()
    theirs = 1 / (1 + np.exp(-logits[:, 0]))
    assert np.abs(reference(graph)(batch) - theirs).max() < SAME
    in_bfloat16 = OpenVinoEngine(graph.model, graph.spec, threads=1, precision="auto")(batch)
    assert np.abs(in_bfloat16 - theirs).mean() < 0.02
