"""The circuit breaker: when it opens and closes, who owns it, and what a probe does with messages."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

import circuit_breaker.app
from holdfast.adapters.circuit_breaker import (
    CircuitBreakerExecutions,
    ProcessorProbe,
    as_record,
)
from holdfast.adapters.mapping import EventSourceMapping
from holdfast.adapters.sqs import RETENTION, Buffer, BufferConsumer
from holdfast.domain.circuit_breaker import (
    FIRST_WAIT_SECONDS,
    LONGEST_WAIT_SECONDS,
    BreakerExecution,
    BreakerInput,
    BreakerOutcome,
    CircuitBreaker,
    LastIncident,
    MappingState,
    NextStep,
    ProbeResult,
)
from holdfast.domain.errors import InvalidInput, Misconfigured, Throttled
from holdfast.domain.letters import Message
from tests.contract.project import machine, properties
from tests.fakes import NOW

ARN = "arn:aws:states:eu-central-1:123456789012:execution:breaker:"
QUEUE = "arn:aws:sqs:eu-central-1:123456789012:buffer"
HEALTHY = ProbeResult(received=1, stored=1)
FAILED = ProbeResult(received=1, failed_for_now=1)
NONSENSE = ProbeResult(received=1, failed_for_good=1)
NOTHING = ProbeResult(buffer_empty=True)


@dataclass
class FakeMapping:
    state: MappingState = MappingState.PAUSED

    def read_state(self) -> MappingState:
        return self.state


@dataclass
class FakeRuns:
    found: list[BreakerExecution] = field(default_factory=list)
    last: LastIncident | None = None

    def others(self, execution_arn: str) -> Sequence[BreakerExecution]:
        assert execution_arn.startswith(ARN)
        return [one for one in self.found if one.arn != execution_arn]

    def last_incident(self, execution_arn: str) -> LastIncident | None:
        assert execution_arn.startswith(ARN)
        return self.last


class FakeProber:
    def __init__(self, *results: ProbeResult | Exception) -> None:
        self.results = list(results)
        self.sizes: list[int] = []

    def probe(self, messages: int) -> ProbeResult:
        self.sizes.append(messages)
        found = self.results.pop(0) if self.results else NOTHING
        if isinstance(found, Exception):
            raise found
        return found


@dataclass
class Circuit:
    """A circuit breaker over fakes, and its time."""

    mapping: FakeMapping = field(default_factory=FakeMapping)
    runs: FakeRuns = field(default_factory=FakeRuns)
    prober: FakeProber = field(default_factory=FakeProber)
    now: datetime = NOW
    jitter: float = 0.5

    @property
    def breaker(self) -> CircuitBreaker:
        return CircuitBreaker(self.mapping, self.runs, self.prober, 90, 240, lambda: self.now, lambda: self.jitter)


def run(name: str = "one", *, minutes: int = 0, manual: bool = False, opened: bool = True) -> BreakerExecution:
    return BreakerExecution(ARN + name, NOW + timedelta(minutes=minutes), manual, opened)


OPEN = BreakerInput(run(), opened_at=NOW)


# -- opening -------------------------------------------------------------------------------------------------------


def test_an_alarm_opens_the_circuit_and_the_first_probe_follows_within_a_minute() -> None:
    circuit = Circuit(FakeMapping(MappingState.RUNNING))
    answer = circuit.breaker.inspect(BreakerInput(run()))
    assert answer == {
        "step": NextStep.OPEN,
        "openedAt": "2026-11-23T12:00:00.000Z",
        "waitSeconds": 60,
        "delaySeconds": 45,
        "nextProbeAt": "2026-11-23T12:00:45.000Z",
        "probes": 0,
    }


def test_two_alarms_at_once_open_the_circuit_once() -> None:
    circuit = Circuit(FakeMapping(MappingState.PAUSED), FakeRuns([run("one"), run("two", minutes=1)]))
    assert circuit.breaker.inspect(BreakerInput(run("two", minutes=1))) == {
        "step": NextStep.END,
        "outcome": BreakerOutcome.ALREADY_OPEN,
    }


def test_processing_that_was_disabled_by_hand_stays_disabled() -> None:
    """This execution would enable the mapping after a healthy probe, although a person has disabled it."""
    circuit = Circuit(FakeMapping(MappingState.PAUSED))
    assert circuit.breaker.inspect(BreakerInput(run()))["outcome"] is BreakerOutcome.ALREADY_OPEN


def test_a_pause_by_hand_takes_over_from_an_execution_that_an_alarm_started() -> None:
    pause = run("pause", minutes=5, manual=True)
    circuit = Circuit(FakeMapping(MappingState.PAUSED), FakeRuns([run(), pause]))
    assert circuit.breaker.inspect(BreakerInput(pause))["step"] is NextStep.OPEN
    assert circuit.breaker.check(OPEN)["outcome"] is BreakerOutcome.SUPERSEDED
    assert circuit.breaker.check(BreakerInput(pause, opened_at=NOW))["step"] is NextStep.WAIT


def test_a_second_pause_by_hand_takes_over_from_the_first() -> None:
    first, second = run("first", manual=True), run("second", minutes=1, manual=True)
    circuit = Circuit(FakeMapping(MappingState.PAUSED), FakeRuns([first, second]))
    assert circuit.breaker.inspect(BreakerInput(second))["step"] is NextStep.OPEN
    assert circuit.breaker.check(BreakerInput(first, opened_at=NOW))["outcome"] is BreakerOutcome.SUPERSEDED
    assert circuit.breaker.check(BreakerInput(second, opened_at=NOW))["step"] is NextStep.WAIT


def test_an_outage_after_a_pause_that_was_resumed_is_probed() -> None:
    """The execution of the pause has not noticed yet that a person resumed processing."""
    pause, outage = run("pause", manual=True), run("outage", minutes=5)
    circuit = Circuit(FakeMapping(MappingState.RUNNING), FakeRuns([pause, outage]))
    assert circuit.breaker.inspect(BreakerInput(outage))["step"] is NextStep.OPEN
    circuit.mapping.state = MappingState.PAUSED
    assert circuit.breaker.check(BreakerInput(pause, opened_at=NOW))["outcome"] is BreakerOutcome.SUPERSEDED
    assert circuit.breaker.check(BreakerInput(outage, opened_at=NOW))["outcome"] is BreakerOutcome.CLOSED


def test_an_execution_that_has_not_opened_the_circuit_supersedes_no_other() -> None:
    """It ends without opening if it finds processing paused, and then the other one must still be there."""
    pause, later = run("pause", manual=True), run("later", minutes=5, opened=False)
    circuit = Circuit(FakeMapping(MappingState.PAUSED), FakeRuns([pause, later]))
    assert circuit.breaker.check(BreakerInput(pause, opened_at=NOW))["step"] is NextStep.WAIT


def test_without_the_mapping_the_circuit_does_not_open() -> None:
    circuit = Circuit(FakeMapping(MappingState.MISSING))
    assert circuit.breaker.inspect(OPEN) == {"step": NextStep.END, "outcome": BreakerOutcome.MAPPING_MISSING}


def test_a_mapping_that_is_reported_as_missing_while_the_circuit_is_open_is_looked_for_again() -> None:
    """One wrong answer must not end the execution: nothing else would resume processing."""
    circuit = Circuit(FakeMapping(MappingState.MISSING))
    answer = circuit.breaker.check(OPEN)
    assert (answer["step"], answer["waitSeconds"], circuit.prober.sizes) == (NextStep.WAIT, LONGEST_WAIT_SECONDS, [])
    circuit.mapping.state = MappingState.PAUSED
    assert circuit.breaker.check(OPEN)["step"] is NextStep.CLOSE
    circuit.mapping.state = MappingState.MISSING
    assert circuit.breaker.confirm(OPEN) == {"step": NextStep.CLOSE}
    circuit.now += timedelta(hours=240)
    assert circuit.breaker.check(OPEN)["step"] is NextStep.CLOSE


@pytest.mark.parametrize(
    ("minutes", "wait", "expected"), [(10, 480, 480), (59, 900, 900), (61, 900, 60), (10, 5, 60), (10, 5_000, 900)]
)
def test_an_incident_soon_after_the_last_one_starts_with_its_wait(minutes: int, wait: int, expected: int) -> None:
    last = LastIncident(NOW - timedelta(minutes=minutes), wait)
    circuit = Circuit(FakeMapping(MappingState.RUNNING), FakeRuns(last=last))
    assert circuit.breaker.inspect(BreakerInput(run()))["waitSeconds"] == expected


# -- probing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("results", "sizes", "step"),
    [
        pytest.param([HEALTHY, ProbeResult(10, 10)], [1, 10], NextStep.CLOSE, id="all stored"),
        pytest.param([FAILED], [1], NextStep.WAIT, id="the first one fails: no other event is put at risk"),
        pytest.param([HEALTHY, ProbeResult(10, 0, 10)], [1, 10], NextStep.WAIT, id="one of eleven is stored"),
        pytest.param([HEALTHY, ProbeResult(10, 5, 5)], [1, 10], NextStep.CLOSE, id="half of them are stored"),
        pytest.param([NONSENSE, ProbeResult(10, 0, 0, 10)], [1, 10], NextStep.WAIT, id="only malformed messages"),
        pytest.param(
            [NONSENSE, ProbeResult(10, 3, 0, 7)], [1, 10], NextStep.CLOSE, id="malformed ones among valid ones"
        ),
        pytest.param([NOTHING], [1], NextStep.CLOSE, id="the buffer is empty"),
        pytest.param([ProbeResult()], [1], NextStep.WAIT, id="every message waits for its next receive"),
        pytest.param([ProbeResult(1, 0, 1, error="x")], [1], NextStep.WAIT, id="a poison message"),
        pytest.param([Throttled("invoke")], [1], NextStep.WAIT, id="the account throttles Lambda"),
        pytest.param([HEALTHY, Throttled("invoke")], [1, 10], NextStep.WAIT, id="throttled after the first one"),
        pytest.param([Misconfigured("receive")], [1], NextStep.WAIT, id="a permission is missing"),
    ],
)
def test_a_probe_closes_the_circuit_if_it_is_healthy(
    results: list[ProbeResult | Exception], sizes: list[int], step: NextStep
) -> None:
    circuit = Circuit(prober=FakeProber(*results))
    answer = circuit.breaker.check(OPEN)
    assert answer["step"] is step
    assert answer["probes"] == 1
    assert answer["probe"]["healthy"] is (step is NextStep.CLOSE)
    assert circuit.prober.sizes == sizes


def test_a_poison_message_does_not_keep_the_circuit_open() -> None:
    """It stays in flight after it crashed the processor, so the next probe receives another message."""
    circuit = Circuit(prober=FakeProber(ProbeResult(1, 0, 1), HEALTHY, ProbeResult(10, 10)))
    assert circuit.breaker.check(OPEN)["step"] is NextStep.WAIT
    assert circuit.breaker.check(OPEN)["step"] is NextStep.CLOSE


@pytest.mark.parametrize("jitter", [0.0, 0.999])
def test_the_wait_doubles_up_to_a_quarter_of_an_hour_and_half_of_it_is_random(jitter: float) -> None:
    circuit, breaker, waits, delays = Circuit(jitter=jitter), OPEN, [], []
    for _ in range(6):
        circuit.prober = FakeProber(FAILED)
        answer = circuit.breaker.check(breaker)
        waits.append(answer["waitSeconds"])
        delays.append(answer["delaySeconds"])
        breaker = replace(breaker, wait_seconds=answer["waitSeconds"], probes=answer["probes"])
    assert waits == [120, 240, 480, 900, 900, 900]
    assert breaker.probes == 6
    assert delays == [round(wait / 2 * (1 + jitter)) for wait in waits]


def test_after_the_longest_time_the_circuit_closes_without_a_probe() -> None:
    circuit = Circuit(now=NOW + timedelta(hours=240), prober=FakeProber(FAILED))
    assert circuit.breaker.check(OPEN) == {"step": NextStep.CLOSE, "outcome": BreakerOutcome.MAX_HOURS_REACHED}
    assert circuit.prober.sizes == []


def test_a_pause_by_hand_is_not_probed_and_ends_at_the_longest_time_too() -> None:
    circuit, pause = Circuit(), replace(OPEN, execution=run(manual=True))
    answer = circuit.breaker.check(pause)
    assert (answer["step"], answer["delaySeconds"]) == (NextStep.WAIT, LONGEST_WAIT_SECONDS)
    assert circuit.prober.sizes == []
    circuit.now += timedelta(hours=241)
    assert circuit.breaker.check(pause)["outcome"] is BreakerOutcome.MAX_HOURS_REACHED


@pytest.mark.parametrize("state", [MappingState.RUNNING, MappingState.STARTING])
def test_processing_that_a_person_or_a_deployment_resumed_ends_the_execution(state: MappingState) -> None:
    circuit = Circuit(FakeMapping(state))
    assert circuit.breaker.check(OPEN) == {"step": NextStep.ANNOUNCE, "outcome": BreakerOutcome.RESUMED_BY_HAND}


# -- closing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "others", "expected"),
    [
        (MappingState.RUNNING, [], {"step": NextStep.ANNOUNCE}),
        (MappingState.STARTING, [], {"step": NextStep.RESUMING}),
        (MappingState.PAUSED, [], {"step": NextStep.CLOSE}),
        (MappingState.PAUSED, [run("two", minutes=1)], {"step": NextStep.END, "outcome": BreakerOutcome.SUPERSEDED}),
        (MappingState.PAUSED, [run("earlier", minutes=-1)], {"step": NextStep.CLOSE}),
    ],
)
def test_closing_is_confirmed(state: MappingState, others: list[BreakerExecution], expected: dict[str, Any]) -> None:
    circuit = Circuit(FakeMapping(state), FakeRuns([run(), *others]))
    assert circuit.breaker.confirm(OPEN) == expected


# -- ownership, in any order of steps ------------------------------------------------------------------------------


@dataclass
class Running:
    """One execution of the model: the step that it takes next, and the decision that it acts on."""

    data: BreakerInput
    at: str = "inspect"
    #: Whether its history shows that it has entered Open.
    opened: bool = False


class Model:
    """Executions, the mapping and a person, step by step. A decision and what follows from it are two steps."""

    def __init__(self) -> None:
        self.circuit = Circuit(FakeMapping(MappingState.RUNNING))
        self.executions: list[Running] = []

    def start(self, *, manual: bool) -> None:
        number = len(self.executions)
        execution = run(f"{number}", minutes=number, manual=manual, opened=False)
        self.executions.append(Running(BreakerInput(execution, opened_at=NOW)))

    def resume_by_hand(self) -> None:
        self.circuit.mapping.state = MappingState.RUNNING

    def advance(self, running: Running, *, healthy: bool) -> None:
        """Take the next step of an execution."""
        if running.at in {"inspect", "check", "confirm"}:
            self.circuit.runs.found = [replace(one.data.execution, opened=one.opened) for one in self.open]
            self.circuit.prober = FakeProber(HEALTHY if healthy else FAILED)
            running.at = str(getattr(self.circuit.breaker, running.at)(running.data)["step"])
        elif running.at == NextStep.OPEN and not running.opened:
            running.opened = True
        elif running.at == NextStep.OPEN:
            self.circuit.mapping.state, running.at = MappingState.PAUSED, NextStep.WAIT
        elif running.at == NextStep.CLOSE:
            self.circuit.mapping.state, running.at = MappingState.RUNNING, "confirm"
        elif running.at == NextStep.WAIT:
            running.at = "check"
        elif running.at == NextStep.ANNOUNCE:
            running.at = "ended"
        if running.at == NextStep.END:
            running.at = "ended"

    @property
    def open(self) -> list[Running]:
        return [one for one in self.executions if one.at != "ended"]


@given(data=st.data())
def test_processing_is_never_paused_without_an_execution_that_resumes_it(data: st.DataObject) -> None:
    model = Model()
    for _ in range(data.draw(st.integers(1, 40), label="steps")):
        what = data.draw(st.sampled_from(["alarm", "pause", "resume", "step", "step", "step", "step"]))
        if what == "alarm":
            model.start(manual=False)
        elif what == "pause":
            model.start(manual=True)
        elif what == "resume":
            model.resume_by_hand()
        elif model.open:
            # An execution that only has to end does so before the wait of another one is over: the contract tests
            # compare the two times.
            ending = [one for one in model.open if one.at == NextStep.ANNOUNCE]
            chosen = ending[0] if ending else data.draw(st.sampled_from(model.open))
            model.advance(chosen, healthy=data.draw(st.booleans()))
    if model.circuit.mapping.state is MappingState.PAUSED:
        # A pause by a person that has only started will open the circuit; an alarm's execution would end.
        assert [one for one in model.open if one.at != "inspect" or one.data.execution.manual]


# -- the calls to AWS ----------------------------------------------------------------------------------------------


class FakeClient:
    """Answers calls of boto3 by name; an exception is raised."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(**request: Any) -> Any:
            self.calls.append((name, request))
            found = self.answers.get(name, {})
            if isinstance(found, Exception):
                raise found
            return found(**request) if callable(found) else found

        return call

    def requests(self, name: str) -> list[dict[str, Any]]:
        return [request for called, request in self.calls if called == name]


def error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "secret"}, "ResponseMetadata": {"HTTPStatusCode": 400}}, "x")


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("Enabled", MappingState.RUNNING),
        ("Enabling", MappingState.STARTING),
        ("Creating", MappingState.STARTING),
        ("Updating", MappingState.STARTING),
        ("Disabling", MappingState.PAUSED),
        ("Disabled", MappingState.PAUSED),
        ("Deleting", MappingState.MISSING),
    ],
)
def test_the_state_of_the_mapping_says_whether_processing_runs(state: str, expected: MappingState) -> None:
    client = FakeClient(get_event_source_mapping={"State": state})
    assert EventSourceMapping(client, "a-mapping").read_state() is expected
    assert client.requests("get_event_source_mapping") == [{"UUID": "a-mapping"}]


def test_a_deleted_mapping_is_missing_and_a_refused_permission_is_an_error() -> None:
    missing = FakeClient(get_event_source_mapping=error("ResourceNotFoundException"))
    assert EventSourceMapping(missing, "m").read_state() is MappingState.MISSING
    with pytest.raises(Misconfigured, match="read the event source mapping: AccessDeniedException"):
        EventSourceMapping(FakeClient(get_event_source_mapping=error("AccessDeniedException")), "m").read_state()


def listed(name: str, **more: Any) -> dict[str, Any]:
    return {"executionArn": ARN + name, "startDate": NOW, **more}


def entered(*states: str) -> dict[str, Any]:
    return {"events": [{"id": 1}, *({"stateEnteredEventDetails": {"name": state}} for state in states)]}


def test_the_other_executions_are_those_of_the_same_state_machine_and_open_the_circuit_in_their_third_state() -> None:
    histories = {"two": entered("Inspect", "Decide", "Open", "AnnounceOpened"), "three": entered("Inspect", "Decide")}
    client = FakeClient(
        list_executions={"executions": [listed("one"), listed("two"), listed("three")]},
        get_execution_history=lambda executionArn, **_: histories[executionArn.rsplit(":", 1)[-1]],  # noqa: N803 - boto3's name
    )
    assert CircuitBreakerExecutions(client).others(ARN + "one") == [
        BreakerExecution(ARN + "two", NOW, opened=True),
        BreakerExecution(ARN + "three", NOW),
    ]
    (request,) = client.requests("list_executions")
    assert request["stateMachineArn"] == "arn:aws:states:eu-central-1:123456789012:stateMachine:breaker"
    assert request["statusFilter"] == "RUNNING"
    assert "Open" in machine("circuit_breaker")["States"]


def test_the_last_incident_is_the_newest_one_that_a_probe_ended() -> None:
    outputs = {
        "already": {"outcome": "ALREADY_OPEN"},
        "paused": {"outcome": "RESUMED_BY_HAND", "waitSeconds": 60},
        "closed": {"outcome": "CLOSED", "waitSeconds": 480},
        "older": {"outcome": "CLOSED", "waitSeconds": 60},
    }
    client = FakeClient(
        list_executions={"executions": [listed(name, stopDate=NOW) for name in outputs]},
        describe_execution=lambda executionArn: {"output": json.dumps(outputs[executionArn.rsplit(":", 1)[-1]])},  # noqa: N803 - boto3's name
    )
    assert CircuitBreakerExecutions(client).last_incident(ARN + "one") == LastIncident(NOW, 480)


def test_executions_of_a_state_machine_that_does_not_exist_any_more_do_not_run() -> None:
    client = FakeClient(list_executions=error("StateMachineDoesNotExist"))
    assert CircuitBreakerExecutions(client).others(ARN + "one") == []
    assert CircuitBreakerExecutions(client).last_incident(ARN + "one") is None


def message(name: str, body: str = "{}") -> dict[str, Any]:
    return {
        "MessageId": name,
        "ReceiptHandle": f"receipt-{name}",
        "Body": body,
        "MD5OfBody": "0" * 32,
        "Attributes": {"ApproximateReceiveCount": "2", "SentTimestamp": "1795435200123"},
        "MessageAttributes": {
            "Text": {"DataType": "String", "StringValue": "a"},
            "Bytes": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
        },
    }


def prober(
    messages: Sequence[dict[str, Any]], answer: Any, **sqs: Any
) -> tuple[ProcessorProbe, FakeClient, FakeClient]:
    queue = FakeClient(receive_message={"Messages": list(messages)}, **sqs)
    functions = FakeClient(invoke=answer)
    consumer = BufferConsumer(queue, "https://sqs/buffer")
    return ProcessorProbe(consumer, QUEUE, functions, "processor"), queue, functions


def answered(failed: Sequence[str] = (), **counts: int) -> dict[str, Any]:
    answer = {
        "batchItemFailures": [{"itemIdentifier": name} for name in failed],
        "probe": {"stored": 0, "failedForNow": 0, "failedForGood": 0} | counts,
    }
    return {"StatusCode": 200, "Payload": io.BytesIO(json.dumps(answer).encode())}


def test_a_probe_deletes_exactly_the_messages_that_the_processor_processed() -> None:
    probe, queue, functions = prober(
        [message("a"), message("b"), message("c")], answered(["b", "c"], stored=1, failedForNow=1, failedForGood=1)
    )
    assert probe.probe(10) == ProbeResult(3, 1, 1, 1)
    (deleted,) = queue.requests("delete_message_batch")
    assert [one["ReceiptHandle"] for one in deleted["Entries"]] == ["receipt-a"]
    assert queue.requests("change_message_visibility_batch") == []
    (invoked,) = functions.requests("invoke")
    payload = json.loads(invoked["Payload"])
    assert payload["probe"] is True
    assert [record["messageId"] for record in payload["Records"]] == ["a", "b", "c"]


def test_a_record_of_a_probe_has_the_form_of_lambda() -> None:
    record = as_record(message("a"), QUEUE)
    assert record == {
        "messageId": "a",
        "receiptHandle": "receipt-a",
        "body": "{}",
        "attributes": {"ApproximateReceiveCount": "2", "SentTimestamp": "1795435200123"},
        "messageAttributes": {
            "Text": {"stringValue": "a", "stringListValues": [], "binaryListValues": [], "dataType": "String"},
            "Bytes": {"binaryValue": "AP8=", "stringListValues": [], "binaryListValues": [], "dataType": "Binary"},
        },
        "md5OfBody": "0" * 32,
        "eventSource": "aws:sqs",
        "eventSourceARN": QUEUE,
        "awsRegion": "eu-central-1",
    }
    assert Message.of_record(record).receive_count == 2


def test_after_a_crash_of_the_processor_nothing_is_deleted() -> None:
    crashed = {"StatusCode": 200, "FunctionError": "Unhandled", "Payload": io.BytesIO(b"{}")}
    probe, queue, _ = prober([message("a")], crashed)
    found = probe.probe(1)
    assert (found.received, found.failed_for_now, found.stored) == (1, 1, 0)
    assert queue.requests("delete_message_batch") == []


def test_messages_that_could_not_be_handed_over_are_visible_again_at_once() -> None:
    probe, queue, _ = prober([message("a")], error("TooManyRequestsException"))
    with pytest.raises(Throttled):
        probe.probe(1)
    (request,) = queue.requests("change_message_visibility_batch")
    assert request["Entries"] == [{"Id": "0", "ReceiptHandle": "receipt-a", "VisibilityTimeout": 0}]


def test_messages_beyond_the_size_of_an_invocation_are_visible_again_at_once() -> None:
    large = "x" * 1_000_000
    probe, queue, functions = prober([message(str(number), large) for number in range(8)], answered(stored=5))
    assert probe.probe(10).received == 5
    (request,) = queue.requests("change_message_visibility_batch")
    assert [one["ReceiptHandle"] for one in request["Entries"]] == ["receipt-5", "receipt-6", "receipt-7"]
    assert len(functions.requests("invoke")[0]["Payload"]) < 6_000_000


@pytest.mark.parametrize(("waiting", "empty"), [("0", True), ("3", False)])
def test_a_buffer_whose_messages_all_wait_is_not_empty(waiting: str, empty: bool) -> None:
    depths = {"Attributes": {"ApproximateNumberOfMessages": "0", "ApproximateNumberOfMessagesNotVisible": waiting}}
    probe, _, functions = prober([], answered(), get_queue_attributes=depths)
    assert probe.probe(1) == ProbeResult(buffer_empty=empty)
    assert functions.calls == []


def test_a_backlog_of_a_million_messages_needs_no_more_calls_than_one_of_ten() -> None:
    """A probe receives once, invokes once and deletes once. The mapping drains the rest."""
    probe, queue, functions = prober([message(str(number)) for number in range(10)], answered(stored=10))
    probe.probe(10)
    assert len(queue.calls) + len(functions.calls) == 3


# -- the handler ---------------------------------------------------------------------------------------------------

STATE = {"execution": ARN + "one", "startedAt": "2026-11-23T12:00:00.000Z", "manual": False, "reason": "why"}


def test_the_handler_counts_an_open_circuit(capsys: pytest.CaptureFixture[str]) -> None:
    circuit = Circuit(now=NOW + timedelta(hours=24), prober=FakeProber(FAILED))
    event = {**STATE, "action": "check", "openedAt": "2026-11-23T12:00:00.000Z", "waitSeconds": 60, "probes": 3}
    answer = circuit_breaker.app.lambda_handler(event, None, services=circuit.breaker)
    assert (answer["step"], answer["probes"], answer["waitSeconds"]) == (NextStep.WAIT, 4, 120)
    json.dumps(answer)
    (line,) = [json.loads(one) for one in capsys.readouterr().out.splitlines() if '"CloudWatchMetrics"' in one]
    counted = {name: line[name] for name in ("ProcessingPaused", "CircuitOpen", "CircuitOpenHours")}
    assert counted == {"ProcessingPaused": [1.0], "CircuitOpen": [1.0], "CircuitOpenHours": [24.0]}
    assert line["CircuitOpenPercentOfMaxHours"] == [10.0]


def test_a_pause_by_hand_counts_as_paused_and_not_as_open(capsys: pytest.CaptureFixture[str]) -> None:
    circuit = Circuit(FakeMapping(MappingState.RUNNING))
    circuit_breaker.app.lambda_handler({**STATE, "manual": True, "action": "inspect"}, None, services=circuit.breaker)
    out = capsys.readouterr().out
    assert '"ProcessingPaused"' in out
    assert '"CircuitOpen"' not in out


@pytest.mark.parametrize(
    "event",
    [
        {**STATE, "action": "explode"},
        {"action": "inspect"},
        {**STATE, "action": "check", "openedAt": "yesterday"},
        {**STATE, "action": "check", "waitSeconds": "soon"},
    ],
)
def test_an_input_that_cannot_be_used_is_refused(event: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        circuit_breaker.app.lambda_handler(event, None, services=Circuit().breaker)


def test_the_constants_are_those_of_the_documentation() -> None:
    assert (FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS) == (60, 900)


# -- the buffer, as triage looks at it -----------------------------------------------------------------------------


def buffer_state(depth: int, oldest_hours: float | None) -> Buffer:
    points = [] if oldest_hours is None else [{"Maximum": 60.0}, {"Maximum": oldest_hours * 3600}]
    return Buffer(
        FakeClient(get_queue_attributes={"Attributes": {"ApproximateNumberOfMessagesNotVisible": str(depth)}}),
        FakeClient(get_metric_statistics={"Datapoints": points}),
        EventSourceMapping(FakeClient(get_event_source_mapping={"State": "Enabled"}), "mapping"),
        "https://sqs/123456789012/buffer",
        lambda: NOW,
    )


@pytest.mark.parametrize(
    ("depth", "oldest_hours", "sent_hours_ago", "expected"),
    [
        pytest.param(0, None, 7, False, id="the queue is empty"),
        pytest.param(5, None, 7, True, id="the age is unknown"),
        pytest.param(5, 8, 7, True, id="the oldest message is older"),
        pytest.param(5, 1, 7, True, id="the oldest is younger, but the age leaves some messages out"),
        pytest.param(5, 1, 24, True, id="within the margin"),
        pytest.param(5, 1, 26, False, id="the oldest message is younger by more than the margin"),
        pytest.param(5, 340, 14 * 24, False, id="SQS has deleted the message"),
    ],
)
def test_in_doubt_the_buffer_may_still_hold_a_message(
    depth: int, oldest_hours: float | None, sent_hours_ago: float, expected: bool
) -> None:
    state = buffer_state(depth, oldest_hours)
    assert state.may_hold(NOW - timedelta(hours=sent_hours_ago)) is expected
    assert not state.paused()


def test_the_age_is_that_of_this_queue() -> None:
    state = buffer_state(5, 1)
    state.may_hold(NOW - timedelta(hours=30))
    (request,) = state.cloudwatch.requests("get_metric_statistics")
    assert request["Dimensions"] == [{"Name": "QueueName", "Value": "buffer"}]
    assert request["StartTime"] < request["EndTime"] == NOW


def test_the_retention_of_the_buffer_is_that_of_the_template() -> None:
    assert RETENTION.total_seconds() == properties("BufferQueue")["MessageRetentionPeriod"]
