"""Engine patches of CloudWatch: metrics, and the states and actions of alarms."""

# ruff: noqa: SLF001 - a patch uses the engine's private functions
from __future__ import annotations

import itertools
import json
import operator
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from ministack.core.responses import get_account_id
from ministack.services import cloudwatch, cloudwatch_logs, eventbridge, sns, sqs, stepfunctions
from ministack.services.cloudformation import provisioners

from local.engine_patches.patch import around

if TYPE_CHECKING:
    from collections.abc import Callable

    Alarm = dict[str, Any]

WATCH_SECONDS = 0.5
SHORTEST_WINDOW_SECONDS = 5.0
_EXECUTIONS = {
    "RUNNING": "ExecutionsStarted",
    "SUCCEEDED": "ExecutionsSucceeded",
    "FAILED": "ExecutionsFailed",
    "ABORTED": "ExecutionsAborted",
}
#: The functions of metric math that the template uses, on one datapoint.
_MATH = {
    "FILL": lambda value, filling: filling if value is None else value,
    "IF": lambda condition, one, other: one if condition else other,
    "MAX": max,
}
_ACTIONS = ("AlarmActions", "OKActions", "InsufficientDataActions")
_SUPPRESSOR_PERIODS = ("ActionsSuppressorWaitPeriod", "ActionsSuppressorExtensionPeriod")


def publish_execution_metrics() -> None:
    """Gap: Step Functions publishes no metrics. In AWS it counts the executions of each machine by status.

    https://docs.aws.amazon.com/step-functions/latest/dg/procedure-cw-metrics.html
    """

    @around(stepfunctions, "_emit_execution_status_event", "(execution)")
    def emit(plain: Callable[..., Any], execution: dict[str, Any]) -> None:
        plain(execution)
        dimensions = {"StateMachineArn": execution["stateMachineArn"]}
        cloudwatch.record_metric("AWS/States", _EXECUTIONS[execution["status"]], 1, "Count", dimensions)


def extract_embedded_metrics() -> None:
    """Gap: a log line in the embedded metric format publishes no metrics. In AWS it does.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    """

    @around(cloudwatch_logs, "_append_log_events", "(stream, events)")
    def append(plain: Callable[..., Any], stream: Any, events: list[dict[str, Any]]) -> Any:
        for event in events:
            if '"CloudWatchMetrics"' in event["message"]:
                _record(json.loads(event["message"]))
        return plain(stream, events)


def _record(line: dict[str, Any]) -> None:
    for directive in line["_aws"]["CloudWatchMetrics"]:
        for names in directive["Dimensions"]:
            dimensions = {name: line[name] for name in names}
            for metric in directive["Metrics"]:
                values = line[metric["Name"]]
                for value in values if isinstance(values, list) else [values]:
                    cloudwatch.record_metric(
                        directive["Namespace"], metric["Name"], value, metric.get("Unit", "None"), dimensions
                    )


def deploy_composite_alarms() -> None:
    """Gap: CloudFormation does not support composite alarms, although the engine's CloudWatch does."""

    def put(logical_id: str, properties: dict[str, Any], stack: str) -> tuple[str, dict[str, str]]:
        name = provisioners._physical_name(stack, logical_id, max_len=255)
        status, _, body = cloudwatch._put_composite_alarm(
            {}, {**properties, "AlarmName": name}, is_cbor=False, is_json=True
        )
        if status >= 400:  # noqa: PLR2004 - the first error status of HTTP
            raise ValueError(f"{logical_id}: {body!r}")
        return name, {"Arn": cloudwatch._composite_alarms[name]["AlarmArn"]}

    provisioners._RESOURCE_HANDLERS["AWS::CloudWatch::CompositeAlarm"] = {
        "create": put,
        "update": lambda _name, _old, new, stack, logical_id: put(logical_id, new, stack),
        "update_with_logical_id": True,
        "delete": lambda name, _properties: cloudwatch._composite_alarms.pop(name, None),
    }


def deploy_alarms_on_metric_math() -> None:
    """Gap: CloudFormation refuses an alarm with ``Metrics``."""

    @around(provisioners, "_cw_metric_alarm_record", "(name, props)")
    def record(plain: Callable[..., Any], name: str, properties: dict[str, Any]) -> Alarm:
        metrics = properties.get("Metrics")
        if not metrics:
            alarm: Alarm = plain(name, properties)
            return alarm
        (period,) = {metric["MetricStat"]["Period"] for metric in metrics if "MetricStat" in metric}
        stand_in = {"Namespace": "math", "MetricName": "math", "Period": period}
        simple = {key: value for key, value in properties.items() if key != "Metrics"}
        return {**plain(name, simple | stand_in), "Metrics": metrics}


def evaluate_alarms() -> None:
    """Gap: an alarm mixes all dimensions of a metric and all periods, and keeps its state without data.

    AWS evaluates one metric for each period, all the time, and missing data that is ``notBreaching`` turns the alarm
    to OK. Periods are scaled like the waits of the state machines.
    """
    scale = float(os.environ["SFN_WAIT_SCALE"])
    one_at_a_time = threading.Lock()

    @around(cloudwatch, "_evaluate_alarm", "(alarm)")
    def evaluate(plain: Callable[..., Any], alarm: Alarm) -> None:
        if alarm["TreatMissingData"] != "notBreaching":
            plain(alarm)
            return
        with one_at_a_time:
            state = "ALARM" if _breaches(alarm, scale) else "OK"
            if state != alarm["StateValue"]:
                _turn(alarm, state)

    def watch() -> None:
        while True:
            time.sleep(WATCH_SECONDS)
            cloudwatch._evaluate_all_alarms()

    threading.Thread(target=watch, daemon=True).start()


def run_alarm_actions() -> None:
    """Gaps in the actions of alarms.

    - A composite alarm's ``ActionsSuppressor`` is ignored. AWS runs no action while the suppressor is in ALARM. (AWS
      also waits for it before and after; here only its current state counts.)
    - No event says that an alarm's state changed. AWS puts one on the default bus, also if actions are suppressed:
      https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch-and-eventbridge.html
    - An alarm publishes to any topic. In AWS the topic's policy has to allow CloudWatch to publish:
      https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Notify_Users_Alarm_Changes.html
    """

    @around(cloudwatch, "_put_composite_alarm", "(params, cbor_data, is_cbor, is_json=False)")
    def put(plain: Callable[..., Any], params: Any, request: Any, *rest: Any, **options: Any) -> Any:
        response = plain(params, request, *rest, **options)
        if alarm := cloudwatch._composite_alarms.get((request or {}).get("AlarmName")):
            alarm["ActionsSuppressor"] = request.get("ActionsSuppressor", "")
            alarm |= {name: int(request[name]) for name in _SUPPRESSOR_PERIODS if name in request}
        return response

    @around(cloudwatch, "_dispatch_alarm_actions", "(alarm, old_state, new_state, reason)")
    def dispatch(plain: Callable[..., Any], alarm: Alarm, *change: Any) -> None:
        _publish_state_change(alarm, *change)

        def may_publish(topic: str) -> bool:
            return bool(sns.topic_policy_allows(topic, "cloudwatch.amazonaws.com", alarm["AlarmArn"], get_account_id()))

        suppressor = alarm.get("ActionsSuppressor")
        if suppressor and cloudwatch._rule_alarm_state(suppressor) == "ALARM":
            return
        allowed = {kind: [topic for topic in alarm.get(kind) or [] if may_publish(topic)] for kind in _ACTIONS}
        plain({**alarm, **allowed}, *change)


def _publish_state_change(alarm: Alarm, before: str, after: str, reason: str) -> None:
    detail = {
        "alarmName": alarm["AlarmName"],
        "state": {"value": after, "reason": reason},
        "previousState": {"value": before},
    }
    entry = {
        "Source": "aws.cloudwatch",
        "DetailType": "CloudWatch Alarm State Change",
        "Detail": json.dumps(detail),
        "Resources": [alarm["AlarmArn"]],
    }
    eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)


def count_received_messages() -> None:
    """Gap: SQS publishes no metrics. In AWS it counts the messages that consumers received.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
    """

    @around(sqs, "_receive_messages_for_esm", "(queue_url, max_number)")
    def receive(plain: Callable[..., Any], queue_url: str, max_number: int) -> Any:
        messages = plain(queue_url, max_number)
        if messages:
            name = {"QueueName": queue_url.rpartition("/")[2]}
            cloudwatch.record_metric("AWS/SQS", "NumberOfMessagesReceived", len(messages), "Count", name)
        return messages


def _breaches(alarm: Alarm, scale: float) -> bool:
    count = alarm["EvaluationPeriods"]
    seconds = max(alarm["Period"] * scale, SHORTEST_WINDOW_SECONDS / count)
    now = time.time()
    values = [_value(alarm, now - (age + 1) * seconds, now - age * seconds) for age in range(count)]
    beyond = operator.gt if alarm["ComparisonOperator"] == "GreaterThanThreshold" else operator.ge
    breaching = [value for value in values if value is not None and beyond(value, alarm["Threshold"])]
    return len(breaching) >= int(alarm.get("DatapointsToAlarm") or count)


def _value(alarm: Alarm, start: float, end: float) -> float | None:
    """The alarm's metric in one period, None without data."""
    if "Metrics" not in alarm:
        return _datapoint(alarm, alarm["Statistic"], start, end)
    measured = {one["Id"]: one["MetricStat"] for one in alarm["Metrics"] if "MetricStat" in one}
    points = {name: _datapoint(one["Metric"], one["Stat"], start, end) for name, one in measured.items()}
    (expression,) = [one["Expression"].replace(" AND ", " and ") for one in alarm["Metrics"] if "Expression" in one]
    try:
        value: float = eval(expression, {"__builtins__": {}}, {**_MATH, **points})  # noqa: S307 - the expression is the template's
    except TypeError:  # a term without data
        return None
    return value


def _datapoint(metric: dict[str, Any], statistic: str, start: float, end: float) -> float | None:
    dimensions = {one["Name"]: one["Value"] for one in metric.get("Dimensions", [])}
    key = (metric["Namespace"], metric["MetricName"], cloudwatch._dims_key(dimensions))
    newest_first = reversed(list(cloudwatch._metrics.get(key, ())))
    since = itertools.takewhile(lambda one: one["Timestamp"] >= start, newest_first)
    value: float | None = cloudwatch._calc_stats([one for one in since if one["Timestamp"] < end]).get(statistic)
    return value


def _turn(alarm: Alarm, state: str) -> None:
    """Change an alarm's state, run its actions and evaluate the composite alarms above it."""
    before, reason = alarm["StateValue"], f"Threshold Crossed: {alarm['ComparisonOperator']} {alarm['Threshold']}"
    alarm |= {"StateValue": state, "StateReason": reason, "StateUpdatedTimestamp": int(time.time())}
    cloudwatch._record_history(alarm["AlarmName"], before, state, reason)
    cloudwatch._dispatch_alarm_actions(alarm, before, state, reason)
    cloudwatch._evaluate_parent_alarms(alarm)
