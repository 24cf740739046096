"""Alarms as somebody on call hears them: from a real incident to the notification, and until it is over.

A quarter of an hour is nine seconds here.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from tests.e2e.on_call import OnCall
from tests.e2e.pipeline import with_user
from tests.e2e.processor import Processor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.pipeline import Pipeline


#: What the daily sweep says holds for a day, a quarter of an hour here: other tests sweep.
DAILY = {"SnapshotsAdoptedAlarm", "SnapshotAgeAlarm", "SnapshotAgeMetricAlarm", "SweepErrorsMetricAlarm"}


@pytest.fixture
def on_call(pipeline: Pipeline) -> Iterator[OnCall]:
    """Somebody who takes up the phone when it has been silent for a while."""
    one = OnCall(pipeline)
    pipeline.eventually(lambda: not one.on() - DAILY, "what went before is over")
    one.hears()
    one.heard.clear()
    yield one
    one.hangs_up()


@pytest.fixture
def processor(pipeline: Pipeline) -> Iterator[Processor]:
    one = Processor(pipeline)
    yield one
    one.restore()


def test_the_first_dead_letter_rings_once_says_what_to_do_and_the_alarm_clears(
    pipeline: Pipeline, on_call: OnCall
) -> None:
    letters = pipeline.enqueue(f"no JSON {uuid.uuid4()}", f"nor this {uuid.uuid4()}")
    pipeline.eventually(on_call.hears, "it rings")
    for letter in letters:
        pipeline.archived(letter)
    pipeline.eventually(lambda: not on_call.on() - DAILY, "the alarm clears")
    assert on_call.hears() == ["DeadLetterAlarm"]
    assert on_call.heard[0]["AlarmDescription"].endswith("Runbook: docs/operations.md#dead-letter")


def test_a_wrong_secret_rings_as_such_and_its_dead_letters_do_not(
    pipeline: Pipeline, on_call: OnCall, processor: Processor
) -> None:
    processor.run_alone()
    pipeline.genesys.set_faults({"rejectCredentials": True})
    (letter,) = pipeline.enqueue(with_user())
    pipeline.eventually(lambda: pipeline.executions(letter), "it becomes a dead letter")
    pipeline.eventually(lambda: "DeadLetterAlarm" in on_call.on(), "its alarm is on")
    assert on_call.hears() == ["MisconfiguredAlarm"]
    processor.clear()


def test_a_throttled_processor_rings_as_such_and_the_backlog_that_grows_does_not(
    pipeline: Pipeline, on_call: OnCall
) -> None:
    # The engine's pollers are not throttled, and its queues publish nothing: what AWS publishes then is put here.
    function = {"Name": "FunctionName", "Value": pipeline.outputs["ProcessorFunctionName"]}
    queue = {"Name": "QueueName", "Value": pipeline.outputs["BufferQueueUrl"].rpartition("/")[2]}

    def publish(namespace: str, metric: str, dimension: dict[str, str], value: int) -> None:
        datum = {"MetricName": metric, "Dimensions": [dimension], "Value": value}
        pipeline.client("cloudwatch").put_metric_data(Namespace=namespace, MetricData=[datum])

    def throttled() -> bool:
        publish("AWS/Lambda", "Throttles", function, 7)
        return "ProcessorThrottlesAlarm" in on_call.on()

    def and_behind() -> bool:
        publish("AWS/SQS", "ApproximateAgeOfOldestMessage", queue, 1800)
        return throttled() and "BufferAgeAlarm" in on_call.on()

    pipeline.eventually(throttled, "the cause is on after three periods")
    pipeline.eventually(and_behind, "and what follows from it")
    assert on_call.hears() == ["ProcessorThrottlesAlarm"]
