"""The incident table: each incident notifies as it should, under a model of AWS's metrics and of CloudWatch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from tests.contract.project import values
from tests.model.cloudwatch import Metrics, evaluate, metric_key
from tests.model.incidents import BEFORE, INCIDENTS, PAGE, alarms, history, metrics, notified, with_table
from tests.model.stack import Fault

if TYPE_CHECKING:
    from tests.model.incidents import Incident

NOTIFYING = {name for name, alarm in alarms().items() if "AlarmActions" in alarm}
METRIC_ALARMS = [name for name, alarm in alarms().items() if "AlarmRule" not in alarm]
#: They start the circuit breaker. Another alarm notifies.
TRIGGERS = {"EverythingFailsEventsMetricAlarm", "EverythingFailsInvocationsMetricAlarm"}
#: Lambda and EventBridge publish these instead of another metric that the model publishes.
ALTERNATIVES = {
    ("AWS/Lambda", "DroppedEventCount", ("FanOutFunctionNewEvents",)),
    ("AWS/Events", "InvocationsFailedToBeSentToDlq", ("EventRule",)),
}


@pytest.mark.parametrize("extra", [0, 2])
@pytest.mark.parametrize("incident", INCIDENTS, ids=lambda one: one.cause)
def test_an_incident_notifies_once_by_the_alarm_of_its_cause(incident: Incident, extra: int) -> None:
    """AWS does not document how many extra data points it retrieves, so the table holds for none and for two."""
    assert notified(incident, extra) == (list(incident.alarms), list(incident.then))


def test_every_alarm_notifies_in_an_incident() -> None:
    assert {name for incident in INCIDENTS for name in incident.alarms} == NOTIFYING


@pytest.mark.parametrize(
    ("cause", "trigger"),
    [
        ("Genesys is down, `required`, 90 events a minute", "EverythingFailsEventsMetricAlarm"),
        ("a deployment of the processor cannot start, 90 events a minute", "EverythingFailsInvocationsMetricAlarm"),
    ],
)
def test_the_circuit_breaker_starts_in_the_third_minute(cause: str, trigger: str) -> None:
    (incident,) = [one for one in INCIDENTS if one.cause == cause]
    active = history(incident).active
    assert active[trigger][0] == active["EverythingFailsAlarm"][0] == BEFORE + 2


@pytest.mark.parametrize(
    "incident",
    [one for one in INCIDENTS if "90 events" not in one.cause and Fault.PROCESSOR_CRASHES not in one.faults],
    ids=lambda one: one.cause,
)
def test_no_other_incident_starts_the_circuit_breaker(incident: Incident) -> None:
    assert "EverythingFailsAlarm" not in history(incident).active


@pytest.mark.parametrize("name", [name for name in METRIC_ALARMS if name not in TRIGGERS])
def test_without_a_metric_alarm_an_incident_notifies_otherwise(name: str) -> None:
    """No metric alarm is redundant."""
    silenced = {**alarms(), name: {**alarms()[name], "Threshold": math.inf}}

    def changes(incident: Incident) -> bool:
        before = history(incident)
        if name not in before.active:
            return False
        return evaluate(silenced, metrics(incident), incident.minutes).notifications != before.notifications

    assert any(map(changes, INCIDENTS))


def test_the_model_publishes_every_metric_that_an_alarm_reads() -> None:
    published = {key for incident in INCIDENTS for key in metrics(incident).samples}
    assert set(_read_metrics()) - published == ALTERNATIVES


@pytest.mark.parametrize("key", sorted(ALTERNATIVES))
def test_an_alternative_metric_notifies_as_well(key: tuple[str, str, tuple[str, ...]]) -> None:
    published = Metrics()
    published.put(key, 5, 1)
    assert len(evaluate(alarms(), published, 30).notifications) == 1


def minutes_of(**counts: float) -> Metrics:
    """Ten minutes in which the processor publishes these counts each minute."""
    published = Metrics()
    for minute in range(10):
        for name, value in counts.items():
            published.put(("own", name, ("processor",)), minute, value)
    return published


@pytest.mark.parametrize(
    ("counts", "opens"),
    [
        pytest.param({"FirstReceives": 100, "Received": 100, "FailedForNow": 90}, True, id="90 % fail for now"),
        pytest.param({"FirstReceives": 100, "Received": 100, "FailedForNow": 89}, False, id="89 % fail for now"),
        pytest.param({"FirstReceives": 100, "Received": 100, "FailedForNow": 50}, False, id="half of them fail"),
        pytest.param(
            {"FirstReceives": 100, "Received": 500, "Failed": 500}, False, id="a producer sends only invalid bodies"
        ),
        pytest.param({"FirstReceives": 50, "Received": 50, "FailedForNow": 50}, True, id="the minimum"),
        pytest.param({"FirstReceives": 49, "Received": 245, "FailedForNow": 245}, False, id="below the minimum"),
        pytest.param({"FirstReceives": 0.2, "Received": 1, "FailedForNow": 1}, False, id="ten failing events an hour"),
        pytest.param({}, False, id="a burst that only waits"),
    ],
)
def test_the_circuit_breaker_starts_only_if_nearly_all_events_fail_for_now(
    counts: dict[str, float], opens: bool
) -> None:
    active = evaluate(alarms(), minutes_of(**counts), 10).active
    assert ("EverythingFailsAlarm" in active) is opens
    assert not opens or active["EverythingFailsAlarm"][0] == 2


def test_throttled_invocations_do_not_start_the_circuit_breaker() -> None:
    published = Metrics()
    for minute in range(10):
        published.put(("AWS/SQS", "NumberOfMessagesReceived", ("BufferQueue",)), minute, 1000)
        published.put(("AWS/Lambda", "Throttles", ("ProcessorFunction",)), minute, 100)
    assert "EverythingFailsAlarm" not in evaluate(alarms(), published, 10).active


def test_the_table_of_the_runbook_is_current() -> None:
    page = PAGE.read_text()
    assert with_table(page) == page, "run python -m tests.model.incidents"


def _read_metrics() -> list[tuple[str, str, tuple[str, ...]]]:
    found = []
    for alarm in alarms().values():
        found += [metric_key(alarm)] if "MetricName" in alarm else []
        found += [metric_key(one) for one in values(alarm.get("Metrics", []), "Metric")]
    return found
