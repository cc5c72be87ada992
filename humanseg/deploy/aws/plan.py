"""The plan of a deployment, checked and shown without an AWS account."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from humanseg.deploy.aws import template as cloudformation

MACHINE_IMAGE = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{}"


class PlanError(ValueError):
    """An invalid parameter: one line with the cause and the fix."""


@dataclass(frozen=True)
class Plan:
    """One deployment: the stack's name, and the given parameters of the template by name.

    Raises:
        PlanError: the name is invalid, or a parameter is unknown or out of its range.
    """

    stack: str
    given: dict[str, str]

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,31}", self.stack):
            raise PlanError(f"stack {self.stack!r}: use up to 32 letters, digits and -, starting with a letter")
        known = _known()
        for name, value in self.given.items():
            if name not in known:
                raise PlanError(f"{name}: the template has no such parameter; it has {', '.join(known)}")
            _check(name, value, known[name])

    def parameters(self) -> dict[str, str]:
        """The parameters to set. The machine image follows the instance type: arm64 for Graviton."""
        kind = self.given.get("InstanceType")
        if kind is None:
            return self.given
        graviton = re.match(r"[a-z]+[0-9]+g", kind)  # a `g` after the generation: c7g, c8g
        return {"MachineImage": MACHINE_IMAGE.format("arm64" if graviton else "x86_64"), **self.given}

    def new_stack(self) -> dict[str, str | None]:
        """All parameters of a new stack by name: given, derived or default; None for those that are missing."""
        known = _known()
        values = {name: rule.get("Default") for name, rule in known.items()} | self.parameters()
        if values["Size"] == "fleet":  # their defaults are for one instance
            values |= {name: self.given.get(name) for name in ("CertificateArn", "ClientCidr")}
        return {name: None if value is None else str(value) for name, value in values.items()}

    def check_new_stack(self) -> None:
        """Raises PlanError if a new stack would lack a parameter or could not be updated."""
        values, known = self.new_stack(), _known()
        missing = [name for name, value in values.items() if value is None]
        if missing:
            descriptions = "".join(f"\n  {name}: {known[name]['Description']}" for name in missing)
            raise PlanError(f"a new stack with Size={values['Size']} also needs{descriptions}")
        if values["Size"] == "fleet" and int(values["MaxInstances"] or 0) <= int(values["MinInstances"] or 0):
            raise PlanError(
                f"MaxInstances={values['MaxInstances']} must be above MinInstances={values['MinInstances']}: "
                "an update starts a new instance before it stops an old one"
            )

    def resources(self) -> list[tuple[str, str]]:
        """(logical name, type) of every resource in a new stack."""
        made = cloudformation.resources(cloudformation.load(), str(self.new_stack()["Size"]))
        return [(name, item["Type"]) for name, item in made.items()]


def _known() -> dict[str, dict[str, Any]]:
    known: dict[str, dict[str, Any]] = cloudformation.load()["Parameters"]
    return known


def _check(name: str, value: str, rule: dict[str, Any]) -> None:
    if "AllowedValues" in rule and value not in [str(item) for item in rule["AllowedValues"]]:
        raise PlanError(f"{name}={value!r}: must be one of {', '.join(str(item) for item in rule['AllowedValues'])}")
    if "AllowedPattern" in rule and not re.fullmatch(rule["AllowedPattern"], value):
        hint = rule.get("ConstraintDescription") or rule.get("Description") or rule["AllowedPattern"]
        raise PlanError(f"{name}={value!r} is invalid: {hint}")
    if rule["Type"] == "Number":
        low, high = rule.get("MinValue", 0), rule.get("MaxValue", 10**9)
        if not value.isdigit() or not low <= int(value) <= high:
            raise PlanError(f"{name}={value!r}: must be a whole number from {low} to {high}")
