"""Drawings and tables in the deployment's documents are what their scripts make."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from deploy.aws import cost, diagram
from deploy.aws import template as cloudformation

FOLDER = Path(__file__).parents[2] / "deploy"


def test_the_diagram_is_the_script_s() -> None:
    drawn = (FOLDER / "aws" / "diagram.svg").read_text()
    assert drawn == diagram.draw() + "\n"
    ElementTree.fromstring(drawn)


def test_the_price_table_is_the_script_s_and_says_where_its_prices_are_from() -> None:
    readme = (FOLDER / "aws" / "README.md").read_text()
    assert cost.table() in readme
    assert cost.PRICES_OF in readme
    put, kept = cost.archive_million()
    assert f"{put:.0f} $ to put the objects, {kept:.0f} $ for each month" in readme
    assert f"about {cost.BALANCER:.0f} $ a" in readme
    assert {each.name for each in cost.MACHINES} <= set(
        cloudformation.load()["Parameters"]["InstanceType"]["AllowedValues"]
    )


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.md")), ids=lambda path: str(path.relative_to(FOLDER)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target
