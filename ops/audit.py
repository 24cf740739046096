"""``make audit``: where events are, and whether any is lost. It only reads, and never receives a message.

    python -m ops.audit --stack holdfast --ids ids.txt         event ids, one per line (-: standard input)
    python -m ops.audit --stack holdfast --from 2026-11-23T08:00 --to 2026-11-23T09:00

For each event id the audit reads the table, the archive and the snapshots. An event in none of them can only be in a
queue, and SQS has no call that looks for a message, so the audit compares these events with the number of messages in
the queues. Events are lost if two looks find them in no store while the queues hold fewer messages.

A time range needs no ids. The audit compares the triage executions that started in it with the stores: a recovered
event must be in the table, an archived one in the archive, and any other one must have a snapshot.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from holdfast.domain.identity import to_event_id
from holdfast.domain.letters import SNAPSHOT_PREFIX
from holdfast.domain.replay import ARCHIVE_PREFIX
from ops.deployed import AwsStack, DeployedStack, executions, keys

#: SQS's message counts may be a minute old.
SECOND_LOOK_SECONDS = 60.0
SHOWN = 20
#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
_READS_PER_CALL = 100
_READERS = 8
_DIGEST_ID = re.compile(r"sha256-[0-9a-f]{64}")
#: Execution names hold a part of the event id's digest: :mod:`holdfast.domain.identity`, :mod:`holdfast.domain.replay`.
_EXECUTION = re.compile(r"(?:replay-[0-9a-f]{16}-([0-9a-f]{32})|.*-([0-9a-f]{16})-[0-9A-Za-z]{1,32})(?:-g\d+)?")
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
    """

    event_id: str
    place: Place
    key: str | None = None
    execution: str | None = None


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
    """Looks for events in the stores of one stack. Archive objects never change, so each is read once."""

    stack: DeployedStack
    _archived: dict[str, str] = field(default_factory=dict)

    def locate(self, event_ids: Collection[str]) -> dict[str, Location]:
        """Find events in the stores.

        The stores are read in the order in which an event passes through them: an event that moves meanwhile is seen
        twice rather than never.
        """
        snapshots = {key.split("/")[1]: key for key in keys(self.stack, SNAPSHOT_PREFIX)}
        archive = _by_digest(keys(self.stack, ARCHIVE_PREFIX))
        stored = self._stored(event_ids)
        archived = self._in_archive(set(event_ids) - stored, archive)
        in_triage = snapshots.keys() & set(event_ids) - stored - archived.keys()
        running = _by_digest(self._running()) if in_triage else {}

        def location(event_id: str) -> Location:
            if event_id in stored:
                return Location(event_id, Place.STORED)
            if event_id in archived:
                return Location(event_id, Place.ARCHIVED, archived[event_id])
            if event_id in in_triage:
                names = [name for digest in _digests(event_id) for name in running.get(digest, ())]
                return Location(event_id, Place.IN_TRIAGE, snapshots[event_id], names[0] if names else None)
            return Location(event_id, Place.IN_NO_STORE)

        return {event_id: location(event_id) for event_id in event_ids}

    def queued(self) -> int:
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
        audit = self._look(event_ids)
        if audit.lost:
            sleep(wait_seconds)
            second = self._look([one.event_id for one in audit.at(Place.IN_NO_STORE)])
            located = tuple(one for one in audit.events if one.place is not Place.IN_NO_STORE)
            audit = Audit(located + second.events, second.queued, second.lost)
        return audit

    def of_range(self, begin: datetime, end: datetime) -> Audit:
        """Audit the events whose triage began in a time range: compare each outcome with the stores."""
        outcomes = self._outcomes(begin, end)
        found = self.locate({one["eventId"] for one in outcomes})
        objects = set(keys(self.stack, ARCHIVE_PREFIX))
        contradictions = (_contradiction(one, found[one["eventId"]], objects) for one in outcomes)
        return Audit(tuple(found.values()), self.queued(), contradictions=tuple(filter(None, contradictions)))

    def _look(self, event_ids: Collection[str]) -> Audit:
        # The queues are counted first. An event that is in no store afterwards was in a queue then.
        queued = self.queued()
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

    def _stored(self, event_ids: Collection[str]) -> set[str]:
        """The events that the table holds (strongly consistent)."""
        chunks = _chunks(sorted(event_ids), _READS_PER_CALL)
        with ThreadPoolExecutor(_READERS) as pool:
            return set().union(*pool.map(self._stored_chunk, chunks))

    def _stored_chunk(self, event_ids: Collection[str]) -> set[str]:
        table, dynamodb = self.stack.outputs["EventsTableName"], self.stack.client("dynamodb")
        request = {"Keys": [{"eventId": {"S": event_id}} for event_id in event_ids], "ConsistentRead": True}
        pending: dict[str, Any] = {table: request | {"ProjectionExpression": "eventId"}}
        held: set[str] = set()
        while pending:
            answer = dynamodb.batch_get_item(RequestItems=pending)
            held |= {item["eventId"]["S"] for item in answer["Responses"].get(table, [])}
            pending = answer.get("UnprocessedKeys") or {}
        return held

    def _in_archive(self, event_ids: Iterable[str], archive: Mapping[str, list[str]]) -> dict[str, str]:
        """The archive object of each event that has one. A name holds only a part of a digest, so objects are read."""
        return {
            event_id: key
            for event_id in sorted(event_ids)
            for digest in _digests(event_id)
            for key in archive.get(digest, ())
            if self._event_id_in(key) == event_id
        }

    def _event_id_in(self, key: str) -> str:
        if key not in self._archived:
            bucket = self.stack.outputs["ArchiveBucketName"]
            body = self.stack.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
            self._archived[key] = json.loads(body)["eventId"]
        return self._archived[key]

    def _running(self) -> list[str]:
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


def _digests(event_id: str) -> tuple[str, str]:
    """The parts of an event's digest that execution names hold: the intake's, and a replay's."""
    digest = hashlib.sha256(event_id.encode()).hexdigest()
    return digest[:16], digest[:32]


def _by_digest(names: Iterable[str]) -> dict[str, list[str]]:
    """Execution names, or archive keys that end with one, by the part of the digest in them."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if match := _EXECUTION.fullmatch(name.rsplit("/", 1)[-1].removesuffix(".json")):
            found[match[1] or match[2]].append(name)
    return found


def _chunks(values: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (values[first : first + size] for first in range(0, len(values), size))


# -- the command ---------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Audit and print the result. Returns 0 if it passed, 1 if not, 2 if the stack or the ids cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m ops.audit", description="Find out where events are.")
    scope = parser.add_mutually_exclusive_group(required=True)
    scope.add_argument("--ids", metavar="FILE", help="event ids, one per line; - is standard input")
    scope.add_argument("--from", dest="begin", type=_time, metavar="TIME", help="ISO 8601, UTC by default")
    parser.add_argument("--to", dest="end", type=_time, metavar="TIME", help="by default now")
    parser.add_argument("--stack", default="holdfast", help="the stack's name")
    parser.add_argument("--wait", type=float, default=SECOND_LOOK_SECONDS, help="seconds before the second look")
    parser.add_argument("--json", action="store_true", help="print every event, as JSON")
    options = parser.parse_args(arguments)
    try:
        auditor = Auditor(AwsStack.named(options.stack))
        if options.begin:
            audit = auditor.of_range(options.begin, options.end or datetime.now(UTC))
        else:
            audit = auditor.of_events(_event_ids(options.ids), options.wait)
    except (BotoCoreError, ClientError, OSError) as err:
        print(f"The audit cannot read the stack '{options.stack}' or the ids: {err}", file=sys.stderr)
        print(
            "Check the name, the region and the credentials. For the local stack: make up, . .local/env",
            file=sys.stderr,
        )
        return 2
    print(json.dumps(asdict(audit) | {"passed": audit.passed}, indent=2) if options.json else report(audit))
    return 0 if audit.passed else 1


def report(audit: Audit) -> str:
    """An audit as text."""
    lines = [f"{len(audit.events)} events"]
    lines += [f"  {len(audit.at(place)):>7} {place}" for place in Place]
    lines += [f"  {audit.queued:>7} messages in the queues"]
    in_no_store = audit.at(Place.IN_NO_STORE)
    if in_no_store and not audit.lost:
        lines.append("The events that are in no store can be in the queues.")
    for one in audit.at(Place.IN_TRIAGE)[:SHOWN]:
        lines.append(f"in triage: {one.event_id} ({one.execution or 'no execution: the sweep starts one'})")
    lines += [f"in no store: {one.event_id}" for one in in_no_store[:SHOWN]]
    lines += [f"contradiction: {sentence}" for sentence in audit.contradictions[:SHOWN]]
    lines.append(f"LOST: at least {audit.lost}" if audit.lost else "Nothing is lost.")
    return "\n".join(lines)


def _event_ids(name: str) -> set[str]:
    lines = sys.stdin if name == "-" else Path(name).read_text().splitlines()
    ids = {line.strip() for line in lines} - {""}
    return {text if _DIGEST_ID.fullmatch(text) else to_event_id(text) for text in ids}


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


if __name__ == "__main__":
    sys.exit(main())
