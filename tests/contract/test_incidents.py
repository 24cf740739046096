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


def test_the_table_of_the_runbook_is_current() -> None:
    page = PAGE.read_text()
    assert with_table(page) == page, "run python -m tests.model.incidents"


def _read_metrics() -> list[tuple[str, str, tuple[str, ...]]]:
    found = []
    for alarm in alarms().values():
        found += [metric_key(alarm)] if "MetricName" in alarm else []
        found += [metric_key(one) for one in values(alarm.get("Metrics", []), "Metric")]
    return found
