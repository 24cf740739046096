"""``make faults``: every call that a function makes, with every fault, one at a time, and what came of it.

A cell is one call of one function with one fault. It plays the story in which that call happens, waits until everything
has come to rest, and looks where the letters are. A fault that did not hit makes the cell wrong: it proved nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import secrets
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from holdfast.domain.envelope import identify
from holdfast.domain.letters import SNAPSHOT_PREFIX
from local.audit import Auditor, Place, executions, keys
from local.environment import SHORT_WAITS, LocalStack
from local.genesys import TOKEN_PATH, USERS_PATH, GenesysStandIn
from local.reconciliation import messages
from local.traffic import envelope
from proof.effects import Effects
from proof.fault_injector import Saboteur
from proof.network import Fault

RESULTS = Path(__file__).parent / "results" / "faults.json"
PARAMETERS = {
    "EnrichmentPolicy": "required",
    "MaxConcurrency": "2",
    **SHORT_WAITS,
}
WAIT_SCALE = 0.0005
CALLBACK_SECONDS = 5.0
VISIBILITY_SECONDS = 4
PATIENCE_SECONDS = 120
POLL_SECONDS = 0.25
PLAYS = 3
#: One more than boto3's three tries: the first call fails for good, and the next one at first.
FOR_GOOD = 4
#: The call that has one more try, the direct request before those of boto3.
DIRECT = "BatchExecuteStatement"
#: Beyond what fits into an item of the table, and beyond packing.
_LARGE_BYTES = 400_000
_UNDELIVERED = {"ERROR_CODE": {"DataType": "String", "StringValue": "NO_PERMISSIONS"}}


@dataclass(frozen=True, slots=True)
class Cell:
    """One call with one fault. ``story`` is the method of ``Stage`` in which the call happens."""

    function: str
    service: str
    operation: str
    fault: str
    story: str


@dataclass(frozen=True, slots=True)
class Row:
    """What came of a cell: how often its fault hit, where its letters are, and how many were lost or doubled."""

    cell: Cell
    hits: int
    outcome: str
    letters: tuple[str, ...]
    lost: int
    doubled: int
    seconds: float
    settled: bool

    @property
    def right(self) -> bool:
        """Whether the fault hit, everything came to rest, and nothing was lost or doubled."""
        return bool(self.hits) and self.settled and not self.lost and not self.doubled


#: Function, service, call, story. Genesys is the service ``genesys``.
CALLS = (
    ("ProcessorFunction", "secretsmanager", "GetSecretValue", "fresh_worker"),
    ("ProcessorFunction", "dynamodb", "BatchExecuteStatement", "event"),
    ("ProcessorFunction", "s3", "PutObject", "large_event"),
    ("ProcessorFunction", "dynamodb", "BatchGetItem", "second_receive"),
    ("ProcessorFunction", "dynamodb", "BatchWriteItem", "second_receive"),
    ("ProcessorFunction", "sqs", "ChangeMessageVisibilityBatch", "second_receive"),
    ("ProcessorFunction", "sqs", "DeleteMessageBatch", "suspects"),
    ("ProcessorFunction", "stepfunctions", "SendTaskSuccess", "recovered"),
    ("FanOutFunction", "events", "PutEvents", "event"),
    ("DeadLetterIntakeFunction", "s3", "PutObject", "archived"),
    ("DeadLetterIntakeFunction", "s3", "GetObject", "evidence_twice"),
    ("DeadLetterIntakeFunction", "stepfunctions", "StartExecution", "archived"),
    ("DeadLetterIntakeFunction", "stepfunctions", "DescribeExecution", "taken_in_twice"),
    ("DeadLetterIntakeFunction", "s3", "DeleteObjects", "taken_in_twice"),
    ("DeadLetterIntakeFunction", "stepfunctions", "SendTaskFailure", "dead_again"),
    ("ClassifyFunction", "s3", "GetObject", "recovered"),
    ("ClassifyFunction", "dynamodb", "Query", "recovered"),
    ("ClassifyFunction", "dynamodb", "GetItem", "recovered"),
    ("RedriveFunction", "s3", "GetObject", "recovered"),
    ("RedriveFunction", "sqs", "SendMessage", "recovered"),
    ("ArchiveFunction", "s3", "GetObject", "archived"),
    ("ArchiveFunction", "dynamodb", "Query", "archived"),
    ("ArchiveFunction", "s3", "PutObject", "archived"),
    ("SettleFunction", "s3", "DeleteObjects", "recovered"),
    ("SettleFunction", "events", "PutEvents", "archived"),
    ("SettleFunction", "s3", "PutObjectTagging", "replayed"),
    ("EvidenceSweepFunction", "s3", "ListObjectsV2", "orphan"),
    ("EvidenceSweepFunction", "s3", "GetObject", "orphan"),
    ("EvidenceSweepFunction", "stepfunctions", "DescribeExecution", "orphan"),
    ("EvidenceSweepFunction", "stepfunctions", "GetExecutionHistory", "orphan"),
    ("EvidenceSweepFunction", "stepfunctions", "StartExecution", "orphan"),
    ("EvidenceSweepFunction", "dynamodb", "GetItem", "left_behind"),
    ("EvidenceSweepFunction", "s3", "DeleteObjects", "left_behind"),
    ("ReplayFunction", "s3", "GetObject", "replayed"),
    ("ReplayFunction", "s3", "GetObjectTagging", "replayed"),
    ("ReplayFunction", "stepfunctions", "DescribeExecution", "replayed"),
    ("ReplayFunction", "s3", "PutObject", "replayed"),
    ("ReplayFunction", "s3", "ListObjectsV2", "replayed"),
)
#: How often each fault of the network hits.
NETWORK = {"throttled": FOR_GOOD, "broken": FOR_GOOD, "reset": FOR_GOOD, "lost": FOR_GOOD, "timeout": 1, "denied": 1}
DEATHS = ("kill before", "kill after")
#: Once for each function: these do not depend on the call.
ONCE = ("exit before", "memory before", "loop before", "concurrency 0")
#: What is not there any more; the call that would notice it.
GONE = {
    ("ProcessorFunction", "BatchExecuteStatement"),
    ("ProcessorFunction", "BatchWriteItem"),
    ("ProcessorFunction", "GetSecretValue"),
    ("DeadLetterIntakeFunction", "PutObject"),
    ("DeadLetterIntakeFunction", "StartExecution"),
    ("RedriveFunction", "SendMessage"),
    ("ArchiveFunction", "PutObject"),
}
GENESYS: dict[str, dict[str, Any]] = {
    "429": {"status": 429, "retryAfter": 1, "times": 3},
    "503": {"status": 503, "times": 6},
    "500": {"status": 500, "times": 3},
    "401": {"status": 401, "times": 1},
    "closed": {"down": True, "times": 6},
    "slow": {"latencySeconds": 8.0, "times": 1},
}


def cells() -> Iterator[Cell]:
    """The whole matrix."""
    seen: set[str] = set()
    for function, service, operation, story in CALLS:
        faults = [*NETWORK, *DEATHS]
        faults += ["gone"] if (function, operation) in GONE else []
        faults += ONCE if function not in seen else []
        seen.add(function)
        for fault in faults:
            yield Cell(function, service, operation, fault, story)
    for operation, story in (("POST " + TOKEN_PATH, "fresh_worker"), ("GET " + USERS_PATH, "user_event")):
        for fault in GENESYS:
            yield Cell("ProcessorFunction", "genesys", operation, fault, story)


class Stage:
    """The deployed application, on which stories are played.

    A story answers the letters it is about. What it needs to happen first, it arranges with faults and deaths of its
    own; those come before the cell's.
    """

    def __init__(self, local: LocalStack, saboteur: Saboteur, effects: Effects) -> None:
        self._local, self._saboteur, self._effects = local, saboteur, effects
        self._auditor = Auditor(local.stack)
        self._undo = contextlib.ExitStack()
        self._cell_fault: Fault | None = None
        self._sweeps = 0
        self._release: tuple[float, Callable[[], int]] | None = None

    def play(self, cell: Cell) -> Row:
        """Play a cell's story with its fault; again, if the call did not happen (what comes in one batch is chance)."""
        for _ in range(PLAYS - 1):
            row = self._play(cell)
            if row.hits or row.lost or row.doubled:
                return row
        return self._play(cell)

    def _play(self, cell: Cell) -> Row:
        began = time.monotonic()
        before = {one["executionArn"] for one in executions(self._local.stack)}
        self._sweeps = 0
        self._arrange()
        disarm = self._arm(cell)
        with self._undo:
            letters = tuple(getattr(self, cell.story)())
            settled = self._rests(letters, published=cell.function == "FanOutFunction")
        hits = disarm()
        found = self._auditor.locate(letters)
        outcome = self._told(found.values(), before)
        lost = sum(one.place is Place.UNLOCATED for one in found.values())
        self._effects.read_stream()
        doubled = len(set(self._effects.doubled) & set(letters))
        return Row(cell, hits, outcome, letters, lost, doubled, round(time.monotonic() - began, 1), settled)

    # -- faults --------------------------------------------------------------------------------------------------

    def _arm(self, cell: Cell) -> Callable[[], int]:
        """Set the cell's fault up; what this answers takes it back and tells how often it hit."""
        way, _, moment = cell.fault.partition(" ")
        if cell.service == "genesys":
            return self._arm_genesys(cell)
        if cell.fault == "concurrency 0":
            return self._arm_throttle(cell.function)
        if moment:
            return self._arm_death(cell, way, moment)
        times = NETWORK.get(cell.fault, 1) + (cell.operation == DIRECT)
        fault = Fault(cell.fault, cell.service, cell.operation, cell.function, times=times)
        self._cell_fault = fault
        self._arrange()

        def disarm() -> int:
            self._cell_fault = None
            return self._saboteur.network.hits(fault)

        return disarm

    def _arm_death(self, cell: Cell, way: str, moment: str) -> Callable[[], int]:
        order = (cell.function, cell.operation, moment, way)
        before = self._saboteur.taken()[order]
        self._saboteur.order(*order)

        def disarm() -> int:
            self._saboteur.withdraw()
            return self._saboteur.taken()[order] - before

        return disarm

    def _arm_throttle(self, function: str) -> Callable[[], int]:
        """The function may not run for a while; the story goes on without it."""
        self._saboteur.throttle(function)
        until = time.monotonic() + VISIBILITY_SECONDS

        def release() -> int:
            self._saboteur.throttle(function, at=None)
            return 1

        self._release = (until, release)
        return release

    def _arm_genesys(self, cell: Cell) -> Callable[[], int]:
        path = cell.operation.partition(" ")[2]
        before = self._genesys_answers(cell)
        self._local.genesys.set_faults(GENESYS[cell.fault] | {"path": path})

        def disarm() -> int:
            self._local.genesys.set_faults()
            return self._genesys_answers(cell) - before

        return disarm

    def _genesys_answers(self, cell: Cell) -> int:
        """How often the stand-in answered as the fault wants it; a slow answer is a right one."""
        kind = {"slow": "200"}.get(cell.fault, cell.fault)
        return int(self._local.genesys.stats()["requests"].get(f"{cell.operation} {kind}", 0))

    def _arrange(self, *faults: Fault) -> None:
        """Faults that a story needs, and the cell's after them."""
        self._saboteur.network.set_faults([*faults, *([self._cell_fault] if self._cell_fault else [])])

    # -- stories -------------------------------------------------------------------------------------------------

    def event(self) -> list[str]:
        """An event comes and is stored."""
        return self._enqueue(_event())

    def user_event(self) -> list[str]:
        """An event names a user whom nobody has asked for."""
        return self._enqueue(_event(userId=str(uuid.uuid4())))

    def fresh_worker(self) -> list[str]:
        """The same, and the worker is new: it has no token and no secret."""
        self._saboteur.kill("ProcessorFunction")
        return self.user_event()

    def large_event(self) -> list[str]:
        """An event that no item of the table can hold."""
        return self._enqueue(_event(note=secrets.token_hex(_LARGE_BYTES)))

    def second_receive(self) -> list[str]:
        """An event cannot be stored at first."""
        self._arrange(Fault("broken", "dynamodb", DIRECT, "ProcessorFunction", times=FOR_GOOD))
        return self.event()

    def suspects(self) -> list[str]:
        """Two workers die on three events, so that the third one takes them one by one."""
        for _ in range(2):
            self._saboteur.order("ProcessorFunction", "BatchExecuteStatement", "before", "kill")
        return self._enqueue(_event(), _event(), _event())

    def recovered(self) -> list[str]:
        """EventBridge could not deliver an event; triage sends it, and it is stored."""
        return [self._bury(json.dumps(_event()))]

    def archived(self) -> list[str]:
        """A body that is no event is archived."""
        return [self._bury(f"no event {uuid.uuid4()}")]

    def evidence_twice(self) -> list[str]:
        """The intake dies once it has written the evidence."""
        self._saboteur.order("DeadLetterIntakeFunction", "PutObject", "after", "kill")
        return self.archived()

    def taken_in_twice(self) -> list[str]:
        """The intake dies once it has started the execution, and its message comes again."""
        self._saboteur.order("DeadLetterIntakeFunction", "StartExecution", "after", "kill")
        return self.archived()

    def dead_again(self) -> list[str]:
        """A redriven event dies again before it is stored."""
        self._arrange(Fault("broken", "dynamodb", DIRECT, "ProcessorFunction", times=FOR_GOOD))
        self._die_at_once()
        return self.recovered()

    def orphan(self) -> list[str]:
        """An execution fails and leaves its evidence to the sweep."""
        self._arrange(Fault("denied", "s3", "PutObject", "ArchiveFunction", times=1))
        return self.archived()

    def left_behind(self) -> list[str]:
        """A letter is settled, and its evidence stays behind."""
        self._arrange(Fault("denied", "s3", "DeleteObjects", "SettleFunction", times=1))
        return self.recovered()

    def replayed(self) -> list[str]:
        """A sound event was archived, and somebody replays it."""
        self._arrange(Fault("denied", "dynamodb", "GetItem", "ClassifyFunction", times=1))
        letters = self.recovered()
        self._rests(letters)
        (found,) = self._auditor.locate(letters).values()
        machine = self._local.outputs["ReplayStateMachineArn"]
        asked = json.dumps({"prefix": found.at, "reason": letters[0]})
        workflows = self._local.client("stepfunctions")
        arn = workflows.start_execution(stateMachineArn=machine, input=asked)["executionArn"]
        self._until(lambda: workflows.describe_execution(executionArn=arn)["status"] != "RUNNING")
        return letters

    def _die_at_once(self) -> None:
        """Let one failed receive make a dead letter, as long as this story lasts."""
        sqs, url = self._local.client("sqs"), self._local.outputs["BufferQueueUrl"]
        before = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"])["Attributes"]
        policy = json.loads(before["RedrivePolicy"]) | {"maxReceiveCount": 1}
        self._undo.callback(sqs.set_queue_attributes, QueueUrl=url, Attributes=before)
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": json.dumps(policy)})

    def _enqueue(self, *events: Mapping[str, Any]) -> list[str]:
        texts = [json.dumps(event) for event in events]
        entries = [{"Id": str(number), "MessageBody": text} for number, text in enumerate(texts)]
        answer = self._local.client("sqs").send_message_batch(
            QueueUrl=self._local.outputs["BufferQueueUrl"], Entries=entries
        )
        if answer.get("Failed"):
            raise RuntimeError("the buffer refused an event")
        return [identify(text)[0] for text in texts]

    def _bury(self, body: str) -> str:
        """Put a body into the dead-letter queue, as EventBridge does with what it cannot deliver."""
        url = self._local.outputs["DeadLetterQueueUrl"]
        self._local.client("sqs").send_message(QueueUrl=url, MessageBody=body, MessageAttributes=_UNDELIVERED)
        return identify(body)[0]

    # -- rest ----------------------------------------------------------------------------------------------------

    def _rests(self, letters: Sequence[str], *, published: bool = False) -> bool:
        """Wait until nothing is on its way; evidence that nobody works on is swept."""
        return self._until(lambda: self._at_rest(letters, published))

    def _at_rest(self, letters: Sequence[str], published: bool) -> bool:
        if self._release and time.monotonic() > self._release[0]:
            self._release[1]()
            self._release = None
        if self._release or self._queued() or any(executions(self._local.stack, statusFilter="RUNNING")):
            return False
        if keys(self._local.stack, SNAPSHOT_PREFIX):
            self._sweep()
            return False
        found = self._auditor.locate(letters).values()
        seen = not published or self._effects.publications.keys() >= set(letters)
        return seen and all(one.place in (Place.STORED, Place.ARCHIVED) for one in found)

    def _queued(self) -> int:
        outputs = [self._local.outputs[name] for name in ("BufferQueueUrl", "DeadLetterQueueUrl")]
        return sum(len(messages(self._local.stack, url)) for url in outputs)

    def _sweep(self) -> None:
        self._sweeps += 1
        self._saboteur.invoke("EvidenceSweepFunction", {"olderThanHours": 0})

    def _until(self, reached: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not reached():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def _told(self, found: Any, before: set[str]) -> str:
        """Where the letters are, and by what way they came there."""
        places = Counter(_place(one) for one in found)
        words = [f"{count} {place}" if len(found) > 1 else place for place, count in places.items()]
        new = [one for one in executions(self._local.stack) if one["executionArn"] not in before]
        failed = sum(one["status"] != "SUCCEEDED" for one in new)
        words += [f"{len(new)} executions"] if len(new) > 1 else ["1 execution"] if new else []
        words += [f"{failed} of them failed"] if failed else []
        words += ["after a sweep"] if self._sweeps else []
        return ", ".join(words)


def _place(found: Any) -> str:
    if found.place is not Place.ARCHIVED:
        return str(found.place)
    return "archived as " + str(found.at).split("category=")[1].split("/")[0]


def _event(**body: Any) -> dict[str, Any]:
    """A sound event."""
    conversation = str(uuid.uuid4())
    topic = "v2.detail.events.conversation.{id}.user.start"
    detail = {
        "topicName": topic.replace("{id}", conversation),
        "version": "2",
        "eventBody": {"conversationId": conversation, **body},
        "metadata": {},
    }
    return envelope(str(uuid.uuid4()), topic, detail, datetime.now(UTC))


@contextlib.contextmanager
def staged(say: Callable[[str], None] = lambda _line: None) -> Iterator[Stage]:
    """Deploy the application in a hurry, with a saboteur around it."""
    genesys = GenesysStandIn(requests_per_minute=100_000)
    local = LocalStack(
        parameters=PARAMETERS,
        wait_scale=WAIT_SCALE,
        callback_floor_seconds=CALLBACK_SECONDS,
        genesys=genesys,
        say=say,
    )
    with local, Saboteur(local) as saboteur, Effects(local.stack) as effects:
        saboteur.set_visibility_timeouts(VISIBILITY_SECONDS)
        yield Stage(local, saboteur, effects)


def _line(row: Row) -> str:
    cell, mark = row.cell, "" if row.right else "  WRONG"
    return f"{cell.function} {cell.operation} {cell.fault}: hit {row.hits}, {row.outcome}, lost {row.lost}{mark}"


def main(arguments: list[str] | None = None) -> int:
    """Run the matrix, or the part of it that was asked for, and write its rows."""
    parser = argparse.ArgumentParser(prog="python -m proof.faults", description="Every call with every fault.")
    parser.add_argument("--only", default="", help="cells whose line holds this text")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    wanted = [cell for cell in cells() if options.only in f"{cell.function} {cell.operation} {cell.fault}"]
    options.results.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    with staged(print) as stage:
        for number, cell in enumerate(wanted, 1):
            rows.append(stage.play(cell))
            print(f"{number}/{len(wanted)} {rows[-1].seconds:5.1f} s  {_line(rows[-1])}", flush=True)
            # After each, so that a run that is stopped has told what it saw.
            options.results.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    wrong = [row for row in rows if not row.right]
    for row in wrong:
        print(f"WRONG: {_line(row)}")
    print(f"{len(rows)} cells, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
