"""Declares and validates settings: a frozen dataclass whose fields have rules.

    @dataclass(frozen=True)
    class Example:
        engine: str = one_of("auto", "openvino", "torch")
        threads: int = integer(0, least=0, most=1024)
        sample: float = number(1.0, least=0, most=1)
        fsync: bool = flag(False)

`from_mapping(Example, section, "archive")` reads a YAML section, `from_environment` reads variables. An invalid value
raises `SettingsError` with one line: the key, the value, the valid values, and an example.

Not pydantic: it adds 18 MB to every worker, which has some twenty settings to check, once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, TypeVar

Section = TypeVar("Section")
RULE = "rule"


class SettingsError(ValueError):
    """An invalid setting: one line with its name, its value, and the valid values."""


@dataclass(frozen=True)
class Rule:
    """The rule of a value. `wanted` completes "must be ..."; `optional` values may be None."""

    wanted: str
    kind: type
    choices: tuple[str, ...] = ()
    least: float = -math.inf
    most: float = math.inf
    open_ends: bool = False
    pattern: str = ""
    optional: bool = False

    def accepts(self, value: object) -> bool:
        """Whether `value` satisfies the rule."""
        if value is None:
            return self.optional
        if self.kind is bool:
            return isinstance(value, bool)
        if self.kind is str:
            if not isinstance(value, str):
                return False
            return value in self.choices if self.choices else re.fullmatch(self.pattern, value) is not None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        if self.kind is int and not isinstance(value, int):
            return False
        if self.open_ends:
            return self.least < value < self.most
        return self.least <= value <= self.most

    def from_text(self, text: str) -> object:
        """Convert the text of an environment variable to the rule's type; unchanged if that is impossible."""
        try:
            if self.kind is int and re.fullmatch(r"[+-]?[0-9]+", text):
                return int(text)
            if self.kind is float:
                return float(text)
        except ValueError:
            return text
        if self.kind is bool:
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(
                text.lower(), text
            )
        return text


def one_of(*allowed: str) -> Any:
    """A field with one of the `allowed` values; the first is the default."""
    return field(default=allowed[0], metadata={RULE: Rule(f"one of {', '.join(allowed)}", str, choices=allowed)})


def integer(default: int, *, least: int, most: int) -> Any:
    """A field for an integer in `least`..`most`."""
    rule = Rule(f"a whole number from {least} to {most}", int, least=least, most=most)
    return field(default=default, metadata={RULE: rule})


def number(default: float | None, *, least: float, most: float, open_ends: bool = False) -> Any:
    """A field for a number in `least`..`most`; with `open_ends`, between them. A default of None may be given too."""
    wanted = f"a number between {least:g} and {most:g}" if open_ends else f"a number from {least:g} to {most:g}"
    rule = Rule(wanted, float, least=least, most=most, open_ends=open_ends, optional=default is None)
    return field(default=default, metadata={RULE: rule})


def flag(default: bool) -> Any:
    """A field for true or false."""
    return field(default=default, metadata={RULE: Rule("true or false", bool)})


def text(default: str, *, pattern: str = r"[\x20-\x7e]*", wanted: str = "text of printable ASCII") -> Any:
    """A field for text that `pattern` matches as a whole."""
    return field(default=default, metadata={RULE: Rule(wanted, str, pattern=pattern)})


def from_mapping(section_type: type[Section], section: object, name: str) -> Section:
    """Convert `section`, a mapping from YAML, to a `section_type`; None gives the defaults.

    Args:
        section_type: a frozen dataclass whose fields have rules.
        section: the file's content.
        name: of the section, for messages.

    Raises:
        SettingsError: not a mapping, an unknown key, or an invalid value.
    """
    if section is None:
        section = {}
    if not isinstance(section, Mapping):
        raise SettingsError(f"{name!r} must contain keys and values, not {section!r}.")
    known = {item.name: item for item in fields(section_type)}  # type: ignore[arg-type]
    values = {}
    for key, value in section.items():
        if key not in known:
            raise SettingsError(f"unknown key '{name}.{key}'. Known are {', '.join(known)}.")
        values[key] = checked(known[key], value, f"{name}.{key}")
    return section_type(**values)


def from_environment(
    section_type: type[Section], environment: Mapping[str, str], names: Mapping[str, str]
) -> Section:
    """A `section_type` from variables. `names` gives the variable of each field; empty ones count as not set.

    Raises:
        SettingsError: an invalid value.
    """
    known = {item.name: item for item in fields(section_type)}  # type: ignore[arg-type]
    values = {}
    for key, variable in names.items():
        given = environment.get(variable, "").strip()
        if given:
            values[key] = checked(known[key], known[key].metadata[RULE].from_text(given), variable)
    return section_type(**values)


def checked(setting: Field[Any], value: object, name: str) -> Any:
    """Validate `value` by the field's rule; whole numbers become floats if the rule requires floats.

    Raises:
        SettingsError: it is invalid.
    """
    rule: Rule = setting.metadata[RULE]
    if not rule.accepts(value):
        has_example = setting.default not in (MISSING, None, "") and rule.accepts(setting.default)
        example = f", for example {str(setting.default).lower() if rule.kind is bool else setting.default}"
        raise SettingsError(f"{name} is {value!r}, but must be {rule.wanted}{example if has_example else ''}.")
    if rule.kind is float and isinstance(value, int):
        return float(value)
    return value


def check(settings: object, name: str = "") -> None:
    """Validate every field with a rule: for `__post_init__` of settings created in Python.

    Raises:
        SettingsError: the first invalid field.
    """
    for item in fields(settings):  # type: ignore[arg-type]
        if RULE in item.metadata:
            checked(item, getattr(settings, item.name), f"{name}.{item.name}" if name else item.name)
