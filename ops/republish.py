"""``holdfast republish``: publish stored events on the enriched bus again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from ops import options, screen
from ops.deployed import AwsStack, DeployedStack, keys
from ops.errors import CommandError

#: Where Lambda writes the stream records of events that could not be published after all retries.
FAILURES = "aws/lambda/"


@dataclass(frozen=True, slots=True)
class RepublishResult:
    """The result.

    Attributes:
        published: How many events the bus accepted.
        refused: The events that it did not accept.
        set_aside: Items that can never be published.
        removed: Objects of failed stream records that were published completely and deleted.
        kept: Objects of which the bus refused an event.
    """

    published: int = 0
    refused: tuple[str, ...] = ()
    set_aside: int = 0
    removed: int = 0
    kept: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the bus refused no event. An item that is no event was set aside: it cannot be published."""
        return not self.refused

    def __add__(self, other: RepublishResult) -> RepublishResult:
        """Both together."""
        return RepublishResult(
            self.published + other.published,
            self.refused + other.refused,
            self.set_aside + other.set_aside,
            self.removed + other.removed,
            self.kept + other.kept,
        )


def of_range(stack: DeployedStack, begin: datetime, end: datetime) -> RepublishResult:
    """Publish the events that were received in a range of time. A long range takes several invocations."""
    total, start_at = RepublishResult(), None
    with screen.errors().status("Publishing ...") as shown:
        while True:
            request = {"from": begin.isoformat(), "to": end.isoformat(), **({"startAt": start_at} if start_at else {})}
            answer = _invoke(stack, request)
            total += _read(answer)
            shown.update(f"Published {total.published:,} ...")
            if not (start_at := answer["startAt"]):
                return total


def of_failures(stack: DeployedStack, failures: Iterable[str]) -> RepublishResult:
    """Publish each failure, and delete its object unless the bus refused an event, which can be sent again."""
    total = RepublishResult()
    bucket = stack.outputs["ArchiveBucketName"]
    for key in failures:
        found = _read(_invoke(stack, {"failure": key}))
        if found.complete:
            stack.client("s3").delete_object(Bucket=bucket, Key=key)
            found += RepublishResult(removed=1)
        else:
            found += RepublishResult(kept=(key,))
        total += found
    return total


def _read(answer: Mapping[str, Any]) -> RepublishResult:
    return RepublishResult(answer["published"], tuple(answer["refused"]), answer["setAside"])


def _invoke(stack: DeployedStack, request: Mapping[str, Any]) -> Mapping[str, Any]:
    payload = json.dumps({"republish": request}).encode()
    answer = stack.client("lambda").invoke(FunctionName=stack.outputs["FanOutFunctionName"], Payload=payload)
    result: dict[str, Any] = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        raise CommandError(
            f"The fan-out failed with {result.get('errorType', 'an error')}. Nothing is lost; run the command again. "
            "Its log has the reason: holdfast status"
        )
    return result


def render(found: RepublishResult) -> RenderableType:
    """The numbers, and what the bus refused."""
    lines = [f"{found.published:,} events published"]
    lines += [f"{found.set_aside:,} items set aside: they can never be published (operations.md#items-set-aside)"] * (
        found.set_aside > 0
    )
    lines += [f"{found.removed:,} objects of failed publications deleted"] * (found.removed > 0)
    lines += [f"refused  {event_id}" for event_id in found.refused]
    lines += [f"kept     {key}" for key in found.kept]
    end = Text("The bus refused events. Run the command again.", style="red") if found.refused else Text("")
    return Group(*map(Text, lines), end)


def republish(
    begin: Annotated[str | None, typer.Option("--from", metavar="TIME", help="ISO 8601, UTC by default.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="By default now.")] = None,
    failures: Annotated[
        bool, typer.Option("--failures", help="Publish the records that Lambda could not publish.")
    ] = False,
    stack: options.Stack = options.DEFAULT_STACK,
    profile: options.Profile = None,
    region: options.Region = None,
    as_json: options.Json = False,
    yes: options.Yes = False,
) -> None:
    """Publish stored events again: those received in a range of time, or those that Lambda gave up on.

    Consumers recognise what they know by its eventId. Exit status 1: the bus refused an event.

    Example: holdfast republish --from 2026-11-23T08:00 --to 2026-11-23T09:00
    """
    with screen.exit_on_error():
        if failures is (begin is not None):
            raise CommandError("Give a range of time with --from and --to, or --failures.")
        deployed = AwsStack.named(stack, profile=profile, region=region)
        if failures:
            found = keys(deployed, FAILURES)
            screen.confirm(f"Publish {len(found)} objects of failed publications again?", yes=yes or not found)
            result = of_failures(deployed, found)
        else:
            span = screen.parse_time(str(begin)), screen.parse_time(end) if end else datetime.now(UTC)
            screen.confirm(
                f"Publish what was received from {span[0]:%Y-%m-%d %H:%M} to {span[1]:%Y-%m-%d %H:%M} (UTC) again?",
                yes=yes,
            )
            result = of_range(deployed, *span)
    screen.print_result(result, render, as_json=as_json)
    raise typer.Exit(0 if result.complete else 1)
