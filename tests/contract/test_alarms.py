"""The alarms: each tells what it means and what to do, and one cause rings once."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.contract.project import FUNCTIONS, ROOT, functions, properties, resources, template, values

#: The contract with the runbook, in the order in which an event meets trouble.
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
    "UndeliverableAlarm",
    "SnapshotAgeAlarm",
    "SnapshotsAdoptedAlarm",
    "OpenExecutionsAlarm",
    "RecursionAlarm",
]
#: Each incident: the metric alarms that it raises sooner or later, and the one alarm that rings.
INCIDENTS = {
    "the Genesys API is down": ({"DeadLetterMetricAlarm"}, "DeadLetterAlarm"),
    "an event kills its worker": ({"DeadLetterMetricAlarm"}, "DeadLetterAlarm"),
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
    "the API hangs": (
        {"ProcessorDurationAlarm", "BufferAgeMetricAlarm", "DeadLetterMetricAlarm"},
        "ProcessorDurationAlarm",
    ),
    "a launch is too large": ({"BufferAgeMetricAlarm"}, "BufferAgeAlarm"),
    "the enriched bus refuses": ({"FanOutAgeMetricAlarm", "FanOutFailureAlarm"}, "FanOutFailureAlarm"),
    "the fan-out hangs": ({"FanOutAgeMetricAlarm"}, "FanOutAgeAlarm"),
    "an execution was aborted long ago": ({"SnapshotAgeMetricAlarm", "SnapshotsAdoptedAlarm"}, "SnapshotsAdoptedAlarm"),
    "a letter is in triage for days": ({"SnapshotAgeMetricAlarm"}, "SnapshotAgeAlarm"),
    "the sweep fails": ({"SweepErrorsMetricAlarm"}, "SnapshotAgeAlarm"),
}
#: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
A_DAY = 86_400


def alarms() -> dict[str, dict[str, Any]]:
    """Every alarm's properties, in the template's order."""
    kinds = ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
    return {name: found["Properties"] for name, found in template()["Resources"].items() if found["Type"] in kinds}


def telling() -> dict[str, dict[str, Any]]:
    return {name: alarm for name, alarm in alarms().items() if "AlarmActions" in alarm}


def measured(alarm: dict[str, Any]) -> list[dict[str, Any]]:
    """The metrics that an alarm looks at: ``Namespace``, ``MetricName``, ``Dimensions``."""
    return [alarm] if "MetricName" in alarm else list(values(alarm.get("Metrics", []), "Metric"))


def rings(raised: set[str]) -> set[str]:
    """The alarms that notify somebody while these metric alarms are on, as CloudWatch decides it."""

    def on(name: str) -> bool:
        alarm = alarms()[name]
        if "AlarmRule" not in alarm:
            return name in raised
        rule = alarm["AlarmRule"]["Fn::Sub"]
        assert not re.search(r"\b(AND|NOT|OK)\b", rule), "the rules here know OR only"
        return any(on(child) for child in re.findall(r'ALARM\("\$\{(\w+)\}"\)', rule))

    def kept_silent(alarm: dict[str, Any]) -> bool:
        return "ActionsSuppressor" in alarm and on(alarm["ActionsSuppressor"]["Ref"])

    return {name for name, alarm in telling().items() if on(name) and not kept_silent(alarm)}


def test_the_alarms_are_those_of_the_runbook_in_its_order() -> None:
    assert list(telling()) == ALARMS


def anchor(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name.removesuffix("Alarm")).lower()


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_tells_somebody_what_it_means_and_where_the_runbook_goes_on(name: str) -> None:
    alarm = alarms()[name]
    assert alarm["AlarmActions"] == [{"Ref": "AlarmTopic"}]
    text, link = alarm["AlarmDescription"].split(" Runbook: ")
    assert link == f"docs/operations.md#{anchor(name)}"
    assert 1 <= len(re.findall(r"\.( |$)", text)) <= 3, "up to three sentences"


@pytest.mark.parametrize(("raised", "told"), INCIDENTS.values(), ids=INCIDENTS)
def test_one_cause_rings_once(raised: set[str], told: str) -> None:
    assert rings(raised) == {told}


def test_every_alarm_rings_when_it_is_alone() -> None:
    signs = [name for name, alarm in alarms().items() if measured(alarm)]
    assert all(len(rings({name})) == 1 for name in signs)
    assert {told for name in signs for told in rings({name})} == set(ALARMS)


def test_whatever_keeps_an_alarm_silent_tells_itself() -> None:
    for name, alarm in telling().items():
        if "ActionsSuppressor" in alarm:
            suppressor = alarms()[alarm["ActionsSuppressor"]["Ref"]]
            causes = re.findall(r"\$\{(\w+)\}", suppressor.get("AlarmRule", {}).get("Fn::Sub", "")) or [
                alarm["ActionsSuppressor"]["Ref"]
            ]
            assert set(causes) <= telling().keys(), name
            assert "ActionsSuppressor" not in suppressor, name
            assert alarm["ActionsSuppressorWaitPeriod"] > 0, name
            assert alarm["ActionsSuppressorExtensionPeriod"] > 0, name


def test_where_waiting_loses_events_nothing_keeps_the_alarm_silent() -> None:
    for name in ("DeadLetterAgeAlarm", "UndeliverableAlarm", "TriageFailedAlarm", "OpenExecutionsAlarm"):
        assert "ActionsSuppressor" not in alarms()[name], name


def test_an_alarm_on_what_happens_now_and_then_rings_at_the_first_and_once_for_a_trickle() -> None:
    for name, alarm in resources("AWS::CloudWatch::Alarm").items():
        found = alarm["Properties"]
        periods = found["EvaluationPeriods"]
        if found["Threshold"] == 1 and name != "ProcessorThrottlesAlarm":
            assert (found["DatapointsToAlarm"], periods >= 15) == (1, True), name


def test_no_alarm_looks_back_further_than_cloudwatch_allows() -> None:
    for name, alarm in resources("AWS::CloudWatch::Alarm").items():
        periods = set(values(alarm, "Period"))
        assert len(periods) == 1, name
        assert periods.pop() * alarm["Properties"]["EvaluationPeriods"] <= A_DAY, name


def test_silence_is_no_alarm_because_what_is_idle_publishes_nothing() -> None:
    for name, alarm in resources("AWS::CloudWatch::Alarm").items():
        assert alarm["Properties"]["TreatMissingData"] == "notBreaching", name
        # A term without data would make a sum without data.
        for metric in alarm["Properties"].get("Metrics", []):
            if "+" in metric.get("Expression", ""):
                assert all(term.strip().startswith("FILL(") for term in metric["Expression"].split("+")), name


def test_an_alarm_watches_what_somebody_publishes() -> None:
    services = {
        found["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"]
        for found in functions().values()
    }
    own = [metric for alarm in alarms().values() for metric in measured(alarm) if metric["Namespace"] == OWN_NAMESPACE]
    assert own
    for metric in own:
        dimensions = {dimension["Name"]: dimension["Value"] for dimension in metric["Dimensions"]}
        assert dimensions["service"] in services
        handler = (FUNCTIONS / dimensions["service"].replace("-", "_") / "app.py").read_text()
        assert f'"{metric["MetricName"]}":' in handler
        assert ("Category" in dimensions) == (f'emit({{"{metric["MetricName"]}": 1}}, dimensions=' in handler)


#: The metrics of AWS and their dimensions, as the services document them.
PUBLISHED = {
    ("AWS/Events", "InvocationsFailedToBeSentToDlq"): [{"RuleName"}, {"EventBusName", "RuleName"}],
    ("AWS/Lambda", "DroppedEventCount"): [{"EventSourceMappingUUID"}],
    ("AWS/Lambda", "Duration"): [{"FunctionName"}],
    ("AWS/Lambda", "Errors"): [{"FunctionName"}],
    ("AWS/Lambda", "IteratorAge"): [{"FunctionName"}],
    ("AWS/Lambda", "OnFailureDestinationDeliveredEventCount"): [{"EventSourceMappingUUID"}],
    ("AWS/Lambda", "RecursiveInvocationsDropped"): [{"FunctionName"}],
    ("AWS/Lambda", "Throttles"): [{"FunctionName"}],
    ("AWS/SQS", "ApproximateAgeOfOldestMessage"): [{"QueueName"}],
    ("AWS/States", "ExecutionsAborted"): [{"StateMachineArn"}],
    ("AWS/States", "ExecutionsFailed"): [{"StateMachineArn"}],
    ("AWS/States", "ExecutionsStarted"): [{"StateMachineArn"}],
    ("AWS/States", "ExecutionsTimedOut"): [{"StateMachineArn"}],
    ("AWS/States", "OpenExecutionCount"): [set()],
    ("AWS/States", "OpenExecutionLimit"): [set()],
}
OWN_NAMESPACE = {"Fn::Sub": "Holdfast/${AWS::StackName}"}


def test_the_metrics_of_aws_are_named_as_aws_names_them() -> None:
    for name, alarm in alarms().items():
        for metric in measured(alarm):
            if metric["Namespace"] != OWN_NAMESPACE:
                dimensions = {dimension["Name"] for dimension in metric.get("Dimensions", [])}
                assert dimensions in PUBLISHED[metric["Namespace"], metric["MetricName"]], name


def test_a_mapping_publishes_the_counts_that_an_alarm_needs() -> None:
    events = properties("FanOutFunction")["Events"]
    assert events["NewEvents"]["Properties"]["MetricsConfig"] == {"Metrics": ["EventCount"]}


def test_a_worker_that_runs_into_its_time_out_rings_before_it_does() -> None:
    seconds = functions()["ProcessorFunction"]["Timeout"]
    assert 0.5 * seconds < alarms()["ProcessorDurationAlarm"]["Threshold"] / 1000 < seconds


def test_one_event_that_kills_its_worker_again_and_again_is_no_failing_processor() -> None:
    alarm = alarms()["ProcessorErrorsAlarm"]
    killed = alarm["Period"] / properties("BufferQueue")["VisibilityTimeout"]
    assert killed + 1 < alarm["Threshold"]


def test_every_alarm_has_its_section_in_the_runbook() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    assert {anchor(name) for name in ALARMS} <= {heading.lower().replace(" ", "-") for heading in headings}
