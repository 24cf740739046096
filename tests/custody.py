"""A hypothesis state machine for custody: deliveries, crashes, faults, aborts, sweeps and replays in any order.

The queues, the table, the bucket and the executions are small models. The domain code and the triage definition are the
real ones. After every step, each event that was ever received is in custody, stored or archived. Once all faults are over,
nothing is left in custody. Executions advance one state at a time, so that anything can happen between two states.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from holdfast.domain.envelope import examine
from holdfast.domain.errors import Failure, Misconfigured, Rejected, Throttled, Unavailable
from holdfast.domain.letters import (
    RULE_ATTRIBUTES,
    SNAPSHOT_PREFIX,
    TRIAGE_ATTRIBUTE,
    DeadLetter,
    Message,
    TriageStamp,
    parse_document,
)
from holdfast.domain.policy import Limits
from holdfast.domain.ports import ExecutionStatus
from holdfast.domain.replay import ARCHIVE_PREFIX, Plan, Replayer
from holdfast.domain.triage import Redriver, TriageInput
from tests.contract.asl import TaskFailed, Walk
from tests.fakes import MACHINE, NOW, FakeBuffer, FakeEventStore, WorkerCrashed
from tests.unit.samples import ACD_START, quiet_body, record
from tests.world import DEFINITION, Raw, World, dead

MAX_RECEIVES = 2
MAX_BODIES = 12
ATTRIBUTES = {
    "Binary": {"dataType": "Binary", "binaryValue": "AAECAw=="},
    "Number": {"dataType": "Number", "stringValue": "7.0"},
}
#: A message with ten attributes has no room for a stamp.
TEN_ATTRIBUTES = {f"Attribute{number}": {"dataType": "String", "stringValue": "x"} for number in range(10)}
UNDELIVERED = {"ERROR_CODE": {"dataType": "String", "stringValue": "NO_PERMISSIONS"}}
#: The kinds of message; ``n`` is replaced by a digit.
KINDS = {
    "event": quiet_body("event-n"),
    "with attributes": quiet_body("event-n"),
    "with ten attributes": quiet_body("event-n"),
    "malformed with ten attributes": "oops event-n",
    "poison with ten attributes": quiet_body("poison"),
    "refused with ten attributes": quiet_body("refused"),
    "undelivered": quiet_body("event-n"),
    "poison": quiet_body("poison"),
    "refused": quiet_body("refused"),
    "malformed": "oops event-n",
    "an event's id over another body": json.dumps({"id": "event-n", "detail-type": ACD_START, "detail": None}),
}

PROCESSOR = (
    "eventstore.store",
    "attemptlog.read",
    "attemptlog.write",
    "executions.succeed",
    "queue.set_visibility",
    "queue.delete",
)
INTAKE = (
    "objects.create", "objects.read", "objects.list", "objects.delete",
    "executions.fail", "executions.describe", "executions.last_input", "executions.start",
)  # fmt: skip
SWEEP = (*INTAKE, "executions.running_names", "objects.write", "eventstore.holds")
TRIAGE = (
    "eventstore.holds", "attemptlog.of_event", "queue.send", "triageevents.publish",
    "objects.create", "objects.read", "objects.delete", "objects.tag", "objects.update",
)  # fmt: skip
ERRORS = (Unavailable("down"), Throttled("slow"), Misconfigured("denied"), RuntimeError("a defect"))


@dataclass(frozen=True)
class Fault:
    """The fault of one action: none, a crash after the n-th call, or an error of one kind of call."""

    kind: str = "none"
    call: str = ""
    error: Exception = ERRORS[0]
    number: int = 0

    def inject(self, world: World) -> None:
        if self.kind == "crash":
            world.journal.crash_after(self.number)
        elif self.kind == "error":
            world.journal.fail(self.call, self.error)
        elif self.kind == "outage":
            world.journal.fail_always(self.call, self.error)
        elif self.kind == "lost response":
            world.journal.lose_response(self.call, self.error)


def faults(calls: tuple[str, ...]) -> st.SearchStrategy[Fault]:
    """Strategy for faults; half of the draws are no fault."""
    kinds = ("error", "outage", "lost response")
    of_calls = [Fault(kind, call, error) for call in calls for kind in kinds for error in ERRORS]
    crashes = [Fault("crash", number=number) for number in range(1, 9)]
    return st.one_of(st.just(Fault()), st.sampled_from([*of_calls, *crashes * 3]))


@dataclass
class EventStore(FakeEventStore):
    """An events table. Storing a poison event crashes the worker."""

    poison: set[str] = field(default_factory=set)

    def store(self, events: Any, deadline: Any) -> Any:
        if any(event.event_id in self.poison for event in events):
            raise WorkerCrashed("store")
        return super().store(events, deadline)


class Waiting(Exception):
    """The state has not ended yet."""


class Running:
    """One execution that advances state by state."""

    def __init__(self, world: World, name: str, day: str) -> None:
        self._world = world
        self.name = name
        self.data: Any = json.loads(json.dumps(world.executions.inputs[name]))
        self.state: str | None = DEFINITION["StartAt"]
        self.token: str | None = None
        self.timed_out = False
        self._walk = Walk(DEFINITION, self._answer, day)

    def advance(self) -> None:
        """Enter the next state. Does nothing while a redrive waits for its outcome."""
        assert self.state
        try:
            self.state, self.data = self._walk.advance(self.state, self.data)
        except Waiting:
            return
        except TaskFailed:
            self._end(ExecutionStatus.FAILED)
        else:
            self.timed_out, self.token = False, None
            self._world.executions.last_inputs[self.name] = self.data
            if self.state is None:
                self._end(ExecutionStatus.SUCCEEDED)

    def time_out(self) -> None:
        """Let the callback time out."""
        self._world.executions.waiting.discard(self.token or "")
        self.timed_out = True
        self.advance()

    def abort(self) -> None:
        """Stop the execution by hand."""
        self._end(ExecutionStatus.ABORTED)

    @property
    def waits(self) -> bool:
        return self.token in self._world.executions.waiting

    def _end(self, status: ExecutionStatus) -> None:
        self._world.executions.waiting.discard(self.token or "")
        output = self.data if status is ExecutionStatus.SUCCEEDED else None
        self._world.executions.end(self.name, status, output, event_id=self.data["eventId"])

    def _answer(self, state: str, payload: Any) -> Any:
        if state != "Redrive":
            return self._world.retried(state, lambda: self._world.step(self.name, state, payload, NOW))
        if self.token is None:
            self._world.retried(state, lambda: self._send(TriageInput.read(payload)))
        outcome = self._world.outcome_of(self.token or "")
        if outcome is not None:
            return self._world.callback_result(outcome)
        if self.timed_out:
            raise TaskFailed("States.Timeout")
        raise Waiting

    def _send(self, triage_input: TriageInput) -> None:
        """Send with a token of its own; a failed attempt makes its token invalid."""
        token = self._world.new_token()
        try:
            Redriver(self._world.objects, self._world.queue).redrive(triage_input, MACHINE + self.name, token)
        except BaseException:
            self._world.executions.waiting.discard(token)
            raise
        self.token = token


@cache
def letter_of(text: str) -> DeadLetter:
    return DeadLetter.of_document(parse_document(text))


def own_attributes(message: Message) -> dict[str, dict[str, str]]:
    """The attributes that the producer sent, without those of triage and EventBridge."""
    found = message.message_attributes.items()
    return {name: dict(value) for name, value in found if name not in {TRIAGE_ATTRIBUTE} | RULE_ATTRIBUTES}


class BufferState(FakeBuffer):
    """What triage sees of the buffer. SQS counts messages, so any message may be the one that triage has sent."""

    def __init__(self, custody: Custody) -> None:
        super().__init__(custody.world.journal)
        self._custody = custody

    def paused(self) -> bool:
        return self._custody.circuit_open

    def may_hold(self, sent_at: datetime) -> bool:  # noqa: ARG002 - the model has no times
        return bool(self._custody.buffer)


class Custody(RuleBasedStateMachine):
    """The custody rule. ``only`` replaces every drawn fault, to test the effect of one fault."""

    only: Fault | None = None

    def __init__(self) -> None:
        super().__init__()
        self.world = World(limits=Limits(3, 96))
        self.store = self.world.store = EventStore(self.world.journal)
        self.buffer: dict[str, Raw] = {}
        self.dead: dict[str, Raw] = {}
        self.running: dict[str, Running] = {}
        #: Every received body with its attributes. Keyed by body, because another event can claim an id.
        self.received: dict[str, list[dict[str, dict[str, str]]]] = {}
        self.forged: set[str] = set()
        self.outages: dict[str, Exception] = {}
        self.stored: dict[str, str] = {}
        self.circuit_open = False
        self.world.buffer_state = BufferState(self)

    # -- producers -----------------------------------------------------------------------------------------------

    def receive(self, text: str, attributes: dict[str, dict[str, str]], *, undelivered: bool = False) -> None:
        self.received.setdefault(text, []).append(attributes)
        message_id = f"message-{sum(map(len, self.received.values()))}"
        raw = record(text, message_id, receives=0, attributes={**attributes, **(UNDELIVERED if undelivered else {})})
        (self.dead if undelivered else self.buffer)[message_id] = raw

    @initialize(kinds=st.lists(st.sampled_from(sorted(KINDS)), min_size=2, max_size=4))
    def the_first_messages_arrive(self, kinds: list[str]) -> None:
        for number, kind in enumerate(kinds, 1):
            self.a_message_arrives(kind, number)

    @precondition(lambda self: len(self.received) < MAX_BODIES)
    @rule(kind=st.sampled_from(sorted(KINDS)), number=st.integers(1, 9))
    def a_message_arrives(self, kind: str, number: int) -> None:
        if kind.startswith("poison"):
            self.store.poison.add("poison")
        if kind.startswith("refused"):
            self.store.refusals["refused"] = Failure.of(Rejected("too large"))
        text = KINDS[kind].replace("event-n", f"event-{number}")
        attributes = ATTRIBUTES if kind == "with attributes" else {}
        attributes = TEN_ATTRIBUTES if kind.endswith("ten attributes") else attributes
        self.receive(text, attributes, undelivered=kind == "undelivered")

    @precondition(lambda self: self.world.executions.descriptions and len(self.received) < MAX_BODIES)
    @rule(data=st.data(), number=st.integers(1, 9), other=st.integers(1, 9))
    def an_event_with_a_forged_stamp_arrives(self, data: st.DataObject, number: int, other: int) -> None:
        """The worst case: the producer knows every task token and the name of every execution."""
        tokens = st.sampled_from(["none", *sorted(self.world.executions.waiting)])
        names = st.sampled_from(["none", *sorted(self.world.executions.descriptions)])
        claimed = data.draw(st.sampled_from([f"event-{number}", f"event-{other}"]))
        stamp = TriageStamp(claimed, MACHINE + data.draw(names), 1, data.draw(tokens))
        text = quiet_body(f"event-{number}")
        self.forged.add(text)
        self.receive(text, {TRIAGE_ATTRIBUTE: {"dataType": "String", "stringValue": stamp.write()}})

    # -- queues --------------------------------------------------------------------------------------------------

    def some_of(self, data: st.DataObject, queue: dict[str, Raw]) -> list[Raw]:
        chosen = data.draw(st.lists(st.sampled_from(sorted(queue)), min_size=1, max_size=4, unique=True))
        return [received_again(queue, message_id) for message_id in chosen]

    def under(self, fault: Fault) -> None:
        self.world.journal.reset()
        for call, error in self.outages.items():
            self.world.journal.fail_always(call, error)
        if fault.kind != "none" and self.only:
            fault = self.only
        fault.inject(self.world)

    @precondition(lambda self: self.buffer and not self.circuit_open)
    @rule(data=st.data(), fault=faults(PROCESSOR), again=st.booleans())
    def the_processor_runs(self, data: st.DataObject, fault: Fault, again: bool) -> None:
        """``again``: the queue delivers deleted messages again."""
        self.under(fault)
        self.process(self.some_of(data, self.buffer), again=again)

    @precondition(lambda self: self.buffer and not self.outages and not self.circuit_open)
    @rule(data=st.data())
    def the_processor_runs_without_faults(self, data: st.DataObject) -> None:
        self.under(Fault())
        self.process(self.some_of(data, self.buffer))

    @rule()
    def the_circuit_opens(self) -> None:
        """Nothing is received any more, except by probes. Everything else goes on."""
        self.circuit_open = True

    @precondition(lambda self: self.circuit_open)
    @rule()
    def the_circuit_closes(self) -> None:
        """After a healthy probe, by hand, or by a deployment."""
        self.circuit_open = False

    @precondition(lambda self: self.circuit_open and self.buffer)
    @rule(data=st.data(), fault=faults(PROCESSOR), deleted=st.booleans())
    def a_probe_runs(self, data: st.DataObject, fault: Fault, deleted: bool) -> None:
        """The circuit breaker's function hands messages to the processor and then deletes them, or crashes before."""
        self.under(fault)
        self.process(self.some_of(data, self.buffer), again=not deleted)

    def process(self, batch: list[Raw], *, again: bool = False) -> None:
        try:
            kept = self.world.process(*batch)
        except WorkerCrashed:
            kept = [raw["messageId"] for raw in batch]
        deleted = {receipt.removeprefix("receipt-") for receipt in self.world.queue.deleted}
        for raw in batch:
            message_id = raw["messageId"]
            if message_id in deleted or (message_id not in kept and not again):
                self.buffer.pop(message_id, None)
            elif int(raw["attributes"]["ApproximateReceiveCount"]) >= MAX_RECEIVES:
                self.dead[message_id] = dead(self.buffer.pop(message_id))
        self.world.queue.deleted.clear()

    @precondition(lambda self: self.dead)
    @rule(data=st.data(), fault=faults(INTAKE), again=st.booleans())
    def the_intake_runs(self, data: st.DataObject, fault: Fault, again: bool) -> None:
        self.under(fault)
        self.take_in(self.some_of(data, self.dead), again=again)

    @precondition(lambda self: self.dead and not self.outages)
    @rule(data=st.data())
    def the_intake_runs_without_faults(self, data: st.DataObject) -> None:
        self.under(Fault())
        self.take_in(self.some_of(data, self.dead))

    def take_in(self, batch: list[Raw], *, again: bool = False) -> None:
        try:
            kept = self.world.take_in(*batch)
        except WorkerCrashed:
            return
        for raw in batch:
            if raw["messageId"] in kept:
                continue
            letter = DeadLetter.of(Message.of_record(raw))
            assert self.is_handled(letter), f"{letter.key} left its queue without an execution"
            if not again:
                del self.dead[raw["messageId"]]

    def is_handled(self, letter: DeadLetter) -> bool:
        body = letter.message.body
        return body in self.forged or self.is_settled(body) or letter.key in set(self.held_by_executions())

    def held_by_executions(self) -> Iterator[str]:
        for name in self.world.executions.running:
            data = self.running[name].data if name in self.running else self.world.executions.inputs[name]
            yield from data.get("snapshots", ())
        yield from (answer["cause"]["snapshot"] for _, answer in self.world.executions.answered if "cause" in answer)

    # -- triage --------------------------------------------------------------------------------------------------

    def executions(self) -> list[Running]:
        for name in self.world.executions.running:
            self.running.setdefault(name, Running(self.world, name, NOW.date().isoformat()))
        return [self.running[name] for name in self.world.executions.running]

    def one_of(self, data: st.DataObject, which: Callable[[Running], bool] = lambda _: True) -> Running | None:
        found = [one for one in self.executions() if which(one)]
        return found[data.draw(st.integers(0, len(found) - 1))] if found else None

    @precondition(lambda self: self.world.executions.running)
    @rule(data=st.data(), fault=faults(TRIAGE), states=st.integers(1, 5))
    def an_execution_advances(self, data: st.DataObject, fault: Fault, states: int) -> None:
        self.under(fault)
        one = self.one_of(data)
        for _ in range(states):
            if one and one.name in self.world.executions.running:
                one.advance()
        self.collect()

    @precondition(lambda self: self.world.executions.running and not self.outages)
    @rule(data=st.data())
    def an_execution_advances_without_faults(self, data: st.DataObject) -> None:
        self.under(Fault())
        one = self.one_of(data)
        while one and one.name in self.world.executions.running and not one.waits:
            one.advance()
            if one.state == "AwaitProcessing":
                break
        self.collect()

    def collect(self) -> None:
        """Put what triage has sent into the buffer."""
        self.buffer |= {raw["messageId"]: raw for raw in self.world.sent()}

    @precondition(lambda self: self.world.executions.waiting)
    @rule(data=st.data())
    def a_callback_times_out(self, data: st.DataObject) -> None:
        self.under(Fault())
        if one := self.one_of(data, lambda running: running.waits):
            one.time_out()

    @precondition(lambda self: self.world.executions.running)
    @rule(data=st.data())
    def an_execution_is_aborted(self, data: st.DataObject) -> None:
        if one := self.one_of(data):
            one.abort()

    @precondition(lambda self: self.world.keys(SNAPSHOT_PREFIX))
    @rule(fault=faults(SWEEP))
    def the_sweep_runs(self, fault: Fault) -> None:
        self.under(fault)
        self.sweep()

    def sweep(self) -> None:
        with suppress(Exception, WorkerCrashed):
            self.world.sweep(NOW + timedelta(days=2))

    @precondition(lambda self: self.world.keys(ARCHIVE_PREFIX))
    @rule(data=st.data(), reason=st.sampled_from(["first", "second"]))
    def a_letter_is_replayed(self, data: st.DataObject, reason: str) -> None:
        self.under(Fault())
        self.replay(data.draw(st.sampled_from(sorted(self.world.keys(ARCHIVE_PREFIX)))), reason)

    def replay(self, key: str, reason: str) -> str:
        plan = Plan.read({"prefix": "archive/", "reason": reason, "run": "run", "startedAt": "2026-12-01T00:00:00Z"})
        made = Replayer(self.world.objects, self.world.executions, map).prepare(plan, key)
        if made["action"] == "start":
            self.world.executions.start(made["name"], made["input"])
        return str(made["action"])

    @rule(
        call=st.sampled_from(["eventstore.store", "attemptlog.write", "objects.create"]), error=st.sampled_from(ERRORS)
    )
    def an_outage_begins(self, call: str, error: Exception) -> None:
        self.outages[call] = error

    @precondition(lambda self: self.outages)
    @rule()
    def all_outages_end(self) -> None:
        self.outages.clear()

    # -- invariants ----------------------------------------------------------------------------------------------

    def objects(self, prefix: str) -> list[DeadLetter]:
        return [letter_of(text) for key, text in self.world.objects.texts.items() if key.startswith(prefix)]

    def is_settled(self, text: str) -> bool:
        archived = {letter.message.body for letter in self.objects(ARCHIVE_PREFIX)}
        return text in archived or (is_event(text) and DeadLetter.of(Message("", text)).event_id in self.store.items)

    @invariant()
    def every_event_is_in_custody_stored_or_archived(self) -> None:
        queued = {raw["body"] for queue in (self.buffer, self.dead) for raw in queue.values()}
        owned = queued | {letter.message.body for letter in self.objects(SNAPSHOT_PREFIX)}
        lost = [text for text in self.received if text not in owned and not self.is_settled(text)]
        assert not lost, f"lost: {lost}"

    @invariant()
    def an_event_is_stored_once(self) -> None:
        effects = {event_id: event.text for event_id, event in self.store.items.items()}
        assert self.stored.items() <= effects.items(), "a stored event never changes"
        assert effects.keys() <= {DeadLetter.of(Message("", text)).event_id for text in self.received if is_event(text)}
        self.stored = effects

    @invariant()
    def snapshots_and_archive_hold_what_was_sent(self) -> None:
        for letter in (*self.objects(SNAPSHOT_PREFIX), *self.objects(ARCHIVE_PREFIX)):
            sent = [without_stamp(attributes) for attributes in self.received[letter.message.body]]
            assert own_attributes(letter.message) in sent

    @invariant()
    def an_execution_of_a_redriven_message_counts_its_redrives(self) -> None:
        for name, started in self.world.executions.inputs.items():
            assert started["redrives"] or not started["messageId"].startswith("sent-"), (
                f"{name} starts with no redrives"
            )

    @invariant()
    def triage_events_match_the_outcome(self) -> None:
        for kind, detail in self.world.triage_events.published:
            if kind == "Dead Letter Recovered":
                assert detail["eventId"] in self.store.items
            else:
                assert detail["archive"]["key"] in self.world.objects.texts

    def teardown(self) -> None:
        """End all faults. Everything reaches its end, and a replay of the archive recovers every valid event."""
        self.outages.clear()
        self.circuit_open = False
        self.under(Fault())
        self.finish_everything()
        self.store.poison.clear()
        self.store.refusals.clear()
        for key in self.world.keys(ARCHIVE_PREFIX):
            self.replay(key, "all faults are over")
            self.finish_everything()
        valid = {DeadLetter.of(Message("", text)).event_id for text in self.received if is_event(text)}
        assert self.store.items.keys() == valid
        again = [key for key in self.world.keys(ARCHIVE_PREFIX) if self.replay(key, "all faults are over") == "start"]
        assert again == [], "a second replay started executions again"

    def finish_everything(self) -> None:
        for _ in range(60):
            for message_id in list(self.buffer):
                self.process([received_again(self.buffer, message_id)])
            for message_id in list(self.dead):
                self.take_in([received_again(self.dead, message_id)])
            for one in self.executions():
                self.finish(one)
            self.sweep()
            self.every_event_is_in_custody_stored_or_archived()
            if not (self.buffer or self.dead or self.world.executions.running or self.world.keys(SNAPSHOT_PREFIX)):
                return
        raise AssertionError("something is left in custody after 60 deliveries and sweeps")

    def finish(self, one: Running) -> None:
        """Advance an execution to its end, or until it waits for a message that is still in the buffer.

        A dead letter that is left in its queue waits for the end of the execution, so the execution does not wait for it.
        """
        while one.name in self.world.executions.running:
            one.advance()
            self.collect()
            if self.buffer and (one.waits or one.state == "AwaitProcessing"):
                return
            if one.waits:
                one.time_out()


def received_again(queue: dict[str, Raw], message_id: str) -> Raw:
    """Deliver a message and count the receive, as the queue does."""
    raw = queue[message_id]
    count = int(raw["attributes"]["ApproximateReceiveCount"]) + 1
    queue[message_id] = {**raw, "attributes": {**raw["attributes"], "ApproximateReceiveCount": str(count)}}
    return queue[message_id]


@cache
def is_event(text: str) -> bool:
    return examine(text).kind == "EVENT"


def without_stamp(attributes: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    return {name: value for name, value in attributes.items() if name != TRIAGE_ATTRIBUTE}
