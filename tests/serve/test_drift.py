"""A network that bfloat16 changes is told before a release is refused for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from humanseg.segmentation.quiet_openvino import core
from humanseg.segmentation.unet import UNet
from humanseg.segmentation.weights import load_weights, save_weights
from humanseg.serve import model as models
from humanseg.serve.golden import NAME, TOLERANCE, drift


def test_what_bfloat16_changes_is_measured_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "BF16" not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has no bfloat16")
    torch.manual_seed(0)
    path = tmp_path / "small.safetensors"
    save_weights(path, UNet((4, 8)).eval(), input_size=64, threshold=0.5)
    weights, folder = load_weights(path), tmp_path / "model"
    folder.mkdir()
    assert models.write_model(weights, path, folder) == []
    assert drift(folder / "network.xml", weights.spec, folder) < TOLERANCE

    record = models.write_golden

    def recorded_otherwise(*arguments: object) -> None:
        record(*arguments)  # type: ignore[arg-type]
        golden = json.loads((folder / NAME).read_text())
        golden[0]["cells"] = [[abs(cell - 0.3) for cell in row] for row in golden[0]["cells"]]
        (folder / NAME).write_text(json.dumps(golden))

    monkeypatch.setattr(models, "write_golden", recorded_otherwise)
    (note,) = models.write_model(weights, path, folder)
    assert "set handler.precision: float32" in note
