"""``holdfast show``: one event, from its first receive to where it is now."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from ops import options, screen
from ops.audit import Auditor, Location, Place, as_event_id
from ops.crashes import crash_reasons
from ops.deployed import AwsStack, DeployedStack, execution_arn, history
from ops.errors import CommandError
from ops.execution_report import steps
from ops.log_query import LogQuery
from ops.names import ArchiveKey, ExecutionName

#: Step Functions keeps an execution that has ended for 90 days.
_HISTORY = timedelta(days=90)
_READERS = 8
_EXECUTIONS = "filter eventId = '{event_id}' and message = 'verdict' | stats count(*) as verdicts by execution"
_PLACES = (
    "the events table, the attempts table, the snapshots, the archive, the running executions and the log of Classify"
)


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One line of the timeline: when, what, and what came of it. Without anything of the event."""

    at: datetime
    what: str
    result: str


@dataclass(frozen=True, slots=True)
class EventReport:
    """All that is known of one event.

    Attributes:
        event_id: The event.
        place: Where it is now.
        key: Its archive object or its newest snapshot.
        executions: Its triage executions, the oldest first.
        timeline: What happened, the oldest first.
    """

    event_id: str
    place: Place
    key: str | None
    executions: Sequence[str]
    timeline: Sequence[TimelineEntry]

    @property
    def settled(self) -> bool:
        """Whether the event is stored or archived."""
        return self.place in {Place.STORED, Place.ARCHIVED}


@dataclass(frozen=True, slots=True)
class _Execution:
    name: str
    started: datetime
    steps: Sequence[TimelineEntry]


def read(stack: DeployedStack, wanted: str, now: datetime) -> EventReport:
    """Find an event by its id, the id of a message, or the name of a triage execution.

    Raises:
        CommandError: It is nowhere.
    """
    located = _locate(stack, wanted)
    event_id = located.found_as or located.event_id
    with ThreadPoolExecutor(_READERS) as pool:
        item = pool.submit(_stored, stack, event_id)
        attempts = pool.submit(_attempts, stack, event_id)
        names = _execution_names(stack, event_id, located, now)
        found = sorted(filter(None, pool.map(lambda name: _execution(stack, name), names)), key=lambda one: one.started)
        timeline = [*item.result(), *attempts.result(), *(entry for one in found for entry in one.steps)]
    if located.place is Place.IN_NO_STORE and not timeline:
        raise CommandError(
            f"'{wanted}' is in none of these: {_PLACES}. A message in a queue cannot be looked up by its id."
        )
    timeline.sort(key=lambda entry: entry.at)
    return EventReport(event_id, located.place, located.key, [one.name for one in found], timeline)


def _locate(stack: DeployedStack, wanted: str) -> Location:
    named = _event_of_execution(stack, wanted) if ExecutionName.read(wanted) else None
    event_id = named or as_event_id(wanted)
    return Auditor(stack).locate({event_id})[event_id]


def _event_of_execution(stack: DeployedStack, name: str) -> str | None:
    described = _describe(stack, name)
    return json.loads(described["input"]).get("eventId") if described else None


def _describe(stack: DeployedStack, name: str) -> Mapping[str, Any] | None:
    client = stack.client("stepfunctions")
    try:
        found: Mapping[str, Any] = client.describe_execution(executionArn=execution_arn(stack, name))
    except client.exceptions.ExecutionDoesNotExist:
        return None
    return found


def _execution_names(stack: DeployedStack, event_id: str, located: Location, now: datetime) -> list[str]:
    """The names of the event's executions: in the log of Classify, the running one, and the one that archived it."""
    query = LogQuery(["classify"], _EXECUTIONS.format(event_id=event_id), now - _HISTORY, now + timedelta(minutes=5))
    logged = [row["execution"] for row in query.rows(stack) or () if row.get("execution")]
    archived = ArchiveKey.read(located.key or "")
    others = (located.execution, archived.execution if archived else None)
    return list(dict.fromkeys(filter(None, (*logged, *others))))


def _execution(stack: DeployedStack, name: str) -> _Execution | None:
    described = _describe(stack, name)
    if described is None:
        return None
    path = steps(history(stack, execution_arn(stack, name)))
    started = described["startDate"].astimezone(UTC)
    shown = [TimelineEntry(one.at.astimezone(UTC), one.state, Text.from_markup(one.explanation).plain) for one in path]
    begin = TimelineEntry(started, "dead letter", f"triage started: {name}")
    return _Execution(name, started, [begin, *shown])


def _stored(stack: DeployedStack, event_id: str) -> list[TimelineEntry]:
    answer = stack.client("dynamodb").get_item(
        TableName=stack.outputs["EventsTableName"],
        Key={"eventId": {"S": event_id}},
        ProjectionExpression="receivedAt, detailType",
        ConsistentRead=True,
    )
    item = answer.get("Item")
    if not item:
        return []
    return [
        TimelineEntry(
            screen.parse_time(item["receivedAt"]["S"]), "stored", f"in the events table: {item['detailType']['S']}"
        )
    ]


def _attempts(stack: DeployedStack, event_id: str) -> list[TimelineEntry]:
    """The receives that have an attempt record. If a worker died, the result says what Lambda logged."""
    pages = stack.client("dynamodb").get_paginator("query")
    found = pages.paginate(
        TableName=stack.outputs["AttemptsTableName"],
        KeyConditionExpression="eventId = :event",
        ExpressionAttributeValues={":event": {"S": event_id}},
    )
    attempts = [one for page in found for item in page["Items"] if (one := _Attempt.read(item))]
    reasons = crash_reasons(stack, {one.request_id: one.at for one in attempts if one.crashed})
    messages = [one.message_id for one in attempts]
    return [
        TimelineEntry(
            one.at,
            f"receive {one.count}",
            f"{one.result(reasons)}" + ("" if one.message_id == previous else f" (message {one.message_id})"),
        )
        for one, previous in zip(attempts, ["", *messages], strict=False)
    ]


@dataclass(frozen=True, slots=True)
class _Attempt:
    at: datetime
    message_id: str
    count: str
    status: str
    request_id: str
    category: str
    error: str

    @classmethod
    def read(cls, item: Mapping[str, Any]) -> _Attempt | None:
        """Read an item; ``None`` if another version wrote it in another form."""
        message_id, _, count = item["attempt"]["S"].rpartition("#")
        if "at" not in item or not count.isdecimal():
            return None
        texts = [item.get(name, {}).get("S", "") for name in ("status", "requestId", "category", "errorMessage")]
        return cls(screen.parse_time(item["at"]["S"]), message_id, count, *texts)

    @property
    def crashed(self) -> bool:
        """Whether no result was written. The worker may also still be processing it."""
        return self.status == "started" and bool(self.request_id)

    def result(self, reasons: Mapping[str, str]) -> str:
        """The status, and what is known of the failure."""
        known = (f"{self.status} {self.category}".strip(), self.error, reasons.get(self.request_id, ""))
        return ": ".join(filter(None, known))


def message_of(stack: DeployedStack, report: EventReport) -> str:
    """The exact body of the event's newest snapshot or archive object.

    Raises:
        CommandError: There is none.
    """
    if not report.key:
        raise CommandError("The event has no snapshot and no archive object, so its exact message is not kept.")
    try:
        answer = stack.client("s3").get_object(Bucket=stack.outputs["ArchiveBucketName"], Key=report.key)
    except stack.client("s3").exceptions.NoSuchKey:
        raise CommandError("The object of the message was deleted meanwhile. Run the command again.") from None
    body: str = json.loads(answer["Body"].read())["message"]["body"]
    return body


def render(report: EventReport, now: datetime) -> RenderableType:
    """Where the event is, and its timeline."""
    colour = "green" if report.place is Place.STORED else "yellow"
    hint = " now, so it is in a queue or was removed" if report.place is Place.IN_NO_STORE else ""
    title = Text.assemble(("event ", "dim"), (report.event_id, "bold"), "  ", (f"{report.place}{hint}", colour))
    lines: list[RenderableType] = [title]
    lines += [Text.assemble(("object  ", "dim"), report.key)] if report.key else []
    lines += [Text.assemble(("execution  ", "dim"), name) for name in report.executions]
    table = screen.table("time", "", "what", "result")
    for entry in report.timeline:
        table.add_row(screen.local_time(entry.at, now), screen.ago(entry.at, now), entry.what, Text(entry.result))
    return Group(*lines, "", table)


def show(
    wanted: Annotated[str, typer.Argument(metavar="ID", help="An event id, a message id, or an execution's name.")],
    message: Annotated[
        bool, typer.Option("--message", help="Print the exact message instead; it is personal data.")
    ] = False,
    stack: options.Stack = options.DEFAULT_STACK,
    profile: options.Profile = None,
    region: options.Region = None,
    as_json: options.Json = False,
    yes: options.Yes = False,
) -> None:
    """Show one event: its receives, verdicts, waits and redrives, and where it is now. Without its content.

    Exit status 1: the event is neither stored nor archived.

    Example: holdfast show 0b7c9a3e-5a55-4c0e-9f5c-5f3a6b7c8d9e
    """
    now = datetime.now(UTC)
    with screen.exit_on_error():
        deployed = AwsStack.named(stack, profile=profile, region=region)
        with screen.errors().status("Reading tables, objects, executions and logs ..."):
            report = read(deployed, wanted, now)
        if message:
            screen.confirm("The message is personal data. Print it?", yes=yes)
            typer.echo(message_of(deployed, report))
            return
    screen.print_result(report, lambda found: render(found, now), as_json=as_json)
    raise typer.Exit(0 if report.settled else 1)
