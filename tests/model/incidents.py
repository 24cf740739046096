"""The incident table: what happens, which alarm notifies, after how long, and which stay silent.

``python -m tests.model.incidents`` writes it into docs/operations.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from tests.contract.project import ROOT, decided, template
from tests.model.cloudwatch import History, Metrics, evaluate
from tests.model.stack import Fault, Kind, Setting, Stack

PAGE = ROOT / "docs" / "operations.md"
BEGIN = "<!-- incidents: written by python -m tests.model.incidents -->\n"
END = "<!-- end of incidents -->\n"
#: Healthy minutes before an incident.
BEFORE = 30
DAY = 24 * 60
REQUIRED = Setting(required=True)


@dataclass(frozen=True, slots=True)
class Incident:
    """One row of the table.

    Attributes:
        cause: What happens.
        alarms: The alarms that notify, each once: one for each cause, none if nothing has to be done.
        faults: What goes wrong.
        setting: Parameters and traffic.
        lasts: Minutes until it is over.
        after: Minutes that are simulated after that.
        then: The alarms that notify, each once, after it is over.
        invalid_bodies: Events a minute that are no JSON.
        single: Events that arrive once, at the beginning.
    """

    cause: str
    alarms: tuple[str, ...]
    faults: frozenset[Fault] = frozenset()
    setting: Setting = field(default_factory=Setting)
    lasts: int = 180
    after: int = 60
    then: tuple[str, ...] = ()
    invalid_bodies: int = 0
    single: tuple[Kind, ...] = ()

    def metrics(self) -> Metrics:
        """What the stack publishes during the incident."""
        stack = Stack(self.setting)
        for minute in range(self.minutes):
            during = BEFORE <= minute < BEFORE + self.lasts
            others = (Kind.INVALID_BODY,) * self.invalid_bodies if during else ()
            first = self.single if minute == BEFORE else ()
            stack.minute(self.faults if during else frozenset(), (*others, *first))
        return stack.metrics

    @property
    def minutes(self) -> int:
        """How long the incident is simulated."""
        return BEFORE + self.lasts + self.after


def of(cause: str, alarms: str, *faults: Fault, **more: Any) -> Incident:
    """Make a row. Names of alarms are separated by spaces."""
    return Incident(cause, tuple(alarms.split()), frozenset(faults), **more)


INCIDENTS = [
    # -- Genesys
    of("Genesys is down, `EnrichmentPolicy=required`", "DeadLetterAlarm", Fault.GENESYS_DOWN, setting=REQUIRED),
    of("Genesys is down, `best-effort`", "EnrichmentErrorsAlarm", Fault.GENESYS_DOWN),
    of(
        "Genesys is down and asks for waits of 5 minutes, `required`, `MaxReceiveCount=100`",
        "BufferAgeAlarm",
        Fault.GENESYS_DOWN,
        setting=replace(REQUIRED, max_receives=100, retry_seconds=280),
    ),
    of("Genesys is slow", "ProcessorDurationAlarm", Fault.GENESYS_SLOW, setting=Setting(events_per_minute=12)),
    of("the secret is wrong, `required`", "MisconfiguredAlarm", Fault.SECRET_WRONG, setting=REQUIRED),
    of("the secret is wrong, `best-effort`", "MisconfiguredAlarm", Fault.SECRET_WRONG),
    # -- everything fails
    of(
        "Genesys is down, `required`, 90 events a minute",
        "ProcessingPausedAlarm",
        Fault.GENESYS_DOWN,
        setting=replace(REQUIRED, events_per_minute=90),
        lasts=90,
    ),
    of(
        "the secret is wrong, `required`, 90 events a minute",
        "MisconfiguredAlarm",
        Fault.SECRET_WRONG,
        setting=replace(REQUIRED, events_per_minute=90),
        lasts=90,
    ),
    of(
        "a deployment of the processor cannot start, 90 events a minute",
        "ProcessorErrorsAlarm",
        Fault.PROCESSOR_CRASHES,
        setting=Setting(events_per_minute=90),
        lasts=90,
    ),
    of("processing has been paused for a day", "CircuitOpenAlarm", Fault.PAUSED_FOR_A_DAY, lasts=60),
    of(
        "processing has been paused for 90 % of CircuitBreakerMaxHours",
        "CircuitOpenAlarm CircuitOpenLimitAlarm",
        Fault.PAUSED_NEARLY_TOO_LONG,
        lasts=60,
    ),
    of("an execution of the circuit breaker is aborted", "CircuitBreakerFailedAlarm", Fault.BREAKER_ABORTED),
    of("an execution of the circuit breaker fails", "CircuitBreakerFailedAlarm", Fault.BREAKER_FAILS),
    of("an execution of the circuit breaker times out", "CircuitBreakerFailedAlarm", Fault.BREAKER_TIMES_OUT),
    # -- the processor
    of("a permission on the events table is revoked", "MisconfiguredAlarm", Fault.TABLE_DENIED),
    of("a deployment of the processor cannot start", "ProcessorErrorsAlarm", Fault.PROCESSOR_CRASHES),
    of("another function uses the concurrency of the account", "ProcessorThrottlesAlarm", Fault.PROCESSOR_THROTTLED),
    of("the mapping of the buffer is disabled", "BufferAgeAlarm", Fault.BUFFER_MAPPING_DISABLED),
    of(
        "the backlog of the buffer lasts longer than a day",
        "BufferAgeAlarm",
        Fault.BUFFER_MAPPING_DISABLED,
        setting=Setting(events_per_minute=0.5),
        lasts=DAY + 120,
    ),
    # -- the events
    of("the first dead letter ever", "DeadLetterAlarm", single=(Kind.INVALID_BODY,)),
    of("a poison message", "DeadLetterAlarm", single=(Kind.CRASHES_PROCESSOR,), lasts=60),
    of(
        "a producer sends only invalid bodies",
        "DeadLetterAlarm",
        invalid_bodies=30,
        setting=Setting(events_per_minute=0.2),
    ),
    of("hours later: the retries of a letter are used up", "LettersGivenUpAlarm", Fault.RETRIES_USED_UP),
    of(
        "loop detection drops a redriven event",
        "RecursionAlarm",
        Fault.LOOP_DETECTED,
        single=(Kind.REDRIVEN,),
    ),
    # -- the intake and triage
    of(
        "the bucket denies the intake",
        "DeadLetterIntakeAlarm",
        Fault.BUCKET_DENIES_INTAKE,
        single=(Kind.INVALID_BODY,),
        then=("DeadLetterAlarm",),
    ),
    of(
        "the triage state machine is missing",
        "DeadLetterIntakeAlarm",
        Fault.TRIAGE_MACHINE_MISSING,
        single=(Kind.INVALID_BODY,),
        then=("DeadLetterAlarm",),
    ),
    of(
        "a deployment of the intake cannot start",
        "DeadLetterIntakeAlarm",
        Fault.INTAKE_CRASHES,
        single=(Kind.INVALID_BODY,),
        then=("DeadLetterAlarm",),
    ),
    of(
        "the intake is throttled",
        "DeadLetterIntakeAlarm",
        Fault.INTAKE_THROTTLED,
        single=(Kind.INVALID_BODY,),
        then=("DeadLetterAlarm",),
    ),
    of(
        "a producer sends invalid bodies, and the intake crashes on one dead letter",
        "DeadLetterAlarm DeadLetterIntakeAlarm",
        invalid_bodies=1,
        single=(Kind.CRASHES_INTAKE,),
    ),
    of(
        "a producer sends invalid bodies, and another message has the snapshot of one dead letter",
        "DeadLetterAlarm DeadLetterIntakeAlarm",
        invalid_bodies=1,
        single=(Kind.LEFT_BY_INTAKE,),
    ),
    of(
        "the mapping of the dead-letter queue is disabled",
        "DeadLetterIntakeAlarm",
        Fault.DLQ_MAPPING_DISABLED,
        single=(Kind.INVALID_BODY,),
        then=("DeadLetterAlarm",),
    ),
    of(
        "a producer sends more invalid bodies than the intake can take in",
        "DeadLetterAlarm DeadLetterIntakeAlarm",
        invalid_bodies=30,
        setting=Setting(events_per_minute=1, intake_capacity=2),
    ),
    of("`ClassifyFunction` is throttled", "DeadLetterAlarm", Fault.CLASSIFY_THROTTLED, single=(Kind.INVALID_BODY,)),
    of("an execution fails", "TriageFailedAlarm", Fault.EXECUTION_FAILS),
    of("an execution times out", "TriageFailedAlarm", Fault.EXECUTION_TIMES_OUT),
    of("an execution is aborted", "TriageFailedAlarm", Fault.EXECUTION_ABORTED),
    of("the open executions of the account reach 85 %", "OpenExecutionsAlarm", Fault.EXECUTIONS_NEAR_LIMIT),
    # -- the sweep
    of("the sweep fails", "SnapshotAgeAlarm", Fault.SWEEP_FAILS),
    of("a letter is in triage for more than a day", "SnapshotAgeAlarm", Fault.SNAPSHOT_TOO_OLD),
    of("the sweep adopts a snapshot", "SnapshotsAdoptedAlarm", Fault.SNAPSHOT_WITHOUT_EXECUTION),
    of("EventBridge cannot start the sweep", "OperationsUndeliverableAlarm", Fault.SCHEDULE_FAILS),
    # -- the fan-out
    of("a deployment of the fan-out cannot start", "FanOutFailureAlarm", Fault.FAN_OUT_CRASHES),
    of("the mapping of the fan-out is disabled", "FanOutFailureAlarm", Fault.FAN_OUT_MAPPING_DISABLED),
    of(
        "the mapping of the fan-out is disabled, an event every two hours",
        "FanOutFailureAlarm",
        Fault.FAN_OUT_MAPPING_DISABLED,
        setting=Setting(events_per_minute=1 / 120),
        lasts=12 * 60,
    ),
    of("the fan-out is throttled", "FanOutFailureAlarm", Fault.FAN_OUT_THROTTLED),
    of("the enriched bus denies `PutEvents`", "FanOutFailureAlarm", Fault.BUS_DENIES),
    of(
        "the enriched bus denies `PutEvents`, and Lambda gives up within 5 minutes",
        "FanOutFailureAlarm",
        Fault.BUS_DENIES,
        setting=Setting(stream_attempts=5),
    ),
    of(
        "the fan-out is slower than the events",
        "FanOutAgeAlarm",
        Fault.FAN_OUT_SLOW,
        setting=Setting(events_per_minute=12),
    ),
    of("another writer puts an item into the events table", "ItemsSetAsideAlarm", Fault.FOREIGN_ITEM),
    # -- EventBridge
    of("EventBridge may not send to the buffer", "DeadLetterAlarm", Fault.BUFFER_DENIES_EVENTBRIDGE),
    of("EventBridge may send to neither queue", "UndeliverableAlarm", Fault.QUEUES_DENY_EVENTBRIDGE),
    # -- nothing to do
    of("healthy traffic", ""),
    of(
        "Genesys refuses half of the requests for 8 minutes, `required`, 90 events a minute",
        "",
        Fault.GENESYS_HALF_DOWN,
        setting=replace(REQUIRED, events_per_minute=90, max_receives=100),
        lasts=8,
    ),
    of("healthy traffic, 300 events a minute", "", setting=Setting(events_per_minute=300)),
    of("an idle night", "", setting=Setting(events_per_minute=1 / 240), lasts=8 * 60),
    of(
        "a burst waits for 10 minutes",
        "",
        Fault.BUFFER_MAPPING_DISABLED,
        setting=Setting(events_per_minute=60),
        lasts=10,
    ),
    of("Genesys is down for 3 minutes, `best-effort`", "", Fault.GENESYS_DOWN, lasts=3),
    of("the fan-out is throttled for 5 minutes", "", Fault.FAN_OUT_THROTTLED, lasts=5),
    of("the processor is throttled for 5 minutes", "", Fault.PROCESSOR_THROTTLED, lasts=5),
]


@cache
def alarms() -> Mapping[str, Mapping[str, Any]]:
    """The properties of every alarm of the template."""
    kinds = ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
    found = {name: one["Properties"] for name, one in template()["Resources"].items() if one["Type"] in kinds}
    return {name: _with_defaults(decided(alarm, HasCircuitBreaker=True)) for name, alarm in found.items()}


def _with_defaults(alarm: dict[str, Any]) -> dict[str, Any]:
    """An alarm whose expression has the default values of the parameters."""
    for metric in alarm.get("Metrics", []):
        if isinstance(metric.get("Expression"), dict):
            text = metric["Expression"]["Fn::Sub"]
            for name, parameter in template()["Parameters"].items():
                text = text.replace(f"${{{name}}}", str(parameter["Default"]))
            metric["Expression"] = text
    return alarm


@cache
def history(incident: Incident, extra: int = 2) -> History:
    """The history of the alarms during an incident."""
    return evaluate(alarms(), metrics(incident), incident.minutes, extra=extra)


@cache
def metrics(incident: Incident) -> Metrics:
    """What the stack publishes during an incident."""
    return incident.metrics()


def notified(incident: Incident, extra: int = 2) -> tuple[list[str], list[str]]:
    """The alarms that notify until the incident is over, and after that."""
    over = BEFORE + incident.lasts
    found = history(incident, extra).notifications
    return [one.alarm for one in found if one.minute <= over], [one.alarm for one in found if one.minute > over]


def table() -> str:
    """The table as Markdown."""
    lines = ["| incident | alarm that notifies | after | active without a notification |", "|---|---|---|---|"]
    for incident in INCIDENTS:
        found, (rings, _) = history(incident), notified(incident)
        links = ", ".join(f"[{name}](#{anchor(name)})" for name in rings) or "none"
        times = ", ".join(_time(one.minute - BEFORE) for one in found.notifications if one.alarm in rings)
        silent = [name for name in alarms() if name in found.active and _notifies(name) and name not in rings]
        silent = [f"{name} (afterwards)" if name in incident.then else name for name in silent]
        lines.append(f"| {incident.cause} | {links} | {times} | {', '.join(silent)} |")
    return "\n".join(lines) + "\n"


def _notifies(name: str) -> bool:
    return "AlarmActions" in alarms()[name]


def anchor(name: str) -> str:
    """The anchor of an alarm's section in docs/operations.md."""
    text = name.removesuffix("Alarm")
    return "".join(f"-{char.lower()}" if char.isupper() and at else char.lower() for at, char in enumerate(text))


def _time(minutes: int) -> str:
    return f"{minutes} min" if minutes < 2 * 60 else f"{minutes / 60:.1f} h"


def with_table(page: str) -> str:
    """A page with the table between its markers."""
    head, rest = page.split(BEGIN)
    _, tail = rest.split(END)
    return f"{head}{BEGIN}\n{table()}\n{END}{tail}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
