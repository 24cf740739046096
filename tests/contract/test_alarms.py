"""The alarms: their texts, their metrics, and one notification per cause."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.contract.project import FUNCTIONS, ROOT, functions, properties, resources, template, values

#: The alarms that notify, in the order of the runbook.
ALARMS = [
    "DeadLetterAlarm",
    "TriageFailedAlarm",
    "MisconfiguredAlarm",
    "LettersGivenUpAlarm",
    "BufferAgeAlarm",
    "DeadLetterAgeAlarm",
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
#: Each incident: the metric alarms that it activates sooner or later, and the one alarm that notifies.
INCIDENTS = {
    "the Genesys API is down": ({"DeadLetterMetricAlarm"}, "DeadLetterAlarm"),
    "a poison message": ({"DeadLetterMetricAlarm"}, "DeadLetterAlarm"),
    "the secret is wrong": (
        {"MisconfiguredAlarm", "DeadLetterMetricAlarm", "BufferAgeMetricAlarm"},
        "MisconfiguredAlarm",
    ),
    "the processor is throttled": (
        {"ProcessorThrottlesAlarm", "DeadLetterMetricAlarm", "BufferAgeMetricAlarm"},
        "ProcessorThrottlesAlarm",
    ),
    "a deployment is broken": (
        {"ProcessorErrorsAlarm", "DeadLetterMetricAlarm", "BufferAgeMetricAlarm"},
        "ProcessorErrorsAlarm",
    ),
    "the Genesys API is slow": (
        {"ProcessorDurationAlarm", "BufferAgeMetricAlarm", "DeadLetterMetricAlarm"},
        "ProcessorDurationAlarm",
    ),
    "traffic exceeds the capacity": ({"BufferAgeMetricAlarm"}, "BufferAgeAlarm"),
    "the enriched bus rejects events": ({"FanOutAgeMetricAlarm", "FanOutFailureAlarm"}, "FanOutFailureAlarm"),
    "another writer puts an item into the events table": ({"ItemsSetAsideAlarm"}, "ItemsSetAsideAlarm"),
    "the fan-out is slow": ({"FanOutAgeMetricAlarm"}, "FanOutAgeAlarm"),
    "an execution was aborted long ago": ({"SnapshotAgeMetricAlarm", "SnapshotsAdoptedAlarm"}, "SnapshotsAdoptedAlarm"),
    "a letter is in triage for days": ({"SnapshotAgeMetricAlarm"}, "SnapshotAgeAlarm"),
    "a schedule cannot run": ({"OperationsUndeliverableAlarm"}, "OperationsUndeliverableAlarm"),
    "the sweep fails": ({"SweepErrorsMetricAlarm"}, "SnapshotAgeAlarm"),
}
OWN_NAMESPACE = {"Fn::Sub": "Holdfast/${AWS::StackName}"}
#: The metrics of AWS and their dimensions, as the services document them.
AWS_METRICS = {
    ("AWS/Events", "InvocationsFailedToBeSentToDlq"): [{"RuleName"}, {"EventBusName", "RuleName"}],
    ("AWS/Lambda", "DroppedEventCount"): [{"EventSourceMappingUUID"}],
    ("AWS/Lambda", "Duration"): [{"FunctionName"}],
    ("AWS/Lambda", "Errors"): [{"FunctionName"}],
    ("AWS/Lambda", "IteratorAge"): [{"FunctionName"}],
    ("AWS/Lambda", "OnFailureDestinationDeliveredEventCount"): [{"EventSourceMappingUUID"}],
    ("AWS/Lambda", "RecursiveInvocationsDropped"): [{"FunctionName"}],
    ("AWS/Lambda", "Throttles"): [{"FunctionName"}],
    ("AWS/SQS", "ApproximateAgeOfOldestMessage"): [{"QueueName"}],
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible"): [{"QueueName"}],
    ("AWS/States", "ExecutionsAborted"): [{"StateMachineArn"}],
    ("AWS/States", "ExecutionsFailed"): [{"StateMachineArn"}],
    ("AWS/States", "ExecutionsStarted"): [{"StateMachineArn"}],
    ("AWS/States", "ExecutionsTimedOut"): [{"StateMachineArn"}],
    ("AWS/States", "OpenExecutionCount"): [set()],
    ("AWS/States", "OpenExecutionLimit"): [set()],
}
#: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
ONE_DAY = 86_400


def alarms() -> dict[str, dict[str, Any]]:
    """The properties of every alarm, in the order of the template."""
    kinds = ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
    return {name: found["Properties"] for name, found in template()["Resources"].items() if found["Type"] in kinds}


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


def notifications(active: set[str]) -> set[str]:
    """The alarms that notify while these metric alarms are active, as CloudWatch decides."""

    def is_active(name: str) -> bool:
        alarm = alarms()[name]
        if "AlarmRule" not in alarm:
            return name in active
        assert not re.search(r"\b(AND|NOT|OK)\b", alarm["AlarmRule"]["Fn::Sub"]), "this model supports OR only"
        return any(map(is_active, children(alarm)))

    def is_suppressed(alarm: dict[str, Any]) -> bool:
        return "ActionsSuppressor" in alarm and is_active(alarm["ActionsSuppressor"]["Ref"])

    return {name for name, alarm in notifying().items() if is_active(name) and not is_suppressed(alarm)}


def anchor(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name.removesuffix("Alarm")).lower()


def test_the_alarms_that_notify_are_those_of_the_runbook() -> None:
    assert list(notifying()) == ALARMS
    headings = re.findall(r"^## (.+)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    assert set(map(anchor, ALARMS)) <= {heading.lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_says_what_happened_what_it_means_and_what_to_do(name: str) -> None:
    alarm = alarms()[name]
    assert alarm["AlarmActions"] == [{"Ref": "AlarmTopic"}]
    text, link = alarm["AlarmDescription"].split(" Runbook: ")
    assert link == f"docs/operations.md#{anchor(name)}"
    assert len(re.findall(r"\.( |$)", text)) == 3, "one sentence for each"


@pytest.mark.parametrize(("active", "expected"), INCIDENTS.values(), ids=INCIDENTS)
def test_one_cause_notifies_once(active: set[str], expected: str) -> None:
    assert notifications(active) == {expected}


def test_every_metric_alarm_notifies_when_no_other_is_active() -> None:
    assert all(len(notifications({name})) == 1 for name in metric_alarms())
    assert {found for name in metric_alarms() for found in notifications({name})} == set(ALARMS)


def test_a_suppressor_consists_of_alarms_that_notify_and_are_never_suppressed() -> None:
    for name, alarm in notifying().items():
        if "ActionsSuppressor" in alarm:
            suppressor = alarms()[alarm["ActionsSuppressor"]["Ref"]]
            causes = children(suppressor) if "AlarmRule" in suppressor else [alarm["ActionsSuppressor"]["Ref"]]
            assert set(causes) <= notifying().keys(), name
            assert not any("ActionsSuppressor" in alarms()[cause] for cause in causes), name
            assert "ActionsSuppressor" not in suppressor, name
            assert alarm["ActionsSuppressorWaitPeriod"] > 0, name
            assert alarm["ActionsSuppressorExtensionPeriod"] > 0, name


@pytest.mark.parametrize(
    "name", ["DeadLetterAgeAlarm", "UndeliverableAlarm", "TriageFailedAlarm", "OpenExecutionsAlarm"]
)
def test_an_alarm_on_the_loss_of_events_is_never_suppressed(name: str) -> None:
    assert "ActionsSuppressor" not in alarms()[name]


def test_an_alarm_on_single_events_notifies_at_the_first_and_once_per_series() -> None:
    for name, alarm in metric_alarms().items():
        if alarm["Threshold"] == 1 and name != "ProcessorThrottlesAlarm":
            assert (alarm["DatapointsToAlarm"], alarm["EvaluationPeriods"] >= 15) == (1, True), name


def test_no_alarm_evaluates_more_than_a_day_which_is_the_limit_of_cloudwatch() -> None:
    for name, alarm in metric_alarms().items():
        (period,) = set(values(alarm, "Period"))
        assert period * alarm["EvaluationPeriods"] <= ONE_DAY, name


def test_missing_data_never_activates_an_alarm_and_never_hides_another_term() -> None:
    for name, alarm in metric_alarms().items():
        assert alarm["TreatMissingData"] == "notBreaching", name
        for metric in alarm.get("Metrics", []):
            if "+" in metric.get("Expression", ""):
                assert all(term.strip().startswith("FILL(") for term in metric["Expression"].split("+")), name


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
    failures = alarm["Period"] / properties("BufferQueue")["VisibilityTimeout"]
    assert failures + 1 < alarm["Threshold"]
