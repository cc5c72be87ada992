"""A network that nobody here wrote, served: every output, in batches, released, named by status, measured.

It is MediaPipe's selfie segmentation (Apache-2.0), as TensorFlow Lite out of its npm package.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from humanseg.segmentation import Segmenter
from humanseg.serve.golden import read_golden
from tests.running import MODEL, ROOT, Server, start_server
from tests.segmentation.mediapipe import mediapipe_folder

pytestmark = pytest.mark.slow
DATA = ROOT.parent / "shared" / "data" / "portraits_dev"
BUILT = ROOT / "model_store" / f"{MODEL}.mar"


def build(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / "build_mar.sh"), *arguments], capture_output=True, text=True, check=False, timeout=300, cwd=cwd
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .tflite, its spec and its .mar, version 2.0."""
    folder = tmp_path_factory.mktemp("foreign")
    shutil.copyfile(mediapipe_folder(folder) / "selfie_segmentation.tflite", folder / "selfie.tflite")
    result = build("--weights", "selfie.tflite", "--version", "2.0", "--output", ".", cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def foreign(folder: Path) -> Iterator[Server]:
    """A server that started with the foreign network: one worker that waits for batches of four."""
    server = start_server(folder / "state", MODEL_MAR=str(folder / f"{MODEL}.mar"))
    yield server
    server.stop()


def test_every_output_comes_from_the_foreign_network(foreign: Server, folder: Path, astronaut_jpeg: bytes) -> None:
    expected = Segmenter.load(folder / "selfie.tflite")(astronaut_jpeg)
    for output in ("mask", "probability", "cutout", "overlay", "composite"):
        answer = requests.post(foreign.predictions, data=astronaut_jpeg, headers={"x-output": output}, timeout=60)
        assert answer.status_code == 200
        assert Image.open(BytesIO(answer.content)).size == (512, 512)
        if output == "mask":
            ours = np.array(Image.open(BytesIO(answer.content))) > 0
            assert (ours != (np.array(expected.mask()) > 0)).mean() < 0.005  # bfloat16 against float32
    facts = requests.post(foreign.predictions, data=astronaut_jpeg, headers={"x-output": "json"}, timeout=60).json()
    assert 0.4 < facts["coverage"] < 0.7
    assert facts["model"]["version"] == "2.0"
    best = requests.post(foreign.predictions, data=astronaut_jpeg, headers={"x-quality": "best"}, timeout=60)
    assert best.status_code == 200


def test_the_foreign_network_answers_a_batch_as_it_answers_one(foreign: Server, astronaut: np.ndarray) -> None:
    requests.post(
        f"{foreign.management_url}/models",
        params={"url": f"{MODEL}.mar", "model_name": "batched", "batch_size": 4, "max_batch_delay": 300,
                "initial_workers": 1, "synchronous": "true"},
        timeout=120,
    ).raise_for_status()  # fmt: skip
    photos = []
    for size in ((512, 512), (300, 200), (90, 400), (200, 300)):
        file = BytesIO()
        Image.fromarray(astronaut).resize(size).save(file, "PNG")
        photos.append(file.getvalue())

    def ask(photo: bytes, url: str) -> bytes:
        return requests.post(url, data=photo, timeout=60).content

    with ThreadPoolExecutor(4) as pool:
        batched = list(pool.map(lambda photo: ask(photo, f"{foreign.url}/predictions/batched"), photos))
    assert batched == [ask(photo, foreign.predictions) for photo in photos]


def test_status_says_which_network_runs(foreign: Server) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "humanseg.cli.main", "status", "--json", "--management-url", foreign.management_url],
        capture_output=True, text=True, check=True, cwd=ROOT, timeout=60,
    )  # fmt: skip
    network = next(row for row in json.loads(result.stdout) if row["name"] == MODEL)["network"]
    assert (network["architecture"], network["input_size"], network["layout"]) == ("tflite", "256x256", "NHWC")


@pytest.mark.skipif(not DATA.is_dir(), reason="the photographs of ../shared/data are not on this machine")
def test_served_it_is_as_good_as_its_makers_code_is(foreign: Server) -> None:
    """0.870 is what MediaPipe's graph in LiteRT reaches on the same portraits (model card)."""
    scores = []
    for path in sorted((DATA / "img").iterdir()):
        answer = requests.post(foreign.predictions, data=path.read_bytes(), headers={"x-archive": "no"}, timeout=60)
        predicted = np.array(Image.open(BytesIO(answer.content))) > 127
        with Image.open(DATA / "mask" / f"{path.stem}.png") as mask:
            true = np.array(mask.convert("L")) > 127
        scores.append((predicted & true).sum() / (predicted | true).sum())
    assert len(scores) == 145
    print(f"mean IoU {np.mean(scores):.4f}")
    assert 0.865 < np.mean(scores) < 0.876


def test_it_is_released_from_and_to_like_any_other(foreign: Server, folder: Path) -> None:
    assert len(read_golden(folder / f"{MODEL}.mar")) == 2
    addresses = f"{foreign.url},{foreign.management_url},{foreign.metrics_url.removesuffix('/metrics')}"
    for mar, version in ((BUILT, "1.0"), (folder / f"{MODEL}.mar", "2.0")):
        result = subprocess.run(
            [sys.executable, "-m", "humanseg.cli.main", "release", "--mar", str(mar), "--server", addresses,
             "--state-dir", str(foreign.state_dir), "--drain", "1", "--watch", "1"],
            capture_output=True, text=True, check=False, cwd=ROOT, timeout=240,
        )  # fmt: skip
        assert result.returncode == 0, result.stdout + result.stderr
        described = requests.get(f"{foreign.management_url}/models/{MODEL}", timeout=30).json()
        assert described[0]["modelVersion"] == version


def test_what_was_said_once_need_not_be_said_again_and_the_same_inputs_give_the_same_bytes(folder: Path) -> None:
    result = build("--weights", "selfie.tflite", "--version", "2.0", "--output", "again", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "is assumed" not in result.stdout
    assert (folder / "again" / f"{MODEL}.mar").read_bytes() == (folder / f"{MODEL}.mar").read_bytes()


def test_training_does_not_go_on_from_it(folder: Path) -> None:
    from humanseg.segmentation.errors import WeightsError
    from humanseg.training.loop import start_network

    with pytest.raises(WeightsError, match="is a TensorFlow Lite graph, which can be served but not trained"):
        start_network(str(folder / "selfie.tflite"))


def test_a_preview_is_a_picture_and_nothing_is_built(folder: Path) -> None:
    photo = ROOT / "tests" / "photos" / "astronaut.jpg"
    before = sorted(folder.glob("*.mar"))
    result = build("--weights", "selfie.tflite", "--preview", str(photo), cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert "Warning: " not in result.stdout
    with Image.open(folder / "astronaut.preview.png") as picture:
        assert picture.size == (1024, 512)
    assert sorted(folder.glob("*.mar")) == before
    wrong = build("--weights", "selfie.tflite", "--preview", str(photo), "--background-channel", "0", cwd=folder)
    assert "Warning: the photo's border is person and its centre is not" in wrong.stdout
    scaled = build(
        *("--weights", "selfie.tflite", "--preview", str(photo), "--output-activation", "sigmoid"), cwd=folder
    )
    assert "like a probability: try --output-activation none" in scaled.stdout
    # What was said is kept: the file beside the graph is changed back by hand, or by saying it again.
    assert "output_activation: sigmoid" in (folder / "selfie.tflite.yaml").read_text()
