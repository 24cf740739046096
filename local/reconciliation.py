"""The balance by identity: where everything that was sent is now, and whether that is where it belongs.

An identity may be in several places at once, because a copy or an owner that has not let go yet is no harm. It counts
once: stored before archived before in custody. One that is nowhere is lost.
"""

from __future__ import annotations

import json
import urllib.request
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from holdfast.domain.envelope import identify
from holdfast.domain.letters import SNAPSHOT_PREFIX
from holdfast.domain.replay import ARCHIVE_PREFIX
from local.audit import executions, keys
from local.stack import Stack
from local.traffic import Expected

SHOWN = 5
_READERS = 8


@dataclass(frozen=True, slots=True)
class Sent:
    """One identity that was sent, where it has to end, and what of it was known before it was sent.

    ``body`` is the exact text of what went straight into the queue. What went by the bus is known by its ``detail``:
    EventBridge writes the envelope around it. ``names_user`` asks for an agent's name to be there once it is stored.
    """

    event_id: str
    expected: Expected = Expected.STORED
    body: str | None = None
    detail: Any = None
    names_user: bool = False


@dataclass(frozen=True, slots=True)
class Archived:
    """One object of the archive."""

    key: str
    event_id: str
    category: str
    body: str


@dataclass(frozen=True, slots=True)
class Holdings:
    """Where identities were at one look.

    Attributes:
        buffer: Messages in the buffer queue, in flight ones too, by identity.
        dead_letters: Messages in the dead-letter queue.
        evidence: Objects under ``dead-letters/``.
        archive: The archive's objects.
        stored: The table's events: the envelope that it holds, ``None`` where that is beside the table.
        running: Names of the triage executions that run.
        failed: Names of those that ended without an outcome.
    """

    buffer: Counter[str] = field(default_factory=Counter)
    dead_letters: Counter[str] = field(default_factory=Counter)
    evidence: Counter[str] = field(default_factory=Counter)
    archive: tuple[Archived, ...] = ()
    stored: Mapping[str, Any] = field(default_factory=dict)
    running: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    @property
    def custody(self) -> dict[str, Counter[str]]:
        """The places of what is neither stored nor archived yet, by their names."""
        return {
            "in the buffer": self.buffer,
            "in the dead-letter queue": self.dead_letters,
            "in triage": self.evidence,
        }

    @property
    def at_rest(self) -> bool:
        """Whether nothing is on its way any more."""
        return not self.running and not any(self.custody.values())


@dataclass(frozen=True, slots=True)
class Balance:
    """The balance at one look. ``faults`` names what would be wrong if it were final, ``lost`` what always is."""

    sent: int
    stored: int
    archived: int
    in_custody: int
    lost: tuple[str, ...]
    faults: tuple[str, ...]

    @property
    def right(self) -> bool:
        """Whether everything is where it belongs."""
        return not self.lost and not self.faults and not self.in_custody


def look(stack: Stack) -> Holdings:
    """Find out where everything is.

    The places are read in the order in which an event goes through them, so that one that moves meanwhile is seen twice
    rather than never. A redrive goes backwards, but its evidence stays until the event is settled.
    """
    buffer = _identities(messages(stack, stack.outputs["BufferQueueUrl"]))
    dead_letters = _identities(messages(stack, stack.outputs["DeadLetterQueueUrl"]))
    running, failed = _executions(stack)
    evidence = Counter(key.split("/")[1] for key in keys(stack, SNAPSHOT_PREFIX))
    return Holdings(buffer, dead_letters, evidence, _archive(stack), _stored(stack), running, failed)


def balance(sent: Collection[Sent], holdings: Holdings) -> Balance:
    """Compute the balance of what was sent."""
    archived = {letter.event_id for letter in holdings.archive}
    custody = set().union(*holdings.custody.values())
    ids = {one.event_id for one in sent}
    in_store = ids & holdings.stored.keys()
    in_archive = ids & archived - in_store
    kept = ids & custody - in_store - in_archive
    lost = ids - in_store - in_archive - kept
    return Balance(
        sent=len(ids),
        stored=len(in_store),
        archived=len(in_archive),
        in_custody=len(kept),
        lost=tuple(sorted(lost)),
        faults=tuple(_faults(sent, holdings)),
    )


def _faults(sent: Collection[Sent], holdings: Holdings) -> Iterable[str]:
    objects: dict[str, list[Archived]] = {}
    for letter in holdings.archive:
        objects.setdefault(letter.event_id, []).append(letter)
    reasons: dict[str, list[str]] = {}
    for one in sent:
        for reason in _faults_of(one, objects.get(one.event_id, []), holdings.stored):
            reasons.setdefault(reason, []).append(one.event_id)
    strangers = (holdings.stored.keys() | objects.keys()) - {one.event_id for one in sent}
    reasons |= {"identities that nobody sent": sorted(strangers)} if strangers else {}
    reasons |= {"executions that ended without an outcome": list(holdings.failed)} if holdings.failed else {}
    for place, found in holdings.custody.items():
        reasons |= {f"identities still {place}": sorted(found)} if found else {}
    reasons |= {"executions that still run": list(holdings.running)} if holdings.running else {}
    for reason, ids in reasons.items():
        yield f"{reason}: {len(ids)} ({shortened(ids)})"


def _faults_of(one: Sent, objects: Collection[Archived], stored: Mapping[str, Any]) -> Iterable[str]:
    if one.expected is Expected.STORED:
        if one.event_id not in stored:
            yield "valid events that are not stored"
        elif one.names_user and not _names(stored[one.event_id]):
            yield "events stored without the name of the agent they name"
        if objects:
            yield "valid events that were archived"
        return
    if one.event_id in stored:
        yield "bodies that are no event and were stored"
    if len(objects) != 1:
        yield f"bodies that are no event, with {len(objects)} objects in the archive instead of one"
    for letter in objects:
        if f"archived as {letter.category}" != one.expected:
            yield f"letters to be {one.expected}, and the archive says {letter.category}"
        if not _same_content(one, letter.body):
            yield "letters archived with another content than was sent"


def _names(stored: Any) -> bool:
    """Whether enrichment added a name; what is beside the table is taken on trust."""
    return stored is None or 'serName": "' in json.dumps(stored["detail"])


def _same_content(one: Sent, body: str) -> bool:
    """Byte for byte where the body was ours; the same detail where EventBridge wrote the body."""
    if one.body is not None:
        return body.encode() == one.body.encode()
    return bool(json.loads(body)["detail"] == one.detail)


def shortened(names: Collection[str]) -> str:
    """The first few of many names."""
    first = ", ".join(list(names)[:SHOWN])
    return first + (", …" if len(names) > SHOWN else "")


def messages(stack: Stack, queue_url: str) -> list[str]:
    """The bodies in a queue, in flight ones too, without receiving them. Only the local engine can do this."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    name = queue_url.rsplit("/", 1)[-1]
    with opener.open(f"{stack.endpoint}/_ministack/sqs/messages?QueueUrl={queue_url}", timeout=30) as answer:
        by_account = json.load(answer)["messages"]
    return [
        message["Body"]
        for by_region in by_account.values()
        for by_queue in by_region.values()
        for url, found in by_queue.items()
        if url.rsplit("/", 1)[-1] == name
        for message in found
    ]


def _executions(stack: Stack) -> tuple[tuple[str, ...], tuple[str, ...]]:
    found = list(executions(stack))
    running = tuple(execution["name"] for execution in found if execution["status"] == "RUNNING")
    return running, tuple(
        execution["name"] for execution in found if execution["status"] not in {"RUNNING", "SUCCEEDED"}
    )


def _identities(bodies: Iterable[str]) -> Counter[str]:
    return Counter(identify(body)[0] for body in bodies)


def _archive(stack: Stack) -> tuple[Archived, ...]:
    s3, bucket = stack.client("s3"), stack.outputs["ArchiveBucketName"]

    def read(key: str) -> Archived:
        letter = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        return Archived(key, letter["eventId"], letter["verdict"]["category"], letter["message"]["body"])

    with ThreadPoolExecutor(_READERS) as pool:
        return tuple(pool.map(read, keys(stack, ARCHIVE_PREFIX)))


def _stored(stack: Stack) -> dict[str, Any]:
    pages = stack.client("dynamodb").get_paginator("scan")
    table = stack.outputs["EventsTableName"]
    items = (item for page in pages.paginate(TableName=table, ConsistentRead=True) for item in page["Items"])
    return {item["eventId"]["S"]: _event(item) for item in items}


def _event(item: Mapping[str, Any]) -> Any:
    """The envelope in a table item, packed or plain; ``None`` where the item only points to it."""
    if "eventPacked" in item:
        return json.loads(zlib.decompress(item["eventPacked"]["B"]))
    return json.loads(item["event"]["S"]) if "event" in item else None
