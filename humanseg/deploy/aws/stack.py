"""The stack's life cycle: change set, events, outputs, deletion. Clock and CloudFormation client are passed in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from humanseg.deploy.aws import template as cloudformation

POLL = 3.0  # seconds between two polls
STACK_TYPE = "AWS::CloudFormation::Stack"


class StackError(RuntimeError):
    """CloudFormation rejected the request or failed: one line with its reason."""


@dataclass(frozen=True)
class Change:
    """One line of a change set. `replacement` is True, False or Conditional, empty for new resources."""

    action: str
    name: str
    type: str
    replacement: str


@dataclass(frozen=True)
class Event:
    """One event of one resource."""

    id: str
    name: str
    type: str
    status: str
    reason: str


class Stack:
    """One stack by name; `client` is boto3's CloudFormation client."""

    def __init__(self, client: Any, name: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.client, self.name, self._sleep = client, name, sleep

    def describe(self) -> dict[str, Any] | None:
        """CloudFormation's description, or None if the stack does not exist."""
        from botocore.exceptions import ClientError

        try:
            found: dict[str, Any] = self.client.describe_stacks(StackName=self.name)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        return found

    def outputs(self) -> dict[str, str]:
        """The stack's outputs by key."""
        found = self.describe() or {}
        return {item["OutputKey"]: item["OutputValue"] for item in found.get("Outputs", [])}

    def resource(self, name: str) -> str | None:
        """The physical id of a resource by its logical name, or None if it does not exist."""
        from botocore.exceptions import ClientError

        try:
            response = self.client.describe_stack_resource(StackName=self.name, LogicalResourceId=name)
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        return str(response["StackResourceDetail"]["PhysicalResourceId"])

    def propose(self, parameters: dict[str, str]) -> tuple[str, list[Change]]:
        """Create a change set and return its id and its changes; none if nothing would change."""
        found = self.describe()
        status = found["StackStatus"] if found else ""
        if status == "ROLLBACK_COMPLETE":
            raise StackError(
                f"the creation of {self.name} failed; first run: humanseg deploy destroy --stack {self.name}"
            )
        if status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS":
            raise StackError(f"{self.name} is busy ({status}); wait until it has finished")
        made = self.client.create_change_set(
            StackName=self.name,
            ChangeSetName=f"humanseg-{time.time_ns():x}",
            ChangeSetType="UPDATE" if status and status != "REVIEW_IN_PROGRESS" else "CREATE",
            TemplateBody=cloudformation.STACK.read_text(),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
        return str(made["Id"]), self._changes(made["Id"])

    def _changes(self, change_set: str) -> list[Change]:
        while True:
            response = self.client.describe_change_set(ChangeSetName=change_set, StackName=self.name)
            status, reason = response["Status"], response.get("StatusReason", "")
            if status == "FAILED" and ("didn't contain changes" in reason or "No updates" in reason):
                self.client.delete_change_set(ChangeSetName=change_set, StackName=self.name)
                return []
            if status == "FAILED":
                raise StackError(f"CloudFormation rejected the change: {reason}")
            if status == "CREATE_COMPLETE":
                break
            self._sleep(POLL)
        changes = list(response["Changes"])
        while response.get("NextToken"):
            response = self.client.describe_change_set(
                ChangeSetName=change_set, StackName=self.name, NextToken=response["NextToken"]
            )
            changes += response["Changes"]
        return [
            Change(item["Action"], item["LogicalResourceId"], item["ResourceType"], item.get("Replacement", ""))
            for item in (change["ResourceChange"] for change in changes)
        ]

    def carry_out(self, change_set: str) -> Iterator[Event]:
        """Execute the change set and yield its events. On failure raises StackError with the first reason."""
        before = {event.id for event in self._events()}
        self.client.execute_change_set(ChangeSetName=change_set, StackName=self.name)
        return self._follow(self.name, before)

    def delete(self) -> Iterator[Event]:
        """Delete the stack and yield its events. Retained resources stay."""
        found = self.describe()
        if found is None:
            raise StackError(f"no stack named {self.name} in this region; check --stack and --region")
        before = {event.id for event in self._events()}
        self.client.delete_stack(StackName=self.name)
        return self._follow(found["StackId"], before)  # by id: the name is gone once it is deleted

    def _follow(self, stack: str, seen: set[str]) -> Iterator[Event]:
        failures: list[Event] = []
        while True:
            for event in reversed(self._events(stack)):
                if event.id in seen:
                    continue
                seen.add(event.id)
                if event.status.endswith("_FAILED") and "cancelled" not in event.reason.lower():
                    failures.append(event)
                yield event
                if event.type == STACK_TYPE and event.name == self.name and _final(event.status):
                    if event.status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "DELETE_COMPLETE"):
                        first = failures[0] if failures else event
                        raise StackError(
                            f"{self.name} is {event.status}: {first.name}: {first.reason or 'no reason given'}"
                        )
                    return
            self._sleep(POLL)

    def _events(self, stack: str | None = None) -> list[Event]:
        """All events, newest first."""
        from botocore.exceptions import ClientError

        try:
            pages = self.client.get_paginator("describe_stack_events").paginate(StackName=stack or self.name)
            return [
                Event(
                    item["EventId"],
                    item["LogicalResourceId"],
                    item["ResourceType"],
                    item["ResourceStatus"],
                    item.get("ResourceStatusReason", ""),
                )
                for page in pages
                for item in page["StackEvents"]
            ]
        except ClientError as error:
            if "does not exist" in str(error):
                return []
            raise


def _final(status: str) -> bool:
    return not status.endswith("_IN_PROGRESS")
