"""The alarms: their texts, their metrics, and one notification per cause."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.contract.project import FUNCTIONS, ROOT, functions, properties, resources, values
from tests.model.incidents import alarms, anchor

#: The alarms that notify, in the order of the runbook.
ALARMS = [
    "DeadLetterAlarm",
    "ProcessingPausedAlarm",
    "CircuitOpenAlarm",
    "CircuitOpenLimitAlarm",
    "CircuitBreakerFailedAlarm",
    "TriageFailedAlarm",
    "MisconfiguredAlarm",
    "EnrichmentErrorsAlarm",
    "LettersGivenUpAlarm",
    "BufferAgeAlarm",
    "DeadLetterIntakeAlarm",
    "ProcessorErrorsAlarm",
    "ProcessorThrottlesAlarm",
    "ProcessorDurationAlarm",
    "FanOutAgeAlarm",
    "FanOutFailureAlarm",
    "ItemsSetAsideAlarm",
    "UndeliverableAlarm",
    "SnapshotAgeAlarm",
    "SnapshotsAdoptedAlarm",
    "OpenExecutionsAlarm",
    "RecursionAlarm",
    "OperationsUndeliverableAlarm",
]
OWN_NAMESPACE = {"Fn::Sub": "Holdfast/${AWS::StackName}"}
#: The metrics of AWS and their dimensions, as the services document them.
AWS_METRICS = {
    ("AWS/Events", "InvocationsFailedToBeSentToDlq"): [{"RuleName"}, {"EventBusName", "RuleName"}],
    ("AWS/Lambda", "DroppedEventCount"): [{"EventSourceMappingUUID"}],
    ("AWS/Lambda", "Duration"): [{"FunctionName"}],
    ("AWS/Lambda", "Errors"): [{"FunctionName"}],
    ("AWS/Lambda", "Invocations"): [{"FunctionName"}],
    ("AWS/Lambda", "IteratorAge"): [{"FunctionName"}],
    ("AWS/Lambda", "OnFailureDestinationDeliveredEventCount"): [{"EventSourceMappingUUID"}],
    ("AWS/Lambda", "RecursiveInvocationsDropped"): [{"FunctionName"}],
    ("AWS/Lambda", "Throttles"): [{"FunctionName"}],
    ("AWS/SQS", "ApproximateAgeOfOldestMessage"): [{"QueueName"}],
    ("AWS/SQS", "ApproximateNumberOfMessagesNotVisible"): [{"QueueName"}],
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible"): [{"QueueName"}],
    ("AWS/SQS", "NumberOfMessagesReceived"): [{"QueueName"}],
    ("AWS/States", "ExecutionsAborted"): [{"StateMachineArn"}],
    ("AWS/States", "ExecutionsFailed"): [{"StateMachineArn"}],
    ("AWS/States", "ExecutionsStarted"): [{"StateMachineArn"}],
    ("AWS/States", "ExecutionsTimedOut"): [{"StateMachineArn"}],
    ("AWS/States", "OpenExecutionCount"): [set()],
    ("AWS/States", "OpenExecutionLimit"): [set()],
}
#: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
ONE_DAY = 86_400
FIFTEEN_MINUTES = 900
#: ProcessingPausedAlarm notifies of a pause by the circuit breaker. A pause by a person needs no notification.
PAUSE = {"EverythingFailsEventsMetricAlarm", "EverythingFailsInvocationsMetricAlarm", "PauseMetricAlarm"}


def metric_alarms() -> dict[str, dict[str, Any]]:
    return {name: found["Properties"] for name, found in resources("AWS::CloudWatch::Alarm").items()}


def notifying() -> dict[str, dict[str, Any]]:
    return {name: alarm for name, alarm in alarms().items() if "AlarmActions" in alarm}


def metrics(alarm: dict[str, Any]) -> list[dict[str, Any]]:
    """The metrics of an alarm: ``Namespace``, ``MetricName``, ``Dimensions``."""
    return [alarm] if "MetricName" in alarm else list(values(alarm.get("Metrics", []), "Metric"))


def children(alarm: dict[str, Any]) -> list[str]:
    """The alarms in the rule of a composite alarm."""
    return re.findall(r'ALARM\("\$\{(\w+)\}"\)', alarm["AlarmRule"]["Fn::Sub"])


def causes_of(name: str) -> set[str]:
    """The alarm, or the alarms in its rule if it is a composite alarm that does not notify."""
    alarm = alarms()[name]
    if name in notifying() or "AlarmRule" not in alarm:
        return {name}
    return set().union(*map(causes_of, children(alarm)))


def test_the_alarms_that_notify_are_those_of_the_runbook() -> None:
    assert list(notifying()) == ALARMS
    headings = re.findall(r"^## (.+)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    assert set(map(anchor, ALARMS)) <= {heading.lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_says_what_happened_what_it_means_and_what_to_do(name: str) -> None:
    alarm = alarms()[name]
    assert alarm["AlarmActions"] == [{"Ref": "AlarmTopic"}]
    text, link = alarm["AlarmDescription"].split(" Run holdfast status. Runbook: ")
    assert link == f"docs/operations.md#{anchor(name)}"
    assert len(re.findall(r"\.( |$)", text)) == 3, "one sentence for each"


def test_a_suppressor_consists_of_alarms_that_notify_and_are_never_suppressed() -> None:
    for name, alarm in notifying().items():
        if "ActionsSuppressor" in alarm:
            causes = causes_of(alarm["ActionsSuppressor"]["Ref"])
            assert causes - PAUSE <= notifying().keys(), name
            suppressed = [cause for cause in causes if "ActionsSuppressor" in alarms()[cause]]
            assert all(causes_of(alarms()[one]["ActionsSuppressor"]["Ref"]) < causes for one in suppressed), name
            assert alarm["ActionsSuppressorWaitPeriod"] > 0, name
            assert alarm["ActionsSuppressorExtensionPeriod"] > 0, name


@pytest.mark.parametrize(
    "name",
    [
        "CircuitBreakerFailedAlarm",
        "DeadLetterIntakeAlarm",
        "UndeliverableAlarm",
        "TriageFailedAlarm",
        "OpenExecutionsAlarm",
    ],
)
def test_an_alarm_on_the_loss_of_events_is_never_suppressed(name: str) -> None:
    assert "ActionsSuppressor" not in alarms()[name]


def test_an_alarm_on_single_events_notifies_once_per_series() -> None:
    for name, alarm in metric_alarms().items():
        if alarm.get("DatapointsToAlarm") == 1 and alarm["Threshold"] == 1:
            (period,) = set(values(alarm, "Period"))
            assert alarm["EvaluationPeriods"] * period >= FIFTEEN_MINUTES, name


def test_no_alarm_evaluates_more_than_a_day_which_is_the_limit_of_cloudwatch() -> None:
    for name, alarm in metric_alarms().items():
        (period,) = set(values(alarm, "Period"))
        assert period * alarm["EvaluationPeriods"] <= ONE_DAY, name


def test_missing_data_never_activates_an_alarm_and_never_hides_another_term() -> None:
    for name, alarm in metric_alarms().items():
        assert alarm["TreatMissingData"] == "notBreaching", name
        for metric in alarm.get("Metrics", []):
            if "+" in alarm["Metrics"][0]["Expression"] and "MetricStat" in metric:
                assert f"FILL({metric['Id']}, 0)" in alarm["Metrics"][0]["Expression"], name


def test_a_function_emits_every_metric_of_our_own_with_no_dimension_but_its_service() -> None:
    services = {found["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"] for found in functions().values()}
    own = [metric for alarm in alarms().values() for metric in metrics(alarm) if metric["Namespace"] == OWN_NAMESPACE]
    assert own
    for metric in own:
        (dimension,) = metric["Dimensions"]
        assert dimension["Name"] == "service"
        assert dimension["Value"] in services
        handler = (FUNCTIONS / dimension["Value"].replace("-", "_") / "app.py").read_text()
        assert f'"{metric["MetricName"]}":' in handler


def test_the_metrics_of_aws_exist_with_these_dimensions() -> None:
    for name, alarm in alarms().items():
        for metric in metrics(alarm):
            if metric["Namespace"] != OWN_NAMESPACE:
                dimensions = {dimension["Name"] for dimension in metric.get("Dimensions", [])}
                assert dimensions in AWS_METRICS[metric["Namespace"], metric["MetricName"]], name


def test_the_stream_mapping_publishes_the_event_counts_that_an_alarm_reads() -> None:
    events = properties("FanOutFunction")["Events"]
    assert events["NewEvents"]["Properties"]["MetricsConfig"] == {"Metrics": ["EventCount"]}


def test_the_duration_alarm_notifies_before_the_processor_times_out() -> None:
    seconds = functions()["ProcessorFunction"]["Timeout"]
    assert 0.5 * seconds < alarms()["ProcessorDurationAlarm"]["Threshold"] / 1000 < seconds


def test_a_single_poison_message_does_not_activate_the_error_alarm() -> None:
    alarm = alarms()["ProcessorErrorsAlarm"]
    (period,) = set(values(alarm, "Period"))
    failures = period / properties("BufferQueue")["VisibilityTimeout"]
    assert failures + 1 < alarm["Threshold"]
