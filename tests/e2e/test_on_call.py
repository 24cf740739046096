"""Alarms from the incident to the notification, and until they clear. Fifteen minutes take nine seconds here."""

from __future__ import annotations

import uuid
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from local.eventually import eventually
from tests.e2e.pipeline import with_user
from tests.e2e.subscribers import AlarmSubscriber

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.controls import Controls
    from tests.e2e.pipeline import Pipeline

#: Alarms about the sweep, which stay active after the sweeps of other tests.
DAILY = {"SnapshotsAdoptedAlarm", "SnapshotAgeAlarm", "SnapshotAgeMetricAlarm", "SweepErrorsMetricAlarm"}


@pytest.fixture
def alarms(pipeline: Pipeline) -> Iterator[AlarmSubscriber]:
    """A subscriber to a stack without active alarms."""
    with closing(AlarmSubscriber(pipeline)) as made:
        eventually(lambda: not made.active() - DAILY, "the alarms of earlier tests have cleared", 90)
        made.received()
        made.notices.clear()
        yield made


def test_the_first_dead_letter_raises_one_alarm_and_the_alarm_clears(
    pipeline: Pipeline, alarms: AlarmSubscriber
) -> None:
    event_ids = pipeline.enqueue(f"no JSON {uuid.uuid4()}", f"nor this {uuid.uuid4()}")
    eventually(alarms.received, "an alarm is notified")
    for event_id in event_ids:
        pipeline.archived(event_id)
    eventually(lambda: not alarms.active() - DAILY, "the alarm clears", 90)
    assert alarms.received() == ["DeadLetterAlarm"]
    assert alarms.notices[0]["AlarmDescription"].endswith("Runbook: docs/operations.md#dead-letter")


def test_a_wrong_secret_raises_its_own_alarm_and_none_for_its_dead_letters(
    pipeline: Pipeline, alarms: AlarmSubscriber, controls: Controls
) -> None:
    controls.use_one_environment()
    pipeline.genesys.set_faults({"rejectCredentials": True})
    (event_id,) = pipeline.enqueue(with_user())
    pipeline.dead(event_id)
    eventually(lambda: "DeadLetterAlarm" in alarms.active(), "the alarm for dead letters is active")
    assert alarms.received() == ["MisconfiguredAlarm"]


def test_a_throttled_processor_raises_its_own_alarm_and_none_for_the_backlog(
    pipeline: Pipeline, alarms: AlarmSubscriber
) -> None:
    # The engine does not throttle, and its queues publish no metrics: the test publishes what AWS would.
    function = {"Name": "FunctionName", "Value": pipeline.outputs["ProcessorFunctionName"]}
    queue = {"Name": "QueueName", "Value": pipeline.outputs["BufferQueueUrl"].rpartition("/")[2]}

    def publish(namespace: str, metric: str, dimension: dict[str, str], value: int) -> None:
        datum = {"MetricName": metric, "Dimensions": [dimension], "Value": value}
        pipeline.client("cloudwatch").put_metric_data(Namespace=namespace, MetricData=[datum])

    def throttled() -> bool:
        publish("AWS/Lambda", "Throttles", function, 7)
        return "ProcessorThrottlesAlarm" in alarms.active()

    def behind() -> bool:
        publish("AWS/SQS", "ApproximateAgeOfOldestMessage", queue, 1800)
        return throttled() and "BufferAgeAlarm" in alarms.active()

    eventually(throttled, "the alarm for the cause is active")
    eventually(behind, "the alarm for the effect is active")
    assert alarms.received() == ["ProcessorThrottlesAlarm"]
