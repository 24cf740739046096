"""A model of CloudWatch alarms: evaluation minute by minute, metric math, composite alarms and suppressors.

Sources:
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation.html
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-suppression.html
"""

from __future__ import annotations

import ast
import operator
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Namespace, name, and the values of the dimensions (logical ids or services).
MetricKey = tuple[str, str, tuple[str, ...]]
Rule = Callable[[Mapping[str, bool]], bool]

_BEYOND = {"GreaterThanThreshold": operator.gt, "GreaterThanOrEqualToThreshold": operator.ge}
_MISSING_BREACHES = {"notBreaching": False, "breaching": True}
_ARITHMETIC: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Eq: operator.eq,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


@dataclass(slots=True)
class Metrics:
    """What was published: the samples of each metric by minute. A minute without a sample has no data."""

    samples: dict[MetricKey, dict[int, list[float]]] = field(default_factory=dict)

    def put(self, key: MetricKey, minute: int, value: float) -> None:
        """Publish one sample."""
        self.samples.setdefault(key, {}).setdefault(minute, []).append(value)

    def series(self, key: MetricKey) -> Series:
        """The whole metric, for fast reading."""
        return Series(self.samples.get(key, {}))


class Series:
    """One metric, with the statistics of any range of minutes."""

    def __init__(self, samples: Mapping[int, Sequence[float]]) -> None:
        self._minutes = sorted(samples)
        self._maxima = [max(samples[minute]) for minute in self._minutes]
        self._sums = [0.0]
        for minute in self._minutes:
            self._sums.append(self._sums[-1] + sum(samples[minute]))

    def statistic(self, name: str, start: int, end: int) -> float | None:
        """The statistic of the minutes from start to before end; ``None`` without data."""
        first, last = bisect_left(self._minutes, start), bisect_left(self._minutes, end)
        if first == last:
            return None
        return {"Sum": self._sum, "Maximum": self._maximum}[name](first, last)

    def _sum(self, first: int, last: int) -> float:
        return self._sums[last] - self._sums[first]

    def _maximum(self, first: int, last: int) -> float:
        return max(self._maxima[first:last])


@dataclass(frozen=True, slots=True)
class Notification:
    """An alarm that ran its actions."""

    minute: int
    alarm: str


@dataclass(slots=True)
class History:
    """The result of a run: the notifications, and the minutes that each alarm was in ALARM."""

    notifications: list[Notification] = field(default_factory=list)
    active: dict[str, list[int]] = field(default_factory=dict)


def evaluate(alarms: Mapping[str, Mapping[str, Any]], metrics: Metrics, minutes: int, *, extra: int = 2) -> History:
    """Evaluate the alarms of a template at the end of every minute.

    Args:
        alarms: Properties by logical id.
        metrics: What was published.
        minutes: How long.
        extra: Data points that CloudWatch retrieves beyond ``EvaluationPeriods``. AWS does not document their number.
    """
    history = History()
    simple = {name: MetricAlarm(alarm, metrics, extra) for name, alarm in alarms.items() if "AlarmRule" not in alarm}
    rules = {name: rule_of(alarm["AlarmRule"]) for name, alarm in alarms.items() if "AlarmRule" in alarm}
    actions = {name: Actions(alarm) for name, alarm in alarms.items() if alarm.get("AlarmActions")}
    states = dict.fromkeys(alarms, False)
    for minute in range(1, minutes + 1):
        states |= {name: alarm.breaches(minute) for name, alarm in simple.items()}
        for _ in range(2):  # a composite alarm may contain composite alarms
            states |= {name: rule(states) for name, rule in rules.items()}
        for name in (name for name, active in states.items() if active):
            history.active.setdefault(name, []).append(minute)
        for name, action in actions.items():
            if action.runs(minute, active=states[name], suppressed=states.get(action.suppressor, False)):
                history.notifications.append(Notification(minute, name))
    return history


class MetricAlarm:
    """An alarm on one metric or on one expression: M out of N data points."""

    def __init__(self, alarm: Mapping[str, Any], metrics: Metrics, extra: int) -> None:
        self._periods: int = alarm["EvaluationPeriods"]
        self._to_alarm: int = alarm.get("DatapointsToAlarm", self._periods)
        self._range = self._periods + extra
        self._threshold: float = alarm["Threshold"]
        self._beyond = _BEYOND[alarm["ComparisonOperator"]]
        self._missing_breaches = _MISSING_BREACHES[alarm["TreatMissingData"]]
        self._value, self._period = value_of(alarm, metrics)

    def breaches(self, now: int) -> bool:
        """Whether the alarm is in ALARM at the end of a minute.

        CloudWatch evaluates the newest real data points. Only if there are fewer than ``EvaluationPeriods``,
        ``TreatMissingData`` fills in the others.
        """
        ends = (now - age * self._period for age in range(self._range))
        points = [self._value(end - self._period, end) for end in ends]
        return decide(
            [None if value is None else bool(self._beyond(value, self._threshold)) for value in points],
            self._periods,
            self._to_alarm,
            missing_breaches=self._missing_breaches,
        )


def decide(points: Sequence[bool | None], periods: int, to_alarm: int, *, missing_breaches: bool) -> bool:
    """M out of N, for data points with the newest first. ``None`` is a data point that is missing."""
    real = [point for point in points if point is not None][:periods]
    filled = [missing_breaches] * (periods - len(real))
    return sum(real) + sum(filled) >= to_alarm


def value_of(alarm: Mapping[str, Any], metrics: Metrics) -> tuple[Callable[[int, int], float | None], int]:
    """The value of an alarm's metric or expression in a range of minutes, and its period in minutes."""
    if "MetricName" in alarm:
        series, name = metrics.series(metric_key(alarm)), alarm["Statistic"]
        return lambda start, end: series.statistic(name, start, end), alarm["Period"] // 60
    measured = {one["Id"]: one["MetricStat"] for one in alarm["Metrics"] if "MetricStat" in one}
    (period,) = {one["Period"] for one in measured.values()}
    (text,) = [one["Expression"] for one in alarm["Metrics"] if "Expression" in one]
    parsed = ast.parse(text.replace(" AND ", " and "), mode="eval").body
    terms = {name: (metrics.series(metric_key(one["Metric"])), one["Stat"]) for name, one in measured.items()}

    def value(start: int, end: int) -> float | None:
        points = {name: series.statistic(stat, start, end) for name, (series, stat) in terms.items()}
        return math(parsed, points)

    return value, period // 60


def math(node: ast.AST, points: Mapping[str, float | None]) -> Any:  # noqa: PLR0911 - one case for each kind of node
    """One data point of an expression. It has no data if an operand has none, or after a division by zero."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return points[name]
        case ast.List(elts=elements):
            return [math(one, points) for one in elements]
        case ast.Call(func=ast.Name(id="FILL"), args=[term, filling]):
            found = math(term, points)
            return math(filling, points) if found is None else found
        case ast.Call(func=ast.Name(id="IF"), args=[condition, one, other]):
            found = math(condition, points)
            return None if found is None else math(one if found else other, points)
        case ast.Call(func=ast.Name(id="MAX"), args=[term]):
            found = math(term, points)
            return None if None in found else max(found)
        case ast.BoolOp(op=ast.And(), values=terms):
            found = [math(term, points) for term in terms]
            return None if None in found else all(found)
        case ast.Compare(left=left, ops=[kind], comparators=[right]) | ast.BinOp(left=left, op=kind, right=right):
            return _apply(_ARITHMETIC[type(kind)], math(left, points), math(right, points))
    raise NotImplementedError(f"the model has no {ast.dump(node)}")


def _apply(function: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    if left is None or right is None:
        return None
    try:
        return function(left, right)
    except ZeroDivisionError:
        return None


def rule_of(rule: Any) -> Rule:
    """The rule of a composite alarm: ``ALARM(...)`` with AND, OR, NOT and parentheses."""
    text = rule["Fn::Sub"] if isinstance(rule, dict) else rule
    text = re.sub(r'ALARM\("\$\{(\w+)\}"\)', r'states["\1"]', text)
    for word in ("AND", "OR", "NOT"):
        text = re.sub(rf"\b{word}\b", word.lower(), text)
    code = compile(" ".join(text.split()), "AlarmRule", "eval")
    return lambda states: bool(eval(code, {"__builtins__": {}}, {"states": states}))  # noqa: S307 - the template's rule


class Actions:
    """When an alarm runs its actions: on its change to ALARM, unless its suppressor prevents it.

    A composite alarm waits for the suppressor after its own change, and again after the suppressor's return to OK.
    """

    def __init__(self, alarm: Mapping[str, Any]) -> None:
        self.suppressor: str = alarm.get("ActionsSuppressor", {}).get("Ref", "")
        self._wait: int = alarm.get("ActionsSuppressorWaitPeriod", 0) // 60
        self._extension: int = alarm.get("ActionsSuppressorExtensionPeriod", 0) // 60
        self._was_active = False
        self._was_suppressed = False
        self._due: int | None = None

    def runs(self, minute: int, *, active: bool, suppressed: bool) -> bool:
        """Whether the actions run in this minute."""
        if active and not self._was_active:
            self._due = minute + (self._wait if self.suppressor else 0)
        if self._was_suppressed and not suppressed and self._due is not None:
            self._due = minute + self._extension
        self._was_active, self._was_suppressed = active, suppressed
        if not active:
            self._due = None
        if self._due is None or suppressed or minute < self._due:
            return False
        self._due = None
        return True


def metric_key(metric: Mapping[str, Any]) -> MetricKey:
    """The key of a metric of the template. Its dimensions are logical ids and services."""
    namespace = metric["Namespace"]
    owners = tuple(owner(one["Value"]) for one in metric.get("Dimensions", []))
    return (namespace if isinstance(namespace, str) else "own", metric["MetricName"], owners)


def owner(value: Any) -> str:
    """The logical id that a value refers to, or the text itself."""
    return value if isinstance(value, str) else next(_references(value))


def _references(node: Any) -> Iterable[str]:
    if isinstance(node, list):
        for child in node:
            yield from _references(child)
    elif isinstance(node, dict):
        for key, child in node.items():
            if key in {"Ref", "Fn::GetAtt"}:
                yield child if isinstance(child, str) else child[0]
            else:
                yield from _references(child)
