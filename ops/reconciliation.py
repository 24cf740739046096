"""Reconciliation by identity: every event that was sent is stored, archived or in progress, or it is lost.

An event may be in several places at once: a copy was delivered, or the previous owner has not released it yet. It
counts once, and stored comes before archived, archived before in progress.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from holdfast.domain.envelope import examine
from holdfast.domain.letters import SNAPSHOT_PREFIX
from holdfast.domain.replay import ARCHIVE_PREFIX
from ops.deployed import DeployedStack, executions, keys

SHOWN = 5
_READERS = 8


class Expected(StrEnum):
    """Where an event must end."""

    STORED = "stored"
    MALFORMED = "archived as MALFORMED"
    INVALID = "archived as INVALID"


@dataclass(frozen=True, slots=True)
class SentEvent:
    """One event that was sent.

    Attributes:
        event_id: Its identity.
        expected: Where it must end.
        body: Its exact text, if it went straight into the queue.
        detail: Its detail, if it went through the bus: EventBridge writes the envelope around it.
        names_user: Whether enrichment must add an agent's name.
    """

    event_id: str
    expected: Expected = Expected.STORED
    body: str | None = None
    detail: Any = None
    names_user: bool = False


@dataclass(frozen=True, slots=True)
class ArchivedObject:
    """One object of the archive."""

    key: str
    event_id: str
    category: str
    body: str


@dataclass(frozen=True, slots=True)
class Holdings:
    """What each place of a stack holds, by event id.

    Attributes:
        buffer: Messages in the buffer queue, in flight ones too.
        dead_letters: Messages in the dead-letter queue.
        snapshots: Objects below ``dead-letters/``.
        archive: The archive's objects.
        stored: The table's events: the envelope, or ``None`` if the item only points to it.
        running: Names of the running triage executions.
        failed: Names of the executions that ended without an outcome.
    """

    buffer: Counter[str] = field(default_factory=Counter)
    dead_letters: Counter[str] = field(default_factory=Counter)
    snapshots: Counter[str] = field(default_factory=Counter)
    archive: tuple[ArchivedObject, ...] = ()
    stored: Mapping[str, Any] = field(default_factory=dict)
    running: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    @property
    def in_progress(self) -> dict[str, Counter[str]]:
        """The queues and the snapshots, by name. Their events may also be stored or archived."""
        return {
            "in the buffer": self.buffer,
            "in the dead-letter queue": self.dead_letters,
            "in triage": self.snapshots,
        }


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Where the events are.

    Attributes:
        sent: How many events were sent.
        stored: How many are in the table.
        archived: How many are archived and not stored.
        in_progress: How many are in a queue or in triage only.
        lost: The ids of the events that are in no place.
        problems: One sentence for each kind of deviation from what is expected at the end of a run.
    """

    sent: int
    stored: int
    archived: int
    in_progress: int
    lost: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every event is where it must end."""
        return not self.lost and not self.problems and not self.in_progress


def read_holdings(stack: DeployedStack, buffer: Iterable[str], dead_letters: Iterable[str]) -> Holdings:
    """Read every store of a stack.

    Read the queues first: an event that moves on meanwhile is then seen twice rather than never. A redrive moves
    backwards, but its snapshot stays until the event is settled.

    Args:
        stack: The stack to read.
        buffer: The bodies in the buffer queue. SQS has no call that lists them.
        dead_letters: The bodies in the dead-letter queue.
    """
    started = list(executions(stack))
    return Holdings(
        buffer=_identities(buffer),
        dead_letters=_identities(dead_letters),
        running=tuple(one["name"] for one in started if one["status"] == "RUNNING"),
        failed=tuple(one["name"] for one in started if one["status"] not in {"RUNNING", "SUCCEEDED"}),
        snapshots=Counter(key.split("/")[1] for key in keys(stack, SNAPSHOT_PREFIX)),
        archive=_archive(stack),
        stored=_stored(stack),
    )


def reconcile(sent: Collection[SentEvent], holdings: Holdings) -> Reconciliation:
    """Compare what was sent with what the places hold."""
    ids = {one.event_id for one in sent}
    stored = ids & holdings.stored.keys()
    archived = ids & {one.event_id for one in holdings.archive} - stored
    in_progress = ids & set().union(*holdings.in_progress.values()) - stored - archived
    return Reconciliation(
        sent=len(ids),
        stored=len(stored),
        archived=len(archived),
        in_progress=len(in_progress),
        lost=tuple(sorted(ids - stored - archived - in_progress)),
        problems=tuple(_problems(sent, holdings)),
    )


def shortened(names: Collection[str]) -> str:
    """The first few of many names."""
    first = ", ".join(list(names)[:SHOWN])
    return first + (", …" if len(names) > SHOWN else "")


def _problems(sent: Collection[SentEvent], holdings: Holdings) -> Iterable[str]:
    objects: dict[str, list[ArchivedObject]] = {}
    for archived in holdings.archive:
        objects.setdefault(archived.event_id, []).append(archived)
    found: dict[str, list[str]] = {}
    for one in sent:
        for problem in _problems_of(one, objects.get(one.event_id, []), holdings.stored):
            found.setdefault(problem, []).append(one.event_id)
    found["events that were never sent"] = sorted(
        (holdings.stored.keys() | objects.keys()) - {one.event_id for one in sent}
    )
    found["executions that ended without an outcome"] = list(holdings.failed)
    for place, events in holdings.in_progress.items():
        found[f"events still {place}"] = sorted(events)
    found["executions still running"] = list(holdings.running)
    return (f"{problem}: {len(names)} ({shortened(names)})" for problem, names in found.items() if names)


def _problems_of(one: SentEvent, objects: Collection[ArchivedObject], stored: Mapping[str, Any]) -> Iterable[str]:
    if one.expected is Expected.STORED:
        if one.event_id not in stored:
            yield "valid events that are not stored"
        elif one.names_user and not _has_user_name(stored[one.event_id]):
            yield "events stored without the agent's name"
        if objects:
            yield "valid events that were archived"
        return
    if one.event_id in stored:
        yield "invalid bodies that were stored"
    if len(objects) != 1:
        yield f"invalid bodies with {len(objects)} archive objects instead of one"
    for archived in objects:
        if f"archived as {archived.category}" != one.expected:
            yield f"dead letters archived as {archived.category} that should be {one.expected}"
        if not _same_content(one, archived.body):
            yield "dead letters archived with a changed body"


def _has_user_name(stored: Any) -> bool:
    """Whether enrichment added a name. An event that the item only points to is not checked."""
    return stored is None or 'serName": "' in json.dumps(stored["detail"])


def _same_content(one: SentEvent, body: str) -> bool:
    """Byte for byte if the body was ours; the same detail if EventBridge wrote the body."""
    if one.body is not None:
        return body.encode() == one.body.encode()
    return bool(json.loads(body)["detail"] == one.detail)


def _identities(bodies: Iterable[str]) -> Counter[str]:
    return Counter(examine(body).event_id for body in bodies)


def _archive(stack: DeployedStack) -> tuple[ArchivedObject, ...]:
    s3, bucket = stack.client("s3"), stack.outputs["ArchiveBucketName"]

    def read(key: str) -> ArchivedObject:
        found = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        return ArchivedObject(key, found["eventId"], found["verdict"]["category"], found["message"]["body"])

    with ThreadPoolExecutor(_READERS) as pool:
        return tuple(pool.map(read, keys(stack, ARCHIVE_PREFIX)))


def _stored(stack: DeployedStack) -> dict[str, Any]:
    pages = stack.client("dynamodb").get_paginator("scan")
    table = stack.outputs["EventsTableName"]
    items = (item for page in pages.paginate(TableName=table, ConsistentRead=True) for item in page["Items"])
    return {item["eventId"]["S"]: _envelope(item) for item in items}


def _envelope(item: Mapping[str, Any]) -> Any:
    """The envelope in a table item, packed or plain; ``None`` if the item only points to it."""
    if "eventPacked" in item:
        return json.loads(zlib.decompress(item["eventPacked"]["B"]))
    return json.loads(item["event"]["S"]) if "event" in item else None
