"""`humanseg deploy aws|destroy`: deploy the service as a CloudFormation stack."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from humanseg.cli.console import CommandError, err, out, print_table

if TYPE_CHECKING:
    from humanseg.deploy.aws.plan import Plan
    from humanseg.deploy.aws.stack import Event, Stack

app = typer.Typer(no_args_is_help=True, help="Deploy the service to AWS: one instance, or a fleet.")

StackName = Annotated[str, typer.Option("--stack", help="Name of the CloudFormation stack.")]
Region = Annotated[str | None, typer.Option("--region", help="AWS region. Default: from the AWS configuration.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Skip the confirmation.")]


@app.command()
def aws(
    stack: StackName,
    size: Annotated[
        str, typer.Option(help="One instance, or a fleet behind a load balancer.", metavar="one|fleet")
    ] = "one",
    image: Annotated[
        str | None, typer.Option(help="Existing image in ECR, by digest. If not given, it is built and pushed.")
    ] = None,
    mar: Annotated[Path, typer.Option(help="The model to serve.")] = Path("model_store/human_segmentation.mar"),
    certificate: Annotated[str | None, typer.Option(help="Fleet: ARN of the TLS certificate.")] = None,
    clients: Annotated[
        str | None, typer.Option(help="Fleet: allowed client addresses, e.g. 203.0.113.0/24.", metavar="CIDR")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Set a parameter of the template. Repeatable.", metavar="NAME=VALUE"),
    ] = None,
    region: Region = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan without an AWS account.")] = False,
    yes: Yes = False,
) -> None:
    """Create or update the stack: show the changes, ask, follow the deployment, print the URL."""
    from humanseg.deploy.aws.plan import Plan

    options = dict(_pair(item) for item in set_ or [])
    options |= {name: value for name, value in (("CertificateArn", certificate), ("ClientCidr", clients)) if value}
    plan = Plan(stack, size, _region(region), mar, image, options)
    if dry_run:
        _show_plan(plan)
        return
    with _one_line():
        change_set, target = _propose(_Cloud(plan.region), plan)
        if change_set is None:
            out().print(f"{stack} is up to date.")
        else:
            if not yes and not typer.confirm("Apply these changes?"):
                raise CommandError("nothing was changed; the change set is kept for review")
            _follow(target.carry_out(change_set), f"{stack} in {plan.region}")
        _show_outputs(target.outputs())


@app.command()
def destroy(stack: StackName, region: Region = None, yes: Yes = False) -> None:
    """Delete the stack. The archive's bucket is kept."""
    cloud = _Cloud(_region(region))
    found = cloud.stack(stack)
    bucket = found.resource("ArchiveBucket")
    if not yes and not typer.confirm(f"Delete the stack {stack} in {cloud.region}? The archive's bucket is kept."):
        raise CommandError("nothing was changed")
    _follow(found.delete(), f"{stack} goes")
    if bucket:
        out().print(
            f"Kept the archive's bucket {bucket}. Its lifecycle rules still delete old records.",
            soft_wrap=True,
        )


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """Turns AWS errors into one-sentence command errors."""
    from botocore.exceptions import BotoCoreError, ClientError

    from humanseg.deploy.aws.stack import StackError

    try:
        yield
    except (StackError, BotoCoreError, ClientError) as error:
        raise CommandError(str(error)) from None


class _Cloud:
    """boto3's clients for one region."""

    def __init__(self, region: str) -> None:
        import boto3

        self.region, self._session = region, boto3.session.Session(region_name=region)

    def client(self, service: str) -> Any:
        return self._session.client(service)

    def stack(self, name: str) -> Stack:
        from humanseg.deploy.aws.stack import Stack

        return Stack(self.client("cloudformation"), name)


def _propose(cloud: _Cloud, plan: Plan) -> tuple[str | None, Stack]:
    """Prepare image, .mar and change set, and show the changes. Returns no change set if nothing changes."""
    from humanseg.deploy.aws import account as at

    say = err().print
    account = cloud.client("sts").get_caller_identity()["Account"]
    image = plan.image
    if image is None:
        tag = plan.release_key.rsplit("/", 1)[-1].removesuffix(".mar")
        image = at.build_and_push(cloud.client("ecr"), f"{tag}-{_now()}", say, plan.platform)
    s3, bucket = cloud.client("s3"), plan.release_bucket(account)
    at.ensure_release_bucket(s3, bucket, plan.region)
    say(f"{plan.mar} → s3://{bucket}/{plan.release_key}")
    at.upload_mar(s3, plan.mar, bucket, plan.release_key)
    vpc, subnets = plan.options.get("VpcId", ""), plan.options.get("SubnetIds", "")
    if not (vpc and subnets):
        vpc, subnets = at.default_network(cloud.client("ec2"))
    target = cloud.stack(plan.stack)
    change_set, changes = target.propose(plan.parameters(account=account, image=image, vpc=vpc, subnets=subnets))
    rows = [(change.action, change.name, change.type, change.replacement) for change in changes]
    print_table(f"Changes to {plan.stack}", ("action", "resource", "type", "replaced"), rows)
    return change_set if changes else None, target


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


def _show_plan(plan: Plan) -> None:
    out().print(f"Deployment of {plan.stack} (size {plan.size}) to {plan.region}. This is a dry run.\n")
    for number, step in enumerate(plan.steps(), 1):
        out().print(f"{number}. {step}", markup=False, soft_wrap=True)
    print_table("\nParameters", ("name", "value"), plan.parameters().items())
    print_table("\nResources", ("name", "type"), plan.resources())


def _show_outputs(outputs: dict[str, str]) -> None:
    for name, value in outputs.items():
        out().print(f"{name}: {value}", markup=False, soft_wrap=True)


def _region(given: str | None) -> str:
    import os

    region = given or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if not region:
        import boto3

        region = boto3.session.Session().region_name
    if not region:
        raise CommandError("no AWS region: use --region, e.g. --region eu-central-1, or set AWS_REGION")
    return region


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not (name and separator):
        raise CommandError(f"--set {text!r} is not NAME=VALUE, e.g. --set InstanceType=c7i.2xlarge")
    return name, value


def _now() -> str:
    from datetime import datetime, timezone

    return datetime.now(timezone.utc).strftime("%Y%m%d%H%M%S")
