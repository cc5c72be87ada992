"""`humanseg deploy`: create or update the service's CloudFormation stack, with a dry run and progress."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from humanseg.cli.console import CommandError, err, out, print_table

if TYPE_CHECKING:
    from humanseg.deploy.aws.plan import Plan
    from humanseg.deploy.aws.stack import Event, Stack

app = typer.Typer()


@app.command()
def deploy(
    stack: Annotated[str, typer.Argument(help="Name of the CloudFormation stack.", metavar="STACK")],
    parameters: Annotated[
        list[str] | None,
        typer.Argument(
            help="Parameters of the template, e.g. Size=fleet. An update keeps the parameters that are not given.",
            metavar="NAME=VALUE",
            show_default=False,
        ),
    ] = None,
    region: Annotated[str | None, typer.Option(help="AWS region. Default: from the AWS configuration.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print parameters and resources of a new stack; needs no AWS account.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Skip the confirmation.")] = False,
) -> None:
    """Create or update the service on AWS: show the changes, ask, follow the deployment, print the URL.

    deploy/aws/README.md explains the preparation and the parameters.
    """
    from humanseg.deploy.aws.plan import Plan

    plan = Plan(stack, dict(_pair(item) for item in parameters or []))
    if dry_run:
        rows = [(name, "(required)" if value is None else value) for name, value in plan.new_stack().items()]
        print_table(f"Parameters of {stack}", ("name", "value"), rows)
        print_table(f"\nResources of {stack}", ("name", "type"), plan.resources())
        return
    from botocore.exceptions import BotoCoreError, ClientError

    from humanseg.deploy.aws.stack import Stack

    try:
        _deploy(plan, Stack(_cloudformation(region), stack), yes=yes)
    except (BotoCoreError, ClientError) as error:
        raise CommandError(str(error)) from None


def _deploy(plan: Plan, stack: Stack, *, yes: bool) -> None:
    if stack.describe() is None:
        plan.check_new_stack()
    change_set, changes = stack.propose(plan.parameters())
    if changes:
        rows = [(change.action, change.name, change.type, change.replacement) for change in changes]
        print_table(f"Changes to {plan.stack}", ("action", "resource", "type", "replaced"), rows)
        if not yes and not typer.confirm("Apply these changes?"):
            raise CommandError("nothing was changed; the change set is kept for review")
        _follow(stack.execute(change_set), plan.stack)
    else:
        out().print(f"{plan.stack} is up to date.")
    for name, value in stack.outputs().items():
        out().print(f"{name}: {value}", markup=False, soft_wrap=True)


def _follow(events: Iterable[Event], title: str) -> None:
    """Follow the events: a progress bar over the resources, and a line for each failure."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    started, finished = set(), set()
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err()) as progress:
        task = progress.add_task(title, total=None)
        for event in events:
            started.add(event.name)
            if event.status.endswith("_COMPLETE"):
                finished.add(event.name)
            if event.status.endswith("_FAILED"):
                progress.console.print(f"{event.name}: {event.status} {event.reason}", style="red", markup=False)
            progress.update(
                task,
                description=f"{title}: {event.name} {event.status}",
                completed=len(finished),
                total=len(started),
            )


def _cloudformation(region: str | None) -> Any:
    import os

    import boto3

    # The AWS CLI reads AWS_REGION; boto3 reads AWS_DEFAULT_REGION only.
    session = boto3.session.Session(region_name=region or os.environ.get("AWS_REGION"))
    if not session.region_name:
        raise CommandError("no AWS region: use --region, e.g. --region eu-central-1, or set AWS_REGION")
    return session.client("cloudformation")


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not (name and separator):
        raise CommandError(f"{text!r} is not NAME=VALUE, e.g. InstanceType=c7i.2xlarge")
    return name, value
