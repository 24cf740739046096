"""``make faults``: injects every fault into every call that a function makes, one at a time.

A cell is one fault in one call of one function. Its scenario makes the call happen. Then the run waits until every
event is stored or archived, and checks that none is lost or doubled. A cell whose fault did not hit fails.
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
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from holdfast.domain.envelope import examine
from holdfast.domain.letters import MAX_MESSAGE_BYTES, SNAPSHOT_PREFIX, message_bytes
from local.environment import SHORT_WAITS, LocalStack
from local.eventually import NotReachedError, eventually
from local.genesys import TOKEN_PATH, USERS_PATH, GenesysStandIn
from local.mappings import change_mapping, processing_of
from local.reconciliation import messages
from local.sending import send_messages
from local.traffic import envelope
from ops.audit import Auditor, Location, Place
from ops.deployed import executions, keys
from ops.pause import ProcessingState
from proof.effects import Effects
from proof.fault_injector import Crash, FaultInjector
from proof.network import Fault
from proof.records import write_records

RESULTS = Path(__file__).parent / "results" / "faults.jsonl"
PARAMETERS = {"EnrichmentPolicy": "required", "MaxConcurrency": "2", **SHORT_WAITS}
WAIT_SCALE = 0.0005
CALLBACK_SECONDS = 5.0
VISIBILITY_SECONDS = 4
#: Longer than the circuit takes to open, shorter than a probe waits for a message.
PROBED_AFTER_SECONDS = 3
SETTLE_SECONDS = 120
POLL_SECONDS = 0.25
RUNS = 3
#: boto3 makes three attempts: the first call fails, and the next call's first attempt fails too.
FOUR_TIMES = 4
#: Random, so packing does not make it fit into an item.
_LARGE_BYTES = 400_000
_UNDELIVERED = {"ERROR_CODE": {"DataType": "String", "StringValue": "NO_PERMISSIONS"}}


@dataclass(frozen=True, slots=True)
class Cell:
    """One fault in one call. ``scenario`` names the method of ``Scenarios`` that makes the call happen."""

    function: str
    service: str
    operation: str
    fault: str
    scenario: str


@dataclass(frozen=True, slots=True)
class Row:
    """The result of a cell: how often its fault hit, where its events ended, and how many were lost or doubled."""

    cell: Cell
    hits: int
    outcome: str
    events: tuple[str, ...]
    lost: int
    doubled: int
    seconds: float
    settled: bool

    @property
    def passed(self) -> bool:
        """Whether the fault hit, every event was settled, and none was lost or doubled."""
        return bool(self.hits) and self.settled and not self.lost and not self.doubled


#: Function, service, call, scenario.
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
    ("DeadLetterIntakeFunction", "s3", "GetObject", "snapshot_twice"),
    ("DeadLetterIntakeFunction", "stepfunctions", "StartExecution", "archived"),
    ("DeadLetterIntakeFunction", "stepfunctions", "DescribeExecution", "intake_twice"),
    ("DeadLetterIntakeFunction", "s3", "DeleteObjects", "intake_twice"),
    ("DeadLetterIntakeFunction", "stepfunctions", "SendTaskFailure", "dead_lettered_again"),
    ("DeadLetterIntakeFunction", "s3", "ListObjectsV2", "without_room"),
    ("ClassifyFunction", "s3", "GetObject", "recovered"),
    ("ClassifyFunction", "dynamodb", "Query", "recovered"),
    ("ClassifyFunction", "dynamodb", "GetItem", "recovered"),
    ("RedriveFunction", "s3", "GetObject", "recovered"),
    ("RedriveFunction", "sqs", "SendMessage", "recovered"),
    ("RedriveFunction", "s3", "PutObject", "without_room"),
    ("ArchiveFunction", "s3", "GetObject", "archived"),
    ("ArchiveFunction", "dynamodb", "Query", "archived"),
    ("ArchiveFunction", "dynamodb", "GetItem", "replayed"),
    ("ArchiveFunction", "s3", "PutObject", "archived"),
    ("SettleFunction", "s3", "DeleteObjects", "recovered"),
    ("SettleFunction", "events", "PutEvents", "archived"),
    ("SettleFunction", "s3", "PutObjectTagging", "replayed"),
    ("EvidenceSweepFunction", "s3", "ListObjectsV2", "orphan"),
    ("EvidenceSweepFunction", "s3", "GetObject", "orphan"),
    ("EvidenceSweepFunction", "stepfunctions", "ListExecutions", "orphan"),
    ("EvidenceSweepFunction", "stepfunctions", "DescribeExecution", "orphan"),
    ("EvidenceSweepFunction", "stepfunctions", "GetExecutionHistory", "orphan"),
    ("EvidenceSweepFunction", "stepfunctions", "StartExecution", "orphan"),
    ("EvidenceSweepFunction", "dynamodb", "GetItem", "leftover"),
    ("EvidenceSweepFunction", "s3", "DeleteObjects", "leftover"),
    ("EvidenceSweepFunction", "s3", "PutObject", "leftover"),
    ("ReplayFunction", "s3", "GetObject", "replayed"),
    ("ReplayFunction", "s3", "GetObjectTagging", "replayed"),
    ("ReplayFunction", "stepfunctions", "DescribeExecution", "replayed"),
    ("ReplayFunction", "s3", "PutObject", "replayed"),
    ("ReplayFunction", "s3", "ListObjectsV2", "replayed"),
    ("CircuitBreakerFunction", "lambda", "GetEventSourceMapping", "probed"),
    ("CircuitBreakerFunction", "stepfunctions", "ListExecutions", "probed"),
    ("CircuitBreakerFunction", "stepfunctions", "DescribeExecution", "probed"),
    ("CircuitBreakerFunction", "stepfunctions", "GetExecutionHistory", "paused_by_hand"),
    ("CircuitBreakerFunction", "sqs", "ReceiveMessage", "probed"),
    ("CircuitBreakerFunction", "lambda", "Invoke", "probed"),
    ("CircuitBreakerFunction", "sqs", "DeleteMessageBatch", "probed"),
    ("CircuitBreakerFunction", "sqs", "ChangeMessageVisibilityBatch", "probe_refused"),
    ("CircuitBreakerFunction", "sqs", "GetQueueAttributes", "nothing_to_probe"),
)
#: Network faults, and how often each hits.
NETWORK = {**dict.fromkeys(("throttled", "broken", "reset", "lost"), FOUR_TIMES), "timeout": 1, "denied": 1}
CRASHES = ("kill before", "kill after")
#: Once per function, because the call makes no difference.
ONCE = ("exit before", "memory before", "loop before", "concurrency 0")
#: The calls that find out that their table, bucket, queue, state machine or secret was deleted.
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
    """The whole matrix. The Genesys API is the service ``genesys``."""
    seen: set[str] = set()
    for function, service, operation, scenario in CALLS:
        faults = [*NETWORK, *CRASHES]
        faults += ["gone"] if (function, operation) in GONE else []
        faults += ONCE if function not in seen else []
        seen.add(function)
        for fault in faults:
            yield Cell(function, service, operation, fault, scenario)
    for operation, scenario in (("POST " + TOKEN_PATH, "fresh_worker"), ("GET " + USERS_PATH, "user_event")):
        for fault in GENESYS:
            yield Cell("ProcessorFunction", "genesys", operation, fault, scenario)


class Scenarios:
    """The deployed application, and the scenarios that make a call happen.

    A scenario returns the ids of its events. Some need other faults and crashes first; those hit before the cell's.
    """

    def __init__(self, local: LocalStack, injector: FaultInjector, effects: Effects) -> None:
        self._local, self._injector, self._effects = local, injector, effects
        self._auditor = Auditor(local.stack)
        self._undo = contextlib.ExitStack()
        self._cell_fault: Fault | None = None
        self._sweeps = 0
        self._unthrottle: tuple[float, Callable[[], int]] | None = None

    def run(self, cell: Cell) -> Row:
        """Run a cell. If its call did not happen, run it again: how events are batched is random."""
        for _ in range(RUNS - 1):
            row = self._run(cell)
            if row.hits or row.lost or row.doubled:
                return row
        return self._run(cell)

    def _run(self, cell: Cell) -> Row:
        began = time.monotonic()
        before = {one["executionArn"] for one in executions(self._local.stack)}
        self._sweeps = 0
        self._set_faults()
        disarm = self._arm(cell)
        with self._undo:
            events = tuple(getattr(self, cell.scenario)())
            settled = self._settles(events, published=cell.function == "FanOutFunction")
        hits = disarm()
        found = self._auditor.locate(events).values()
        self._effects.read_stream()
        return Row(
            cell=cell,
            hits=hits,
            outcome=self._outcome(found, before),
            events=events,
            lost=sum(one.place is Place.IN_NO_STORE for one in found),
            doubled=len(set(self._effects.doubled) & set(events)),
            seconds=round(time.monotonic() - began, 1),
            settled=settled,
        )

    # -- faults --------------------------------------------------------------------------------------------------

    def _arm(self, cell: Cell) -> Callable[[], int]:
        """Set up the cell's fault. The returned function removes it and returns how often it hit."""
        way, _, moment = cell.fault.partition(" ")
        if cell.service == "genesys":
            return self._arm_genesys(cell)
        if cell.fault == "concurrency 0":
            return self._arm_throttle(cell.function)
        if moment:
            return self._arm_crash((cell.function, cell.operation, moment, way))
        fault = Fault(cell.fault, cell.service, cell.operation, cell.function, times=NETWORK.get(cell.fault, 1))
        self._cell_fault = fault
        self._set_faults()

        def disarm() -> int:
            self._cell_fault = None
            return self._injector.network.hits(fault)

        return disarm

    def _arm_crash(self, crash: Crash) -> Callable[[], int]:
        before = self._injector.crashes()[crash]
        self._injector.plan_crash(crash)

        def disarm() -> int:
            self._injector.cancel_crashes()
            return self._injector.crashes()[crash] - before

        return disarm

    def _arm_throttle(self, function: str) -> Callable[[], int]:
        """Set the function's concurrency to 0 for some seconds."""
        self._injector.throttle(function)

        def disarm() -> int:
            self._injector.throttle(function, at=None)
            return 1

        self._unthrottle = (time.monotonic() + VISIBILITY_SECONDS, disarm)
        return disarm

    def _arm_genesys(self, cell: Cell) -> Callable[[], int]:
        path = cell.operation.partition(" ")[2]
        before = self._genesys_answers(cell)
        self._local.genesys.set_faults(GENESYS[cell.fault] | {"path": path})

        def disarm() -> int:
            self._local.genesys.set_faults()
            return self._genesys_answers(cell) - before

        return disarm

    def _genesys_answers(self, cell: Cell) -> int:
        """How often the stand-in answered with the fault. A slow answer is a 200."""
        kind = {"slow": "200"}.get(cell.fault, cell.fault)
        return int(self._local.genesys.stats()["requests"].get(f"{cell.operation} {kind}", 0))

    def _set_faults(self, *faults: Fault) -> None:
        """Set the faults that a scenario needs. The cell's fault hits after them."""
        self._injector.network.set_faults([*faults, *([self._cell_fault] if self._cell_fault else [])])

    # -- scenarios -----------------------------------------------------------------------------------------------

    def event(self) -> list[str]:
        """An event is stored."""
        return self._enqueue(_event())

    def user_event(self) -> list[str]:
        """An event names a user who is not cached."""
        return self._enqueue(_event(userId=str(uuid.uuid4())))

    def fresh_worker(self) -> list[str]:
        """The same in a new worker, which has neither token nor secret."""
        self._injector.kill("ProcessorFunction")
        return self.user_event()

    def large_event(self) -> list[str]:
        """An event is larger than an item of the table can be."""
        return self._enqueue(_event(note=secrets.token_hex(_LARGE_BYTES)))

    def second_receive(self) -> list[str]:
        """An event cannot be stored in its first receive."""
        self._break_table()
        return self.event()

    def suspects(self) -> list[str]:
        """Two workers crash on three events, so that the next worker processes them one by one."""
        for _ in range(2):
            self._injector.plan_crash(("ProcessorFunction", "BatchExecuteStatement", "before", "kill"))
        return self._enqueue(_event(), _event(), _event())

    def recovered(self) -> list[str]:
        """EventBridge could not deliver an event. Triage redrives it, and it is stored."""
        return [self._dead_letter(json.dumps(_event()))]

    def archived(self) -> list[str]:
        """An invalid body is archived."""
        return [self._dead_letter(f"no event {uuid.uuid4()}")]

    def snapshot_twice(self) -> list[str]:
        """The intake crashes after it has written the snapshot."""
        self._injector.plan_crash(("DeadLetterIntakeFunction", "PutObject", "after", "kill"))
        return self.archived()

    def intake_twice(self) -> list[str]:
        """The intake crashes after it has started the execution, and receives the message again."""
        self._injector.plan_crash(("DeadLetterIntakeFunction", "StartExecution", "after", "kill"))
        return self.archived()

    def dead_lettered_again(self) -> list[str]:
        """A redriven event reaches the DLQ again before it is stored."""
        self._break_table()
        self._dead_letter_after_one_receive()
        return self.recovered()

    def without_room(self) -> list[str]:
        """As ``dead_lettered_again``, with a message so large that a redrive cannot add the stamp."""
        self._break_table()
        self._dead_letter_after_one_receive()
        missing = MAX_MESSAGE_BYTES - message_bytes(json.dumps(_event(note="")), _UNDELIVERED)
        return [self._dead_letter(json.dumps(_event(note="x" * missing)))]

    def orphan(self) -> list[str]:
        """An execution fails, and the sweep finds its snapshot."""
        self._set_faults(Fault("rejected", "s3", "PutObject", "ArchiveFunction", times=1))
        return self.archived()

    def leftover(self) -> list[str]:
        """A dead letter is settled, but its snapshot is not deleted."""
        self._set_faults(Fault("denied", "s3", "DeleteObjects", "SettleFunction", times=1))
        return self.recovered()

    def replayed(self) -> list[str]:
        """A valid event was archived and is replayed."""
        self._set_faults(Fault("rejected", "dynamodb", "GetItem", "ClassifyFunction", times=1))
        events = self.recovered()
        self._settles(events)
        (found,) = self._auditor.locate(events).values()
        machine = self._local.outputs["ReplayStateMachineArn"]
        replay = json.dumps({"prefix": found.key, "reason": events[0]})
        workflows = self._local.client("stepfunctions")
        arn = workflows.start_execution(stateMachineArn=machine, input=replay)["executionArn"]
        self._reaches(lambda: workflows.describe_execution(executionArn=arn)["status"] != "RUNNING")
        return events

    def probed(self) -> list[str]:
        """The circuit opens before an event can be received. A probe stores the event and closes the circuit."""
        events = self._enqueue(_event(), delay_seconds=PROBED_AFTER_SECONDS)
        self._open_circuit()
        return events

    def probe_refused(self) -> list[str]:
        """The processor's invocation is refused in the first probe, and the next probe receives the event again."""
        self._set_faults(Fault("denied", "lambda", "Invoke", "CircuitBreakerFunction", times=1))
        return self.probed()

    def paused_by_hand(self) -> list[str]:
        """A person pauses processing while the circuit is open, and resumes it. The event is stored after that."""
        events = self._enqueue(_event(), delay_seconds=PROBED_AFTER_SECONDS)
        opened, paused = self._open_circuit(), self._open_circuit(manual=True)
        self._reaches(lambda: self._ended(opened))
        mapping = self._local.stack.resources["ProcessorFunctionBuffer"]
        change_mapping(self._local.client("lambda"), mapping, enabled=True)
        self._reaches(lambda: self._ended(paused))
        return events

    def nothing_to_probe(self) -> list[str]:
        """The circuit opens, the buffer is empty, and the circuit closes. After that an event is stored."""
        execution = self._open_circuit()
        self._reaches(lambda: self._ended(execution))
        return self.event()

    def _open_circuit(self, *, manual: bool = False) -> str:
        """Start the circuit breaker as an alarm does, or as a person does. Returns the execution's ARN."""
        machine, asked = self._local.outputs["CircuitBreakerStateMachineArn"], {"manual": manual, "reason": "a cell"}
        workflows = self._local.client("stepfunctions")
        return str(workflows.start_execution(stateMachineArn=machine, input=json.dumps(asked))["executionArn"])

    def _ended(self, execution: str) -> bool:
        self._end_throttle()
        status = self._local.client("stepfunctions").describe_execution(executionArn=execution)["status"]
        return bool(status != "RUNNING")

    def _break_table(self) -> None:
        self._set_faults(Fault("broken", "dynamodb", "BatchExecuteStatement", "ProcessorFunction", times=FOUR_TIMES))

    def _dead_letter_after_one_receive(self) -> None:
        """Set ``maxReceiveCount`` to 1 for this scenario."""
        sqs, url = self._local.client("sqs"), self._local.outputs["BufferQueueUrl"]
        before = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"])["Attributes"]
        policy = json.loads(before["RedrivePolicy"]) | {"maxReceiveCount": 1}
        self._undo.callback(sqs.set_queue_attributes, QueueUrl=url, Attributes=before)
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": json.dumps(policy)})

    def _enqueue(self, *events: Mapping[str, Any], delay_seconds: int = 0) -> list[str]:
        bodies = [json.dumps(event) for event in events]
        queue, sqs = self._local.outputs["BufferQueueUrl"], self._local.client("sqs")
        if delay_seconds:
            for body in bodies:
                sqs.send_message(QueueUrl=queue, MessageBody=body, DelaySeconds=delay_seconds)
        else:
            send_messages(sqs, queue, bodies)
        return [examine(body).event_id for body in bodies]

    def _dead_letter(self, body: str) -> str:
        """Put a body into the dead-letter queue, as EventBridge does if it cannot deliver."""
        url = self._local.outputs["DeadLetterQueueUrl"]
        self._local.client("sqs").send_message(QueueUrl=url, MessageBody=body, MessageAttributes=_UNDELIVERED)
        return examine(body).event_id

    # -- the end -------------------------------------------------------------------------------------------------

    def _settles(self, events: Sequence[str], *, published: bool = False) -> bool:
        """Wait until every event is stored or archived. Remaining snapshots are swept."""
        return self._reaches(lambda: self._settled(events, published))

    def _settled(self, events: Sequence[str], published: bool) -> bool:
        self._end_throttle()
        if self._unthrottle or self._queued() or any(executions(self._local.stack, statusFilter="RUNNING")):
            return False
        if not self._circuit_closed():
            return False
        if keys(self._local.stack, SNAPSHOT_PREFIX):
            self._sweeps += 1
            self._injector.invoke("EvidenceSweepFunction", {"olderThanHours": 0})
            return False
        if published and not self._effects.publications.keys() >= set(events):
            return False
        found = self._auditor.locate(events).values()
        return all(one.place in (Place.STORED, Place.ARCHIVED) for one in found)

    def _end_throttle(self) -> None:
        """Restore the function's concurrency when its time is over."""
        if self._unthrottle and time.monotonic() > self._unthrottle[0]:
            self._unthrottle[1]()
            self._unthrottle = None

    def _circuit_closed(self) -> bool:
        """Whether no execution of the circuit breaker runs and the processor receives."""
        running = any(executions(self._local.stack, "CircuitBreaker", statusFilter="RUNNING"))
        return processing_of(self._local.stack) is ProcessingState.RUNNING and not running

    def _queued(self) -> int:
        outputs = [self._local.outputs[name] for name in ("BufferQueueUrl", "DeadLetterQueueUrl")]
        return sum(len(messages(self._local.stack, url)) for url in outputs)

    def _reaches(self, reached: Callable[[], bool]) -> bool:
        try:
            return eventually(reached, "the cell is settled", SETTLE_SECONDS, every=POLL_SECONDS)
        except NotReachedError:
            return False

    def _outcome(self, found: Collection[Location], before: set[str]) -> str:
        """Where the events are, and the executions and sweeps that it took."""
        places = Counter(_place(one) for one in found)
        words = [f"{count} {place}" if len(found) > 1 else place for place, count in places.items()]
        new = [one for one in executions(self._local.stack) if one["executionArn"] not in before]
        failed = sum(one["status"] != "SUCCEEDED" for one in new)
        words += [f"{len(new)} executions"] if len(new) > 1 else ["1 execution"] if new else []
        words += [f"{failed} of them failed"] if failed else []
        words += ["after a sweep"] if self._sweeps else []
        return ", ".join(words)


def _place(found: Location) -> str:
    if found.place is not Place.ARCHIVED:
        return str(found.place)
    return "archived as " + str(found.key).split("category=")[1].split("/")[0]


def _event(**body: Any) -> dict[str, Any]:
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
def deployed_scenarios(say: Callable[[str], None] = lambda _line: None) -> Iterator[Scenarios]:
    """Deploy the application with short waits and a fault injector."""
    genesys = GenesysStandIn(requests_per_minute=100_000)
    local = LocalStack(
        parameters=PARAMETERS,
        wait_scale=WAIT_SCALE,
        callback_floor_seconds=CALLBACK_SECONDS,
        genesys=genesys,
        say=say,
    )
    with local, FaultInjector(local) as injector, Effects(local.stack) as effects:
        injector.set_visibility_timeouts(VISIBILITY_SECONDS)
        yield Scenarios(local, injector, effects)


def _line(row: Row) -> str:
    cell, mark = row.cell, "" if row.passed else "  FAILED"
    return f"{cell.function} {cell.operation} {cell.fault}: hit {row.hits}, {row.outcome}, lost {row.lost}{mark}"


def main(arguments: list[str] | None = None) -> int:
    """Run the matrix or a part of it, and write its rows."""
    parser = argparse.ArgumentParser(prog="python -m proof.faults", description="Inject every fault into every call.")
    parser.add_argument("--only", default="", help="only cells whose line contains this text")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    wanted = [cell for cell in cells() if options.only in f"{cell.function} {cell.operation} {cell.fault}"]
    rows = []
    with deployed_scenarios(print) as scenarios:
        for number, cell in enumerate(wanted, 1):
            rows.append(scenarios.run(cell))
            print(f"{number}/{len(wanted)} {rows[-1].seconds:5.1f} s  {_line(rows[-1])}", flush=True)
            # After each cell, so that an interrupted run keeps its results.
            write_records(options.results, map(asdict, rows))
    failed = [row for row in rows if not row.passed]
    for row in failed:
        print(_line(row))
    print(f"{len(rows)} cells, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
