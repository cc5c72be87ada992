"""`humanseg compare` on real networks and photos, its report, and what `release --gate` makes of it."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from humanseg.cli.compare import app
from humanseg.cli.console import CommandError
from humanseg.cli.release import pass_gate
from humanseg.common.html import embedded
from humanseg.segmentation.unet import UNet
from humanseg.segmentation.weights import save_weights
from humanseg.training.facts import facts_of
from humanseg.training.gate import NAME, read_gate
from humanseg.training.kinds import kinds_of
from humanseg.training.samples import Source, find_samples

MakeData = Callable[..., Path]


def network(path: Path, weight: float, threshold: float = 0.5, seed: int = 0) -> Path:
    """A network that answers with the brightness of a pixel, more surely for a larger weight, with some noise."""
    torch.manual_seed(seed)
    unet = UNet((4,)).eval()
    with torch.no_grad():
        for layer in unet.modules():
            if isinstance(layer, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
                layer.weight.zero_()
                if layer.bias is not None:
                    layer.bias.zero_()
        unet.downs[0].conv[0].weight[0, :, 1, 1] = 1 / 3
        unet.downs[0].conv[3].weight[0, 0, 1, 1] = 1.0
        unet.ups[1].conv[0].weight[0, 0, 1, 1] = 1.0
        unet.ups[1].conv[3].weight[0, 0, 1, 1] = 1.0
        unet.final_conv.weight[0, 0] = weight
        unet.final_conv.bias.fill_(-weight / 2)
    save_weights(path, unet, architecture="unet", input_size=64, threshold=threshold)
    return path


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """40 photos of a bright figure on dark ground as an archive export, half of them dark, with a manifest."""
    folder = tmp_path / "week"
    for part in ("img", "mask"):
        (folder / part).mkdir(parents=True)
    random = np.random.default_rng(0)
    rows = []
    for index in range(40):
        mask = np.zeros((72, 96), np.uint8)
        cv2.circle(mask, (int(random.integers(30, 66)), int(random.integers(25, 47))), 18, 255, -1)
        light = 0.35 if index % 2 else 1.0
        pixels = np.where(mask[..., None] > 0, 230 * light, 45 * light) + random.normal(0, 6, (72, 96, 3))
        cv2.imwrite(str(folder / "img" / f"{index:020x}.png"), pixels.clip(0, 255).astype(np.uint8))
        cv2.imwrite(str(folder / "mask" / f"{index:020x}.png"), mask)
        row = {
            "photo": f"{index:020x}.png",
            "request_ids": [f"request-{index}"],
            "label": "booth 3" if index % 2 else None,
        }
        rows.append({**row, "time": "2026-11-20T12:00:00Z", "sampling_probability": 0.1 if index % 2 else 1.0})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.slow
def test_a_model_worse_only_on_dark_photos_is_found_and_shown(people: Path, tmp_path: Path) -> None:
    # The new one misses a figure that is dimmer than its threshold.
    old, new = network(tmp_path / "old.safetensors", 9, 0.1), network(tmp_path / "new.safetensors", 9, 0.4)
    report = tmp_path / "out" / "report.html"
    result = call(old, new, "--data", people, "--report", report, "--slower", 5)
    assert result.exit_code == 1, result.output
    assert "The new model is worse." in result.output
    text = report.read_text()
    figures = embedded(text, NAME)
    worse = {check["name"] for check in figures["checks"] if check["state"] == "worse"}
    assert {"light: dark", "label: booth 3"} <= worse
    assert "light: middle" not in worse
    lost, _ = text.split("<h2>Largest gains</h2>")
    assert lost.count("data:image/jpeg") == 20
    assert not re.search(r"""(src|href)=["'](?!data:)""", text), "a report needs nothing from outside"
    gate = read_gate(report)
    assert not gate.passed
    assert gate.photos == 40
    assert "request-7" in gate.request_ids
    with pytest.raises(CommandError, match="blocks the release: its verdict is 'worse'"):
        pass_gate(report, tmp_path / "any.mar", [])


@pytest.mark.slow
def test_the_same_model_passes_and_the_report_opens_the_gate_for_its_weights_alone(
    people: Path, tmp_path: Path
) -> None:
    weights = network(tmp_path / "one.safetensors", 9, 0.4)
    report = tmp_path / "report.html"
    result = call(weights, weights, "--data", people, "--report", report, "--slower", 5, "--json")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["verdict"] == "not worse"
    assert figures["per_photo"][1]["weight"] == pytest.approx(10), "a photo kept with 0.1 stands for ten"
    digest = read_gate(report).new_sha256
    for name, output, reason in (
        ("good", digest, None),
        ("other", "0" * 64, "other weights"),
        ("old", None, "does not record its weights"),
    ):
        mar = tmp_path / f"{name}.mar"
        with zipfile.ZipFile(mar, "w") as file:
            file.writestr("MAR-INF/MANIFEST.json", json.dumps({"model": {"modelName": "m", "modelVersion": "2"}}))
            if output:
                file.writestr("model.json", json.dumps({"weights_sha256": output}))
        if reason is None:
            pass_gate(report, mar, [])
        else:
            with pytest.raises(CommandError, match=reason):
                pass_gate(report, mar, [])
    (tmp_path / "page.html").write_text("<p>")
    with pytest.raises(ValueError, match="not a report of `humanseg compare`"):
        read_gate(tmp_path / "page.html")


@pytest.mark.slow
def test_noise_is_told_from_a_change(make_data: MakeData, tmp_path: Path) -> None:
    old, new = network(tmp_path / "old.safetensors", 9, 0.5), network(tmp_path / "new.safetensors", 9, 0.52)
    result = call(old, new, "--data", make_data(photos=12), "--report", tmp_path / "r.html", "--slower", 5)
    assert result.exit_code == 3, result.output
    assert "too few photos to decide. About " in result.output


def test_kinds_and_facts_of_photos(people: Path) -> None:
    samples = find_samples(Source(people))
    facts = facts_of(samples)
    assert facts[1].probability == 0.1
    assert facts[1].week == "2026-W47"
    pixels, mask = samples[1].read()
    kinds: dict[str, Any] = kinds_of(pixels, mask > 0, facts[1])
    assert kinds["people"] == "one"
    assert kinds["label"] == "booth 3"
    assert kinds["size"] == "under 800 px"
    assert kinds["person size"] == "5 to 30 %"
    assert kinds["light"] == "dark"
    nobody = kinds_of(pixels, np.zeros_like(mask, bool), facts[0])
    assert nobody["people"] == "nobody"
    assert "label" not in nobody
