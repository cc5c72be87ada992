"""Read the CloudFormation template for one size, its short tags (`!Ref X`) as plain JSON (`{"Ref": "X"}`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

STACK = Path(__file__).with_name("stack.yaml")


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's tags."""


def _tag(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
        return {name: value.split(".", 1)} if suffix == "GetAtt" else {name: value}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.MappingNode)
    return {name: loader.construct_mapping(node, deep=True)}


_Loader.add_multi_constructor("!", _tag)


def load(path: Path = STACK) -> dict[str, Any]:
    """The template as plain JSON values."""
    template: dict[str, Any] = yaml.load(path.read_text(), _Loader)
    return template


def resources(template: dict[str, Any], size: str) -> dict[str, dict[str, Any]]:
    """The resources of `size` ("one" or "fleet"), by logical name."""
    others = ("Fleet", "HasFirewall") if size == "one" else ("One",)
    return {name: item for name, item in template["Resources"].items() if item.get("Condition") not in others}
