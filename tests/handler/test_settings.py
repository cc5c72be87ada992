"""A wrong setting stops the load with a line that names it; config/model-config.yaml has none."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from handler.apikeys import check_key, read_key_hashes
from handler.errors import Unauthorized
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
        ({"handler": [1]}, "'handler' must hold keys and values"),
    ],
)
def test_a_wrong_key_or_value_is_named(config: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as raised:
        handler_settings(config)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


KEY_HASH = "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683"  # printf %s key | sha256sum


def test_a_known_key_opens_in_both_headers(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# printf %s key | sha256sum\n\n{KEY_HASH.upper()}\n")
    hashes = read_key_hashes(file)
    check_key({"Authorization": "Bearer key"}, hashes)
    check_key({"X-Api-Key": "key"}, hashes)
    for headers in ({}, {"x-api-key": "kez"}, {"Authorization": "Basic key"}, {"Authorization": "Bearer"}):
        with pytest.raises(Unauthorized):
            check_key(headers, hashes)


@pytest.mark.parametrize(
    ("text", "words"), [("", "no key hash"), ("key\n", "line 1"), (f"{KEY_HASH}\nxyz", "line 2")]
)
def test_a_key_file_that_can_not_lock_stops_the_load(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(ValueError, match=words):
        read_key_hashes(file)
    with pytest.raises(ValueError, match="can't be read"):
        read_key_hashes(tmp_path / "missing")
