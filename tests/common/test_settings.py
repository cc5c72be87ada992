"""The shared checker: what is wrong with a setting is said in one line, with its name and what it takes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from humanseg.common.settings import (
    SettingsError,
    check,
    flag,
    from_environment,
    from_mapping,
    integer,
    number,
    one_of,
    text,
)


@dataclass(frozen=True)
class Example:
    engine: str = one_of("auto", "torch")
    threads: int = integer(2, least=0, most=8)
    share: float = number(0.5, least=0, most=1)
    threshold: float | None = number(None, least=0, most=1, open_ends=True)
    fsync: bool = flag(False)
    name: str = text("", pattern="[a-z]*", wanted="lower-case letters")


def test_what_is_not_given_has_its_default() -> None:
    assert from_mapping(Example, None, "example") == from_mapping(Example, {}, "example") == Example()


def test_a_whole_number_serves_as_a_float() -> None:
    share = from_mapping(Example, {"share": 1}, "example").share
    assert (share, type(share)) == (1.0, float)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ([1], "'example' must contain keys and values"),
        ({"engin": "auto"}, "unknown key 'example.engin'. Known are engine, threads"),
        ({"engine": "onnx"}, "example.engine is 'onnx', but must be one of auto, torch, for example auto."),
        ({"engine": None}, "example.engine is None"),
        ({"threads": 9}, "example.threads is 9, but must be a whole number from 0 to 8, for example 2."),
        ({"threads": 1.5}, "whole number"),
        ({"threads": True}, "example.threads is True"),
        ({"share": "half"}, "example.share is 'half', but must be a number from 0 to 1"),
        ({"share": float("nan")}, "example.share is nan"),
        ({"threshold": 1}, "a number between 0 and 1"),
        ({"fsync": "yes"}, "example.fsync is 'yes', but must be true or false, for example false."),
        ({"name": "A"}, "example.name is 'A', but must be lower-case letters."),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(section: object, words: str) -> None:
    with pytest.raises(SettingsError) as raised:
        from_mapping(Example, section, "example")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_variables_are_read_by_the_same_rules() -> None:
    names = {"threads": "THREADS", "share": "SHARE", "fsync": "FSYNC", "engine": "ENGINE"}
    given = {"THREADS": " 3 ", "SHARE": "0.25", "FSYNC": "true", "ENGINE": ""}
    assert from_environment(Example, given, names) == Example(threads=3, share=0.25, fsync=True)
    for variable, value in (("THREADS", "3.5"), ("THREADS", "٣"), ("SHARE", "x"), ("FSYNC", "maybe")):
        with pytest.raises(SettingsError, match=f"{variable} is '{value}'"):
            from_environment(Example, {variable: value}, names)


def test_an_instance_made_in_python_is_checked_too() -> None:
    check(Example())
    with pytest.raises(SettingsError, match="threads is 9"):
        check(Example(threads=9))
