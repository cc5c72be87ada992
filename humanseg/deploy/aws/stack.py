"""Change set, events and outputs of a CloudFormation stack. Clock and client are passed in."""

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
        """CloudFormation's description, or None if the stack does not exist or has only been proposed."""
        from botocore.exceptions import ClientError

        try:
            stack: dict[str, Any] = self.client.describe_stacks(StackName=self.name)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        return None if stack["StackStatus"] == "REVIEW_IN_PROGRESS" else stack

    def outputs(self) -> dict[str, str]:
        """The stack's outputs by key."""
        stack = self.describe() or {}
        return {item["OutputKey"]: item["OutputValue"] for item in stack.get("Outputs", [])}

    def propose(self, parameters: dict[str, str]) -> tuple[str, list[Change]]:
        """Create a change set and return its name and its changes; none if nothing would change.

        Parameters that an existing stack has and that are not given keep their values.

        Raises:
            StackError: the stack is busy or its creation failed, or CloudFormation rejects the change.
        """
        from botocore.exceptions import ClientError, WaiterError

        stack = self.describe()
        status = stack["StackStatus"] if stack else ""
        if status == "ROLLBACK_COMPLETE":
            raise StackError(
                f"the creation of {self.name} failed; delete it first: "
                f"aws cloudformation delete-stack --stack-name {self.name}"
            )
        if status.endswith("_IN_PROGRESS"):
            raise StackError(f"{self.name} is busy ({status}); wait until it has finished")
        kept = {item["ParameterKey"] for item in (stack or {}).get("Parameters", [])} - parameters.keys()
        names = {"StackName": self.name, "ChangeSetName": f"humanseg-{time.time_ns():x}"}
        try:
            self.client.create_change_set(
                **names,
                ChangeSetType="UPDATE" if stack else "CREATE",
                TemplateBody=cloudformation.STACK.read_text(),
                Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()]
                + [{"ParameterKey": name, "UsePreviousValue": True} for name in sorted(kept)],
                Capabilities=["CAPABILITY_IAM"],
            )
            waiter = self.client.get_waiter("change_set_create_complete")
            waiter.wait(**names, WaiterConfig={"Delay": int(POLL)})
        except (ClientError, WaiterError) as error:
            reason = getattr(error, "last_response", {}).get("StatusReason", str(error))
            if "didn't contain changes" not in reason and "No updates" not in reason:
                raise StackError(f"CloudFormation rejected the change: {reason}") from None
            if isinstance(error, WaiterError):
                self.client.delete_change_set(**names)
            return "", []
        pages = self.client.get_paginator("describe_change_set").paginate(**names)
        return names["ChangeSetName"], [
            Change(item["Action"], item["LogicalResourceId"], item["ResourceType"], item.get("Replacement", ""))
            for page in pages
            for item in (change["ResourceChange"] for change in page["Changes"])
        ]

    def execute(self, change_set: str) -> Iterator[Event]:
        """Execute the change set and yield its events until the stack is complete.

        Raises:
            StackError: the deployment failed; the message has the first failure's reason.
        """
        seen = {event.id for event in self._events()}
        self.client.execute_change_set(ChangeSetName=change_set, StackName=self.name)
        failures: list[Event] = []
        while True:
            for event in reversed(self._events()):
                if event.id in seen:
                    continue
                seen.add(event.id)
                if event.status.endswith("_FAILED") and "cancelled" not in event.reason.lower():
                    failures.append(event)
                yield event
                if event.type == STACK_TYPE and event.name == self.name and not event.status.endswith("_IN_PROGRESS"):
                    if event.status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
                        first = failures[0] if failures else event
                        reason = first.reason or "no reason given"
                        raise StackError(f"{self.name} is {event.status}: {first.name}: {reason}")
                    return
            self._sleep(POLL)

    def _events(self) -> list[Event]:
        """All events, newest first."""
        pages = self.client.get_paginator("describe_stack_events").paginate(StackName=self.name)
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
