"""``make audit``: where events are, and whether any is lost. It only reads, and never receives a message.

It asks AWS and nothing else, so it works on the local stack and on a deployed one:

    make audit IDS=ids.txt                           event ids, one a line (``-``: standard input)
    make audit IDS=ids.txt STACK=holdfast            on AWS, with the credentials of your shell
    make audit FROM=2026-11-23T08:00 TO=2026-11-23T09:00

An event that is stored counts as stored, one that is archived as archived, one whose evidence is in the bucket as in
triage. What is in none of them can only be in a queue, and SQS has no way to look for it there: it is compared with
what the queues hold. Loss is what two looks in a row find nowhere while the queues hold less than that.

A range of time needs no ids. It checks the stores against each other: an execution that ended as recovered has its
event in the table, one that ended as archived its object in the archive, one that ended otherwise its evidence.
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
from typing import Any, Protocol

import boto3

from holdfast.domain.identity import to_event_id
from holdfast.domain.letters import SNAPSHOT_PREFIX
from holdfast.domain.replay import ARCHIVE_PREFIX
from local.background import running
from local.errors import LocalError
from local.stack import Stack, describe

#: SQS's counts may be a minute old.
AGAIN_SECONDS = 60.0
SHOWN = 20
#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
_READS_PER_CALL = 100
_READERS = 8
_EVENT_ID = re.compile(r"sha256-[0-9a-f]{64}")
#: What an execution's name says of its letter: :mod:`holdfast.domain.identity` and :mod:`holdfast.domain.replay`.
_EXECUTION = re.compile(r"(?:replay-[0-9a-f]{16}-([0-9a-f]{32})|.*-([0-9a-f]{16})-[0-9A-Za-z]{1,32})(?:-g\d+)?")
_QUEUED = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


class Deployed(Protocol):
    """A deployed stack, here or on AWS."""

    @property
    def outputs(self) -> Mapping[str, str]:
        """The stack's outputs."""

    def client(self, service: str) -> Any:
        """A boto3 client."""


@dataclass(frozen=True, slots=True)
class OnAws:
    """A stack on AWS, seen with the credentials of the environment."""

    outputs: Mapping[str, str]

    @classmethod
    def named(cls, stack: str) -> OnAws:
        """Look the stack up by its name."""
        (found,) = boto3.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        return cls({output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])})

    def client(self, service: str) -> Any:
        """A boto3 client."""
        return boto3.client(service)  # type: ignore[call-overload]  # the name is no literal


class Place(StrEnum):
    """Where an event is, in the order of precedence: a copy further down is no harm."""

    STORED = "stored"
    ARCHIVED = "archived"
    IN_TRIAGE = "in triage"
    UNLOCATED = "in no store"


@dataclass(frozen=True, slots=True)
class Found:
    """One event. ``at`` names the archive object or the evidence, ``execution`` who works on it."""

    event_id: str
    place: Place
    at: str | None = None
    execution: str | None = None


@dataclass(frozen=True, slots=True)
class Audit:
    """One audit.

    Attributes:
        found: Every event that was asked about.
        queued: Messages in both queues, in flight and delayed ones too.
        lost: How many events at least are in no store and cannot be in a queue.
        faults: What the stores contradict each other in, one sentence each.
    """

    found: tuple[Found, ...]
    queued: int
    lost: int = 0
    faults: tuple[str, ...] = ()

    @property
    def right(self) -> bool:
        """Whether nothing is lost and nothing contradicts itself."""
        return not self.lost and not self.faults

    def at(self, place: Place) -> list[Found]:
        """The events that are there."""
        return [one for one in self.found if one.place is place]


@dataclass
class Auditor:
    """Looks into the stores of one stack. Archive objects never change, so each is read once."""

    deployed: Deployed
    _archived: dict[str, str] = field(default_factory=dict)

    def locate(self, event_ids: Collection[str]) -> dict[str, Found]:
        """Find letters in the stores.

        The places are read in the order in which an event goes through them, so that one that moves meanwhile is seen
        twice rather than never.
        """
        evidence = self._evidence()
        archive = _by_digest(
            keys(self.deployed, ARCHIVE_PREFIX), lambda key: key.rsplit("/", 1)[-1].removesuffix(".json")
        )
        stored = self._stored(event_ids)
        rest = [letter for letter in event_ids if letter not in stored]
        archived = self._confirmed(rest, archive)
        workers = _by_digest(self._running(), str) if evidence.keys() & set(rest) - archived.keys() else {}
        found = {letter: Found(letter, Place.STORED) for letter in stored}
        for letter in rest:
            if letter in archived:
                found[letter] = Found(letter, Place.ARCHIVED, archived[letter])
            elif letter in evidence:
                names = [name for digest in _digests(letter) for name in workers.get(digest, ())]
                found[letter] = Found(letter, Place.IN_TRIAGE, evidence[letter], names[0] if names else None)
            else:
                found[letter] = Found(letter, Place.UNLOCATED)
        return found

    def queued(self) -> int:
        """Messages in the buffer and the dead-letter queue: visible, in flight and delayed."""
        sqs, outputs = self.deployed.client("sqs"), self.deployed.outputs
        return sum(
            int(count)
            for name in ("BufferQueueUrl", "DeadLetterQueueUrl")
            for count in sqs.get_queue_attributes(QueueUrl=outputs[name], AttributeNames=list(_QUEUED))[
                "Attributes"
            ].values()
        )

    def of_events(
        self, event_ids: Collection[str], again: float = AGAIN_SECONDS, sleep: Callable[[float], None] = time.sleep
    ) -> Audit:
        """Audit these letters: a second look, ``again`` seconds later, decides on what the first one misses."""
        audit = self._look(event_ids)
        if audit.lost:
            sleep(again)
            missed = self._look([one.event_id for one in audit.at(Place.UNLOCATED)])
            located = tuple(one for one in audit.found if one.place is not Place.UNLOCATED)
            audit = Audit(located + missed.found, missed.queued, missed.lost)
        return audit

    def of_range(self, begin: datetime, end: datetime) -> Audit:
        """Audit the letters whose triage began in a range of time, and hold its outcomes against the stores."""
        told = self._told(begin, end)
        found = self.locate({one["eventId"] for one in told})
        objects = set(keys(self.deployed, ARCHIVE_PREFIX))
        faults = [fault for one in told if (fault := _contradiction(one, found[one["eventId"]], objects))]
        return Audit(tuple(found.values()), self.queued(), faults=tuple(faults))

    def _look(self, event_ids: Collection[str]) -> Audit:
        # What is in no store now was in a queue when these were counted: nothing moves back into a queue alone.
        queued = self.queued()
        found = self.locate(event_ids)
        unlocated = sum(one.place is Place.UNLOCATED for one in found.values())
        return Audit(tuple(found.values()), queued, max(0, unlocated - queued))

    def _told(self, begin: datetime, end: datetime) -> list[dict[str, Any]]:
        """What the executions of a range tell of their letters: ``name``, ``status``, ``eventId``, ``output``."""
        arns = []
        for execution in executions(self.deployed):  # the newest first
            if execution["startDate"] < begin:
                break
            if execution["startDate"] < end:
                arns.append(execution["executionArn"])
        with ThreadPoolExecutor(_READERS) as pool:
            return list(pool.map(self._describe, arns))

    def _describe(self, arn: str) -> dict[str, Any]:
        told = self.deployed.client("stepfunctions").describe_execution(executionArn=arn)
        output = json.loads(told.get("output") or "{}")
        letter = json.loads(told["input"])["eventId"]
        return {"name": told["name"], "status": told["status"], "eventId": letter, "output": output}

    # -- stores --------------------------------------------------------------------------------------------------

    def _stored(self, event_ids: Collection[str]) -> set[str]:
        """Which of them the events table holds (strongly consistent)."""
        chunks = _chunks(sorted(event_ids), _READS_PER_CALL)
        with ThreadPoolExecutor(_READERS) as pool:
            return set().union(*pool.map(self._stored_chunk, chunks))

    def _stored_chunk(self, event_ids: Collection[str]) -> set[str]:
        table, dynamodb = self.deployed.outputs["EventsTableName"], self.deployed.client("dynamodb")
        asked = {"Keys": [{"eventId": {"S": letter}} for letter in event_ids], "ConsistentRead": True}
        pending: dict[str, Any] = {table: asked | {"ProjectionExpression": "eventId"}}
        held: set[str] = set()
        while pending:
            answer = dynamodb.batch_get_item(RequestItems=pending)
            held |= {item["eventId"]["S"] for item in answer["Responses"].get(table, [])}
            pending = answer.get("UnprocessedKeys") or {}
        return held

    def _evidence(self) -> dict[str, str]:
        """The newest key of each letter's evidence."""
        return {key.split("/")[1]: key for key in keys(self.deployed, SNAPSHOT_PREFIX)}

    def _confirmed(self, event_ids: Iterable[str], archive: Mapping[str, list[str]]) -> dict[str, str]:
        """The archive's object of each letter that has one. A name holds a part of a hash only: the object decides."""
        places = {
            letter: key
            for letter in event_ids
            for digest in _digests(letter)
            for key in archive.get(digest, ())
            if self._letter_in(key) == letter
        }
        return dict(sorted(places.items()))

    def _letter_in(self, key: str) -> str:
        if key not in self._archived:
            bucket = self.deployed.outputs["ArchiveBucketName"]
            body = self.deployed.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
            self._archived[key] = json.loads(body)["eventId"]
        return self._archived[key]

    def _running(self) -> list[str]:
        return [execution["name"] for execution in executions(self.deployed, statusFilter="RUNNING")]


def keys(deployed: Deployed, prefix: str) -> list[str]:
    """The keys in the archive bucket below a prefix."""
    pages = deployed.client("s3").get_paginator("list_objects_v2")
    found = pages.paginate(Bucket=deployed.outputs["ArchiveBucketName"], Prefix=prefix)
    return [entry["Key"] for page in found for entry in page.get("Contents", [])]


def executions(deployed: Deployed, **asked: str) -> Iterator[dict[str, Any]]:
    """Triage executions, the newest first."""
    pages = deployed.client("stepfunctions").get_paginator("list_executions")
    for page in pages.paginate(stateMachineArn=deployed.outputs["TriageStateMachineArn"], **asked):
        yield from page["executions"]


def _contradiction(told: Mapping[str, Any], found: Found, objects: Collection[str]) -> str | None:
    """What an execution tells and the stores deny."""
    outcome, kept = told["output"].get("outcome"), found.place
    if outcome == "RECOVERED" and kept is not Place.STORED:
        return f"{told['name']} recovered its event, and the table does not hold it"
    if outcome == "ARCHIVED" and kept is not Place.STORED and told["output"]["archive"]["key"] not in objects:
        return f"{told['name']} archived its letter, and the object is not there"
    if outcome is None and kept is Place.UNLOCATED:
        return f"{told['name']} is {told['status']}, and its letter is in no store"
    return None


def _digests(letter: str) -> tuple[str, str]:
    """What names of executions hold of a letter: the one from the intake, and the one from a replay."""
    digest = hashlib.sha256(letter.encode()).hexdigest()
    return digest[:16], digest[:32]


def _by_digest(things: Iterable[str], name_of: Callable[[str], str]) -> dict[str, list[str]]:
    """Names of executions, or what is named after them, by what they hold of their letter."""
    found: dict[str, list[str]] = defaultdict(list)
    for thing in things:
        if match := _EXECUTION.fullmatch(name_of(thing)):
            found[match[1] or match[2]].append(thing)
    return found


def _chunks(values: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (values[first : first + size] for first in range(0, len(values), size))


# -- the program ---------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Audit and say so: 0 if nothing is lost, 1 if something is."""
    parser = argparse.ArgumentParser(prog="python -m local.audit", description="Where events are, and what is lost.")
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--ids", metavar="FILE", help="event ids, one a line; - is standard input")
    asked.add_argument("--from", dest="begin", type=_moment, metavar="TIME", help="ISO 8601, UTC unless it says else")
    parser.add_argument("--to", dest="end", type=_moment, metavar="TIME", help="now, unless it is given")
    parser.add_argument("--stack", help="a stack on AWS; without it the local one, that make up started")
    parser.add_argument("--again", type=float, default=AGAIN_SECONDS, help="seconds until a second look")
    parser.add_argument("--json", action="store_true", help="print every event, as JSON")
    options = parser.parse_args(arguments)
    try:
        auditor = Auditor(OnAws.named(options.stack) if options.stack else _local())
    except LocalError as err:
        print(err, file=sys.stderr)
        return 2
    if options.begin:
        audit = auditor.of_range(options.begin, options.end or datetime.now(UTC))
    else:
        audit = auditor.of_events(_event_ids(options.ids), options.again)
    print(json.dumps(asdict(audit) | {"right": audit.right}, indent=2) if options.json else told(audit))
    return 0 if audit.right else 1


def told(audit: Audit) -> str:
    """An audit in words."""
    lines = [f"{len(audit.found)} events"]
    lines += [f"  {len(audit.at(place)):>7} {place}" for place in Place]
    lines += [f"  {audit.queued:>7} messages in the queues, of whatever event"]
    unlocated = audit.at(Place.UNLOCATED)
    if unlocated and not audit.lost:
        lines.append("What is in no store is not more than the queues hold.")
    for one in audit.at(Place.IN_TRIAGE)[:SHOWN]:
        lines.append(f"in triage: {one.event_id} ({one.execution or 'no execution: the daily sweep adopts it'})")
    for one in unlocated[:SHOWN]:
        lines.append(f"in no store: {one.event_id}")
    lines += [f"wrong: {fault}" for fault in audit.faults[:SHOWN]]
    lines.append(f"LOST: at least {audit.lost}" if audit.lost else "Nothing is lost.")
    return "\n".join(lines)


def _event_ids(name: str) -> set[str]:
    lines = sys.stdin if name == "-" else Path(name).read_text().splitlines()
    ids = {line.strip() for line in lines} - {""}
    return {event if _EVENT_ID.fullmatch(event) else to_event_id(event) for event in ids}


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _local() -> Stack:
    state = running()
    if state is None:
        raise LocalError("Nothing is running here: start it with make up, or name a stack on AWS.")
    return describe(state.endpoint, state.stack)


if __name__ == "__main__":
    sys.exit(main())
