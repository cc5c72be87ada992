"""A wrong setting stops the load with a line that names it; config/model-config.yaml has none."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from handler.settings import HandlerSettings, handler_settings
from humanseg.common.settings import SettingsError

CONFIG = Path(__file__).resolve().parents[2] / "config" / "model-config.yaml"


def test_the_shipped_file_is_valid_and_names_every_setting() -> None:
    config = yaml.safe_load(CONFIG.read_text())
    assert handler_settings(config) == HandlerSettings()
    assert set(config["handler"]) == {field.name for field in fields(HandlerSettings)}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"batchsize": 4}, "Did you mean 'batchSize'"),
        ({"thresold": 0.5}, "'thresold'"),
        ({"handler": {"thresold": 0.5}}, "'handler.thresold'"),
        (
            {"handler": {"engine": "onnx"}},
            "handler.engine is 'onnx', but must be one of auto, openvino, torch",
        ),
        ({"handler": {"threshold": 1.5}}, "handler.threshold is 1.5"),
        ({"handler": {"threshold": "high"}}, "handler.threshold is 'high'"),
        ({"handler": {"threads": True}}, "handler.threads is True"),
        ({"handler": {"threads": 1.5}}, "whole number"),
        ({"handler": {"max_megapixels": 0}}, "handler.max_megapixels is 0"),
        ({"handler": [1]}, "'handler' must contain keys and values"),
    ],
)
def test_a_wrong_key_or_value_is_named(config: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as raised:
        handler_settings(config)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
