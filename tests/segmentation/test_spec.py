"""Specs: what is said of a network, from a command line, a YAML file or JSON, and what can't be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from humanseg.segmentation.spec import COMMENTS, KEYS, Spec, SpecError, read_spec_file, spec_file, write_spec_file

UNUSUAL = Spec(
    input_size=(320, 240),
    resize="pad",
    multiple=8,
    scale=1.0,
    mean=(103.94, 116.78, 123.68),
    std=(58.4, 57.1, 57.4),
    channel_order="BGR",
    layout="NHWC",
    output_name="mask",
    output_layout="NHWC",
    output_activation="softmax",
    person_channel=15,
    background_channel=0,
    threshold=0.4,
)


@pytest.mark.parametrize("spec", [Spec(), UNUSUAL])
def test_a_spec_comes_back_from_yaml_and_json_as_it_was(tmp_path: Path, spec: Spec) -> None:
    path = spec_file(tmp_path / "network.onnx")
    write_spec_file(path, spec)
    assert path.name == "network.onnx.yaml"
    assert Spec.from_mapping(read_spec_file(path)) == spec
    assert Spec.from_mapping(json.loads(json.dumps(spec.as_mapping()))) == spec
    assert all(f"# {comment}" in path.read_text() for comment in COMMENTS.values())


def test_every_key_has_a_comment_and_no_other_has() -> None:
    assert tuple(COMMENTS) == KEYS


def test_texts_of_a_command_line_are_read() -> None:
    spec = Spec.from_mapping(
        {
            "input_size": "320x240",
            "mean": "0.485,0.456,0.406",
            "std": "0.5",
            "scale": "1/255",
            "layout": "nhwc",
            "person_channel": "1",
            "output_activation": "Softmax",
        }
    )
    assert spec == Spec(
        (320, 240), "stretch", mean=(0.485, 0.456, 0.406), std=(0.5, 0.5, 0.5), layout="NHWC", person_channel=1,
        output_activation="softmax",
    )  # fmt: skip
    assert Spec.from_mapping({"input_size": "320"}) == Spec((320, 320), "fit")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"colour": "RGB"}, "unknown key 'colour'; known are input_size, "),
        ({"input_size": "big"}, "input_size is 'big'; it must be 320 or 320x240"),
        ({"input_size": "8x8"}, "input_size is '8x8'; it must be between 16 and 2048"),
        ({"input_size": "100", "resize": "fit"}, "input_size is 100; it must be a multiple of 32"),
        ({"input_size": "320x240", "resize": "fit"}, "must be one number with resize: fit"),
        ({"resize": "crop"}, "resize is 'crop'; it must be one of fit, stretch, pad"),
        ({"mean": "0.5,0.5"}, "mean is '0.5,0.5'; it must be one number, or three"),
        ({"std": "0"}, "three numbers above 0"),
        ({"scale": "1/0"}, "scale is '1/0'; it must be a number"),
        ({"scale": "nan"}, "scale is 'nan'; it must be a number"),
        ({"threshold": 1.5}, "threshold is 1.5; it must be between 0 and 1"),
        ({"person_channel": True}, "person_channel is True; it must be a whole number"),
        ({"person_channel": "-1"}, "person_channel is '-1'; it must be a whole number"),
    ],
)
def test_what_can_t_be_is_named_in_one_line(tmp_path: Path, given: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError) as error:
        Spec.from_mapping(given)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    path = tmp_path / "a.yaml"
    path.write_text(json.dumps(given))
    with pytest.raises(SpecError, match=f"^{path}: "):
        read_spec_file(path)


def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    for text in ("- 1", "a: [", "just words"):
        path.write_text(text)
        with pytest.raises(SpecError, match=f"^{path}: "):
            read_spec_file(path)
    assert read_spec_file(tmp_path / "none.yaml") == {}
