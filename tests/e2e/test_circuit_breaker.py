"""The circuit breaker on the deployed stack: an outage pauses processing, a probe resumes it, nothing is lost."""

from __future__ import annotations

import json
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from local.environment import LocalStack
from local.eventually import eventually
from local.genesys import GenesysStandIn
from local.mappings import change_mapping, processing_of
from ops.pause import ProcessingState
from tests.e2e.pipeline import PARAMETERS, SECONDS, WAIT_SCALE, Pipeline, with_user
from tests.e2e.subscribers import AlarmSubscriber, Consumer

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Failing events stay in the buffer for longer than the test runs, as they do for longer than a circuit needs to open.
BACKOFF = {"BackoffBaseSeconds": "3", "BackoffCapSeconds": "6", "MaxReceiveCount": "100"}
#: In one period of the alarm, which is scaled.
MIN_EVENTS = "10"
EVENTS_AT_ONCE = 10


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Pipeline]:
    genesys = GenesysStandIn(requests_per_minute=100_000)
    parameters = {**PARAMETERS, **BACKOFF, "CircuitBreakerMinEvents": MIN_EVENTS}
    with LocalStack(
        parameters=parameters, wait_scale=WAIT_SCALE, genesys=genesys, callback_floor_seconds=15
    ) as deployed:
        yield Pipeline(deployed)


@pytest.fixture(autouse=True)
def closed(pipeline: Pipeline) -> Iterator[None]:
    """The circuit is closed before and after each test."""
    yield
    pipeline.genesys.set_faults(None)
    resume(pipeline)
    eventually(lambda: not runs(pipeline, "RUNNING"), "no execution of the circuit breaker runs", SECONDS)


def paused(pipeline: Pipeline) -> bool:
    return processing_of(pipeline.stack) is ProcessingState.PAUSED


def resume(pipeline: Pipeline) -> None:
    change_mapping(pipeline.client("lambda"), pipeline.stack.resources["ProcessorFunctionBuffer"], enabled=True)


def runs(pipeline: Pipeline, status: str) -> list[str]:
    arn = pipeline.outputs["CircuitBreakerStateMachineArn"]
    found = pipeline.client("stepfunctions").list_executions(stateMachineArn=arn, statusFilter=status)
    return [one["executionArn"] for one in found["executions"]]


def output_of(pipeline: Pipeline, arn: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(pipeline.end_of(arn)["output"])
    return found


@contextmanager
def traffic(pipeline: Pipeline) -> Iterator[list[str]]:
    """Events arrive all the time. Yields the list of their ids, which grows."""
    sent: list[str] = []
    stop = threading.Event()

    def send() -> None:
        while not stop.wait(0.4):
            sent.extend(pipeline.put(*(with_user() for _ in range(EVENTS_AT_ONCE))))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield sent
    finally:
        stop.set()
        thread.join()


def stored(pipeline: Pipeline) -> set[str]:
    pages = pipeline.client("dynamodb").get_paginator("scan").paginate(TableName=pipeline.outputs["EventsTableName"])
    return {item["eventId"]["S"] for page in pages for item in page["Items"]}


@pytest.mark.fast
def test_an_outage_opens_the_circuit_and_a_probe_closes_it(pipeline: Pipeline) -> None:
    with closing(Consumer(pipeline, "holdfast.circuit-breaker")) as announced:
        pipeline.genesys.set_faults({"down": True})
        with traffic(pipeline) as sent:
            eventually(lambda: paused(pipeline), "the circuit opens", SECONDS)
            (execution,) = runs(pipeline, "RUNNING")
            before = len(sent)
            eventually(lambda: len(sent) >= before + 3 * EVENTS_AT_ONCE, "events arrive while the circuit is open")
        untouched = set(sent[-2 * EVENTS_AT_ONCE :])
        eventually(lambda: probes(pipeline, execution) >= 2, "two probes fail", SECONDS)
        assert paused(pipeline)
        assert len(untouched & pipeline.attempted()) <= 2, "only probes receive"
        pipeline.genesys.set_faults(None)

        output = output_of(pipeline, execution)
        assert (output["outcome"], output["manual"]) == ("CLOSED", False)
        eventually(lambda: set(sent) <= stored(pipeline), "every event is stored", SECONDS)
        details = [event["detail"] for event in announced.take()]
    assert pipeline.objects("archive/") == []
    assert pipeline.executions() == []
    assert [one["executionArn"] for one in details] == [execution] * 2
    assert details[1]["outcome"] == "CLOSED"


def probes(pipeline: Pipeline, execution: str) -> int:
    """How many probes an execution has finished."""
    pages = pipeline.client("stepfunctions").get_paginator("get_execution_history").paginate(executionArn=execution)
    events = [event for page in pages for event in page["events"]]
    return sum(event.get("stateExitedEventDetails", {}).get("name") == "Probe" for event in events)


def test_an_execution_shows_nothing_of_an_event(pipeline: Pipeline) -> None:
    (sent,) = pipeline.enqueue(with_user(customerName="Chiara Example"))
    execution = pipeline.start("CircuitBreaker", {"manual": False, "reason": "a test"})
    pipeline.end_of(execution)
    pipeline.stored([sent])
    history = json.dumps(
        pipeline.client("stepfunctions").get_execution_history(executionArn=execution, maxResults=1000)["events"],
        default=str,
    )
    assert sent not in history
    assert "Chiara" not in history


def test_a_second_execution_beside_one_that_runs_changes_nothing(pipeline: Pipeline) -> None:
    first = pipeline.start("CircuitBreaker", {"manual": True, "reason": "a test"})
    eventually(lambda: paused(pipeline), "processing is paused", SECONDS)
    second = pipeline.start("CircuitBreaker", {"manual": False, "reason": "an alarm"})
    assert output_of(pipeline, second)["outcome"] == "ALREADY_OPEN"
    assert paused(pipeline)
    resume(pipeline)
    assert output_of(pipeline, first)["outcome"] == "RESUMED_BY_HAND"


def test_a_pause_by_hand_keeps_messages_in_the_buffer_until_processing_is_resumed(pipeline: Pipeline) -> None:
    execution = pipeline.start("CircuitBreaker", {"manual": True, "reason": "maintenance"})
    eventually(lambda: paused(pipeline), "processing is paused", SECONDS)
    (waiting,) = pipeline.enqueue(with_user())
    with closing(AlarmSubscriber(pipeline)) as alarms:
        resume(pipeline)
        pipeline.stored([waiting])
        assert output_of(pipeline, execution)["outcome"] == "RESUMED_BY_HAND"
        assert "ProcessingPausedAlarm" not in alarms.received()


def test_an_outage_after_a_pause_that_was_resumed_is_probed(pipeline: Pipeline) -> None:
    """The execution of the pause has not noticed the end of the pause when the circuit opens."""
    pause = pipeline.start("CircuitBreaker", {"manual": True, "reason": "maintenance"})
    eventually(lambda: paused(pipeline), "processing is paused", SECONDS)
    resume(pipeline)
    pipeline.genesys.set_faults({"down": True})
    (waiting,) = pipeline.enqueue(with_user())
    outage = pipeline.start("CircuitBreaker", {"manual": False, "reason": "an alarm"})
    eventually(lambda: probes(pipeline, outage) >= 2, "two probes fail", SECONDS)
    pipeline.genesys.set_faults(None)
    assert output_of(pipeline, outage)["outcome"] == "CLOSED"
    pipeline.stored([waiting])
    assert output_of(pipeline, pause)["outcome"] in {"SUPERSEDED", "RESUMED_BY_HAND"}
