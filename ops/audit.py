"""``holdfast audit``: where events are, and whether any is lost. It only reads, and never receives a message.

For each event id the audit reads the table, the archive and the snapshots. An event in none of them can only be in a
queue, and SQS has no call that looks for a message, so the audit compares these events with the number of messages in
the queues. Events are lost if two looks find more events in no store than messages in the queues.

A message id is accepted too. A body that cannot be read has no id of its own, so its letter is found by its message.

A time range needs no ids. The audit compares the triage executions that started in it with the stores: a recovered
event must be in the table, an archived one in the archive or the table, and any other one in one of the stores.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from holdfast.domain.identity import to_event_id
from holdfast.domain.letters import SNAPSHOT_PREFIX
from holdfast.domain.replay import ARCHIVE_PREFIX
from ops import options, screen
from ops.deployed import AwsStack, DeployedStack, executions, keys
from ops.errors import CommandError
from ops.names import ExecutionName, compact, digests

#: SQS's message counts may be a minute old.
SECOND_LOOK_SECONDS = 60.0
#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
_READS_PER_CALL = 100
_READERS = 8
_DIGEST_ID = re.compile(r"sha256-[0-9a-f]{64}")
_QUEUED = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


class Place(StrEnum):
    """Where an event is. An event in several places counts for the first of them."""

    STORED = "stored"
    ARCHIVED = "archived"
    IN_TRIAGE = "in triage"
    IN_NO_STORE = "in no store"


@dataclass(frozen=True, slots=True)
class Location:
    """Where one event is.

    Attributes:
        event_id: The event.
        place: Its place.
        key: Its archive object or its snapshot.
        execution: The execution that is running for it, if it is in triage.
        found_as: The event id of its letter, if the id that was asked for is that of a message.
    """

    event_id: str
    place: Place
    key: str | None = None
    execution: str | None = None
    found_as: str | None = None


@dataclass(frozen=True, slots=True)
class Audit:
    """The result of an audit.

    Attributes:
        events: Where each event is.
        queued: Messages in both queues, in flight and delayed ones included.
        lost: How many events at least are in no store and cannot be in a queue.
        contradictions: One sentence for each execution whose outcome the stores contradict.
    """

    events: tuple[Location, ...]
    queued: int
    lost: int = 0
    contradictions: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing is lost and nothing is contradicted."""
        return not self.lost and not self.contradictions

    def at(self, place: Place) -> list[Location]:
        """The events in this place."""
        return [one for one in self.events if one.place is place]


@dataclass
class Auditor:
    """Looks for events in the stores of one stack. Each archive object is read once: its event id never changes."""

    stack: DeployedStack
    _archived: dict[str, str] = field(default_factory=dict)

    def locate(self, event_ids: Collection[str]) -> dict[str, Location]:
        """Find events in the stores.

        The stores are read in the order in which an event passes through them: an event that moves meanwhile is seen
        twice rather than never.
        """
        snapshot_keys = keys(self.stack, SNAPSHOT_PREFIX)
        snapshots = {_event_id_of_snapshot(key): key for key in snapshot_keys}
        archive_keys = keys(self.stack, ARCHIVE_PREFIX)
        archive = _by_digest(archive_keys)
        stored = self._find_stored(event_ids)
        archived = self._find_archived(set(event_ids) - stored, archive)
        in_triage = snapshots.keys() & set(event_ids) - stored - archived.keys()
        running = _by_digest(self._running_names()) if in_triage else {}

        def location(event_id: str) -> Location:
            if event_id in stored:
                return Location(event_id, Place.STORED)
            if event_id in archived:
                return Location(event_id, Place.ARCHIVED, archived[event_id])
            if event_id in in_triage:
                names = [name for digest in digests(event_id) for name in running.get(digest, ())]
                return Location(event_id, Place.IN_TRIAGE, snapshots[event_id], names[0] if names else None)
            return Location(event_id, Place.IN_NO_STORE)

        found = {event_id: location(event_id) for event_id in event_ids}
        unknown = {event_id for event_id, one in found.items() if one.place is Place.IN_NO_STORE}
        return found | self._locate_messages(unknown, [*archive_keys, *snapshot_keys])

    def _locate_messages(self, ids: Collection[str], held: Iterable[str]) -> dict[str, Location]:
        """Where the letters of messages with these ids are: the objects' names contain the message."""
        events = {
            wanted: self._event_id_of(key) for key in held for wanted in ids if _message_id_in(key) == compact(wanted)
        }
        located = self.locate(set(events.values())) if events else {}
        return {
            message: replace(located[event_id], event_id=message, found_as=event_id)
            for message, event_id in events.items()
        }

    def _event_id_of(self, key: str) -> str:
        return _event_id_of_snapshot(key) if key.startswith(SNAPSHOT_PREFIX) else self._read_event_id(key)

    def count_queued(self) -> int:
        """Messages in the buffer and the dead-letter queue: visible, in flight and delayed."""
        sqs, outputs = self.stack.client("sqs"), self.stack.outputs
        queues = [
            sqs.get_queue_attributes(QueueUrl=outputs[name], AttributeNames=list(_QUEUED))["Attributes"]
            for name in ("BufferQueueUrl", "DeadLetterQueueUrl")
        ]
        return sum(int(count) for counts in queues for count in counts.values())

    def of_events(
        self,
        event_ids: Collection[str],
        wait_seconds: float = SECOND_LOOK_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Audit:
        """Audit these events. If some seem lost, a second look after ``wait_seconds`` decides."""
        audit = self._audit_once(event_ids)
        if audit.lost:
            sleep(wait_seconds)
            second = self._audit_once([one.event_id for one in audit.at(Place.IN_NO_STORE)])
            located = tuple(one for one in audit.events if one.place is not Place.IN_NO_STORE)
            audit = Audit(located + second.events, second.queued, second.lost)
        return audit

    def of_range(self, begin: datetime, end: datetime) -> Audit:
        """Audit the events whose triage began in a time range: compare each outcome with the stores."""
        outcomes = self._outcomes(begin, end)
        found = self.locate({one["eventId"] for one in outcomes})
        objects = set(keys(self.stack, ARCHIVE_PREFIX))
        contradictions = (_contradiction(one, found[one["eventId"]], objects) for one in outcomes)
        return Audit(tuple(found.values()), self.count_queued(), contradictions=tuple(filter(None, contradictions)))

    def _audit_once(self, event_ids: Collection[str]) -> Audit:
        # The queues are counted first. An event that is in no store afterwards was in a queue then.
        queued = self.count_queued()
        audit = Audit(tuple(self.locate(event_ids).values()), queued)
        return Audit(audit.events, queued, max(0, len(audit.at(Place.IN_NO_STORE)) - queued))

    def _outcomes(self, begin: datetime, end: datetime) -> list[dict[str, Any]]:
        """``name``, ``status``, ``eventId`` and ``output`` of the executions that started in a range."""
        arns = []
        for execution in executions(self.stack):  # the newest first
            if execution["startDate"] < begin:
                break
            if execution["startDate"] < end:
                arns.append(execution["executionArn"])
        with ThreadPoolExecutor(_READERS) as pool:
            return list(pool.map(self._outcome, arns))

    def _outcome(self, arn: str) -> dict[str, Any]:
        execution = self.stack.client("stepfunctions").describe_execution(executionArn=arn)
        return {
            "name": execution["name"],
            "status": execution["status"],
            "eventId": json.loads(execution["input"])["eventId"],
            "output": json.loads(execution.get("output") or "{}"),
        }

    # -- stores --------------------------------------------------------------------------------------------------

    def _find_stored(self, event_ids: Collection[str]) -> set[str]:
        """The events that the table holds (strongly consistent)."""
        chunks = _chunks(sorted(event_ids), _READS_PER_CALL)
        with ThreadPoolExecutor(_READERS) as pool:
            return set().union(*pool.map(self._find_stored_chunk, chunks))

    def _find_stored_chunk(self, event_ids: Collection[str]) -> set[str]:
        table, dynamodb = self.stack.outputs["EventsTableName"], self.stack.client("dynamodb")
        request = {"Keys": [{"eventId": {"S": event_id}} for event_id in event_ids], "ConsistentRead": True}
        pending: dict[str, Any] = {table: request | {"ProjectionExpression": "eventId"}}
        held: set[str] = set()
        while pending:
            answer = dynamodb.batch_get_item(RequestItems=pending)
            held |= {item["eventId"]["S"] for item in answer["Responses"].get(table, [])}
            pending = answer.get("UnprocessedKeys") or {}
        return held

    def _find_archived(self, event_ids: Iterable[str], archive: Mapping[str, list[str]]) -> dict[str, str]:
        """The archive object of each event that has one. A name holds only a part of a digest, so objects are read."""
        return {
            event_id: key
            for event_id in sorted(event_ids)
            for digest in digests(event_id)
            for key in archive.get(digest, ())
            if self._read_event_id(key) == event_id
        }

    def _read_event_id(self, key: str) -> str:
        if key not in self._archived:
            bucket = self.stack.outputs["ArchiveBucketName"]
            body = self.stack.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
            self._archived[key] = json.loads(body)["eventId"]
        return self._archived[key]

    def _running_names(self) -> list[str]:
        return [execution["name"] for execution in executions(self.stack, statusFilter="RUNNING")]


def _contradiction(execution: Mapping[str, Any], found: Location, objects: Collection[str]) -> str | None:
    """How the stores contradict an execution."""
    name, status, output = execution["name"], execution["status"], execution["output"]
    outcome = output.get("outcome")
    if outcome == "RECOVERED" and found.place is not Place.STORED:
        return f"{name} ended as RECOVERED, but the table does not hold its event"
    if outcome == "ARCHIVED" and found.place is not Place.STORED and output["archive"]["key"] not in objects:
        return f"{name} ended as ARCHIVED, but its archive object does not exist"
    if outcome is None and found.place is Place.IN_NO_STORE:
        return f"{name} is {status}, but its event is in no store"
    return None


def _by_digest(names: Iterable[str]) -> dict[str, list[str]]:
    """Execution names, or archive keys that end with one, by the part of the digest in them."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if read := ExecutionName.read(name.rsplit("/", 1)[-1].removesuffix(".json")):
            found[read.digest].append(name)
    return found


def _event_id_of_snapshot(snapshot: str) -> str:
    return snapshot.split("/")[1]


def _message_id_in(key: str) -> str | None:
    """The message id in the key of a snapshot or of an archive object, without dashes."""
    name = key.rsplit("/", 1)[-1].removesuffix(".json")
    if key.startswith(SNAPSHOT_PREFIX):
        return compact(name)
    read = ExecutionName.read(name)
    return read.message if read else None


def _chunks(values: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (values[first : first + size] for first in range(0, len(values), size))


# -- the command ---------------------------------------------------------------------------------------------------


def render(audit: Audit, *, each: bool = False) -> RenderableType:
    """The numbers, and a line for each event that is not stored; with ``each`` for every event."""
    counts = Table.grid(padding=(0, 2, 0, 0))
    counts.add_column(justify="right")
    counts.add_row(f"{len(audit.events):,}", "events")
    for place in Place:
        counts.add_row(f"{len(audit.at(place)):,}", place)
    counts.add_row(f"{audit.queued:,}", "messages in the queues")
    lines = [_line(one) for one in audit.events if each or one.place is not Place.STORED]
    lines += [f"contradiction  {sentence}" for sentence in audit.contradictions]
    return Group(counts, *([""] if lines else []), *map(Text, lines), "", _conclusion(audit))


def _line(one: Location) -> str:
    where = {
        Place.ARCHIVED: one.key,
        Place.IN_TRIAGE: one.execution or "no execution: the sweep starts one",
    }.get(one.place)
    known_as = f"event {one.found_as}" if one.found_as else None
    return "  ".join(filter(None, (one.event_id, one.place, where, known_as)))


def _conclusion(audit: Audit) -> Text:
    if audit.lost:
        return Text(f"LOST: at least {audit.lost}", style="bold red")
    if audit.contradictions:
        return Text("The stores contradict the outcomes of executions.", style="bold red")
    if audit.at(Place.IN_NO_STORE):
        return Text("No loss was found: the queues hold at least as many messages as there are events in no store.")
    return Text("Nothing is lost.", style="green")


def audit(
    ids: Annotated[
        str | None, typer.Option("--ids", metavar="FILE", help="Event ids, one per line; - reads them.")
    ] = None,
    begin: Annotated[str | None, typer.Option("--from", metavar="TIME", help="ISO 8601, UTC by default.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="By default now.")] = None,
    each: Annotated[bool, typer.Option("--each", help="Print a line for every event.")] = False,
    stack: options.Stack = options.DEFAULT_STACK,
    profile: options.Profile = None,
    region: options.Region = None,
    as_json: options.Json = False,
) -> None:
    """Show where each event of a list is, or check the triage of a time range. It only reads.

    Exit status 1: events are lost, or the stores contradict an execution.

    Example: holdfast audit --ids ids.txt
    """
    with screen.exit_on_error():
        wanted, span = _scope(ids, begin, end)
        auditor = Auditor(AwsStack.named(stack, profile=profile, region=region))
        with screen.errors().status("Reading the table, the archive and the snapshots ..."):
            result = auditor.of_range(*span) if span else auditor.of_events(wanted, sleep=_second_look)
    screen.print_result(result, lambda found: render(found, each=each), as_json=as_json)
    raise typer.Exit(0 if result.passed else 1)


def _second_look(seconds: float) -> None:
    screen.errors().print(f"Some events are in no store. The second look follows in {seconds:.0f} s.")
    time.sleep(seconds)


def _scope(ids: str | None, begin: str | None, end: str | None) -> tuple[set[str], tuple[datetime, datetime] | None]:
    """The ids, or the range of time.

    Raises:
        CommandError: Neither or both were given, or one cannot be read.
    """
    if (ids is None) is (begin is None):
        raise CommandError("Give the events with --ids FILE, or a range of time with --from and --to.")
    if begin is None:
        return _event_ids(str(ids)), None
    return set(), (screen.parse_time(begin), screen.parse_time(end) if end else datetime.now(UTC))


def _event_ids(name: str) -> set[str]:
    try:
        lines = list(sys.stdin) if name == "-" else Path(name).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"The ids cannot be read from {name}: {error}") from None
    ids = {line.strip() for line in lines} - {""}
    return set(map(as_event_id, ids))


def as_event_id(text: str) -> str:
    """The event id of what a person has: an event id, or the id that the producer gave the event."""
    return text if _DIGEST_ID.fullmatch(text) else to_event_id(text)
