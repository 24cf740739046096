"""``holdfast status``: one screen with the state of a stack, the causes of its dead letters, and the next command."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from holdfast.domain.categories import VERDICT_CATEGORIES, Category
from ops import options, screen
from ops.deployed import AwsStack, DeployedStack, metric_query
from ops.log_query import LogQuery, parse_row_time
from ops.pause import MAPPING_MISSING, ProcessingState, mapping_of
from ops.rules import explanation_of
from ops.runbook import section_about, section_of

WINDOW = timedelta(hours=24)
SHOWN = 8
#: A page of ListExecutions. More letters in triage are shown as "1000 or more".
PAGE = 1_000
_QUEUES = {"buffer": "BufferQueueUrl", "dead_letters": "DeadLetterQueueUrl"}
_DEPTH = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")
_NOT_PAUSED = {ProcessingState.RUNNING, ProcessingState.STARTING}
#: Logs Insights usually answers within a second. A status without causes is better than a slow one.
_POLLS, _POLL_SECONDS = 3, 0.4
_FUNCTIONS = (
    *("processor", "fan-out", "dead-letter-intake", "classify", "redrive", "archive", "settle"),
    *("evidence-sweep", "replay"),
)
_FAILURES = (
    "filter message in ['verdict', 'record failed', 'users not looked up', 'event not published'] "
    "or level in ['ERROR', 'CRITICAL'] or @message like /Task timed out|Runtime\\.[A-Z]/ "
    "| stats count(*) as lines, count_distinct(eventId) as events, min(@timestamp) as first, max(@timestamp) as last, "
    "latest(errorMessage) as error, latest(error) as reason by @log, message, category, rule, action, fingerprint "
    "| sort last desc | limit 100"
)
CRASHED = "crashed or timed out"
#: Verdicts after which nothing has to be done.
_SETTLED = {"settle", "wait"}
#: The categories whose letters recover by themselves when the upstream or the capacity is back.
_TRANSIENT = frozenset({Category.UNAVAILABLE, Category.THROTTLED_UPSTREAM, Category.NEVER_RAN})


@dataclass(frozen=True, slots=True)
class Pause:
    """Why processing is paused.

    Attributes:
        by_hand: Whether a person paused it.
        reason: The person's reason, or the alarm.
        since: When it was paused.
        next_probe_at: When the circuit breaker looks again.
        probes: How many probes there were.
        execution: The execution of the circuit breaker.
    """

    by_hand: bool
    reason: str
    since: datetime
    next_probe_at: datetime | None
    probes: int
    execution: str


@dataclass(frozen=True, slots=True)
class Depth:
    """Messages in a queue: visible, in flight, delayed. ``oldest`` is the age that SQS reported last, in seconds."""

    waiting: int
    in_flight: int
    delayed: int
    oldest: float | None


@dataclass(frozen=True, slots=True)
class LoggedFailure:
    """What failed in the last 24 hours, from the logs: equal lines are counted.

    Attributes:
        function: The function that logged it; ``classify`` logs the verdicts on dead letters.
        message: What it logged; empty if the function crashed or timed out.
        category: Kind of failure, if it has one.
        fingerprint: Hash of the normalised error of dead letters.
        count: How many events, or how many lines if they name none.
        first: The first line.
        last: The last line.
        what: The last error, or the sentence of the rule.
        runbook: The runbook section about it.
    """

    function: str
    message: str
    category: str
    fingerprint: str
    count: int
    first: datetime
    last: datetime
    what: str
    runbook: str

    @property
    def about_letters(self) -> bool:
        """Whether dead letters have this cause."""
        return self.message == "verdict"


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm in the state ALARM that notifies: its logical id, since when, and its runbook section."""

    name: str
    since: datetime
    runbook: str


@dataclass(frozen=True, slots=True)
class StackStatus:
    """The state of a stack at one moment.

    Attributes:
        stack: The stack's name.
        region: Its region.
        at: When it was read.
        processing: Whether the processor receives from the buffer; ``None`` if its event source mapping is missing.
        concurrency: The largest number of batches at the same time.
        pause: Why processing is paused, if an execution of the circuit breaker paused it.
        buffer: The buffer queue.
        dead_letters: The dead-letter queue.
        in_triage: Letters in triage, at most :data:`PAGE`.
        more_in_triage: Whether there are more.
        archived: Letters that were archived in 24 hours, by category.
        fan_out_lag: Age of the last published batch in seconds; ``None`` if none was published in 15 minutes.
        alarms: The alarms that notify and are active.
        failures: What failed in 24 hours, the most recent first; ``None`` if the log query has not ended in time.
        next: What to do now.
        command: The command for it, or an empty text.
    """

    stack: str
    region: str
    at: datetime
    processing: ProcessingState | None
    concurrency: int | None
    pause: Pause | None
    buffer: Depth
    dead_letters: Depth
    in_triage: int
    more_in_triage: bool
    archived: Mapping[str, int]
    fan_out_lag: float | None
    alarms: Sequence[Alarm]
    failures: Sequence[LoggedFailure] | None
    next: str = ""
    command: str = ""

    @property
    def healthy(self) -> bool:
        """Whether processing runs and no alarm is active."""
        return self.processing is ProcessingState.RUNNING and not self.alarms


# -- read ----------------------------------------------------------------------------------------------------------


def collect(stack: AwsStack, now: datetime, sleep: Callable[[float], None] = time.sleep) -> StackStatus:
    """Read the state with at most twelve calls, in parallel; the stack itself was the first one."""
    with ThreadPoolExecutor(12) as pool:
        failures = pool.submit(_failures, stack, now, sleep)
        mapping = pool.submit(mapping_of, stack)
        pause = pool.submit(_pause, stack)
        metrics = pool.submit(_metrics, stack, now)
        alarms = pool.submit(_alarms, stack)
        triage = pool.submit(_in_triage, stack)
        depths = {name: pool.submit(_attributes, stack, output) for name, output in _QUEUES.items()}
        in_triage, more = triage.result()
        found_mapping = mapping.result()
        measured = metrics.result()
        found = StackStatus(
            stack=stack.name,
            region=stack.region,
            at=now,
            processing=found_mapping.processing if found_mapping else None,
            concurrency=found_mapping.concurrency if found_mapping else None,
            pause=None if found_mapping and found_mapping.processing in _NOT_PAUSED else pause.result(),
            buffer=_depth(depths["buffer"], measured.get("buffer")),
            dead_letters=_depth(depths["dead_letters"], measured.get("dead_letters")),
            in_triage=in_triage,
            more_in_triage=more,
            archived={
                str(one): int(count) for one in sorted(VERDICT_CATEGORIES) if (count := measured.get(f"archived_{one}"))
            },
            fan_out_lag=_seconds(measured.get("fan_out")),
            alarms=alarms.result(),
            failures=failures.result(),
        )
    return add_advice(found)


def _pause(stack: DeployedStack) -> Pause | None:
    """The execution of the circuit breaker that owns the pause. One more call if one runs."""
    machine = stack.outputs.get("CircuitBreakerStateMachineArn")
    if not machine:
        return None
    client = stack.client("stepfunctions")
    running = client.list_executions(stateMachineArn=machine, statusFilter="RUNNING", maxResults=10)["executions"]
    if not running:
        return None
    arn = running[0]["executionArn"]  # the newest one
    events = client.get_execution_history(executionArn=arn, reverseOrder=True, maxResults=50)["events"]
    inputs = (event["stateEnteredEventDetails"].get("input") for event in events if "stateEnteredEventDetails" in event)
    data = json.loads(next(inputs, None) or "{}")
    probe = data.get("nextProbeAt") if not data.get("manual") else None
    return Pause(
        by_hand=data.get("manual") is True,
        reason=str(data.get("reason", "")),
        since=_moment(data.get("openedAt")) or running[0]["startDate"],
        next_probe_at=_moment(probe),
        probes=int(data.get("probes", 0)),
        execution=arn.rpartition(":")[2],
    )


def _moment(text: Any) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None


def _attributes(stack: DeployedStack, output: str) -> Mapping[str, str]:
    answer = stack.client("sqs").get_queue_attributes(QueueUrl=stack.outputs[output], AttributeNames=list(_DEPTH))
    found: Mapping[str, str] = answer["Attributes"]
    return found


def _depth(attributes: Future[Mapping[str, str]], oldest: float | None) -> Depth:
    waiting, in_flight, delayed = (int(attributes.result()[name]) for name in _DEPTH)
    return Depth(waiting, in_flight, delayed, oldest if waiting else None)


def _in_triage(stack: DeployedStack) -> tuple[int, bool]:
    answer = stack.client("stepfunctions").list_executions(
        stateMachineArn=stack.outputs["TriageStateMachineArn"], statusFilter="RUNNING", maxResults=PAGE
    )
    return len(answer["executions"]), "nextToken" in answer


def _metrics(stack: DeployedStack, now: datetime) -> dict[str, float]:
    """The newest age of each queue and of the fan-out, and the archived letters of 24 hours by category. One call."""
    ages = [
        _query(name, "AWS/SQS", "ApproximateAgeOfOldestMessage", {"QueueName": stack.outputs[url].rpartition("/")[2]})
        for name, url in _QUEUES.items()
    ]
    function = {"FunctionName": stack.outputs.get("FanOutFunctionName", "")}
    ages.append(_query("fan_out", "AWS/Lambda", "IteratorAge", function))
    namespace = f"Holdfast/{stack.name}"
    archived = [
        _query(f"archived_{one}", namespace, "LettersArchived", {"Category": str(one), "service": "archive"}, "Sum")
        for one in sorted(VERDICT_CATEGORIES)
    ]
    client = stack.client("cloudwatch")
    answer = client.get_metric_data(MetricDataQueries=[*ages, *archived], StartTime=now - WINDOW, EndTime=now)
    found: dict[str, float] = {}
    for result in answer["MetricDataResults"]:
        recent = [
            value
            for at, value in zip(result["Timestamps"], result["Values"], strict=True)
            if result["Id"].startswith("archived") or now - at < timedelta(minutes=15)
        ]
        if recent:
            found[result["Id"]] = sum(recent) if result["Id"].startswith("archived") else recent[0]
    return found


def _query(name: str, namespace: str, metric: str, dimensions: Mapping[str, str], stat: str = "Maximum") -> Any:
    return metric_query(name, namespace, metric, dimensions, stat=stat, seconds=300)


def _alarms(stack: AwsStack) -> list[Alarm]:
    """The active alarms of the stack that have an action. CloudFormation begins their names with the stack's name."""
    answer = stack.client("cloudwatch").describe_alarms(
        AlarmNamePrefix=f"{stack.name}-", StateValue="ALARM", AlarmTypes=["CompositeAlarm", "MetricAlarm"]
    )
    found = []
    for one in (*answer.get("CompositeAlarms", ()), *answer.get("MetricAlarms", ())):
        name = one["AlarmName"].removeprefix(f"{stack.name}-").rpartition("-")[0]
        if one.get("AlarmActions") and not one.get("ActionsSuppressedBy"):
            since = one.get("StateTransitionedTimestamp") or one["StateUpdatedTimestamp"]
            found.append(Alarm(name, since, section_of(name)))
    return sorted(found, key=lambda one: one.since)


def _failures(stack: AwsStack, now: datetime, sleep: Callable[[float], None]) -> list[LoggedFailure] | None:
    query = LogQuery(_FUNCTIONS, _FAILURES, now - WINDOW, now)
    rows = query.rows(stack, polls=_POLLS, poll_seconds=_POLL_SECONDS, sleep=sleep)
    return None if rows is None else [_failure(row) for row in rows if row.get("action") not in _SETTLED][:SHOWN]


def _failure(row: dict[str, str]) -> LoggedFailure:
    function, rule = row["@log"].rpartition("/")[2], row.get("rule", "")
    message, category = row.get("message", ""), row.get("category", "")
    return LoggedFailure(
        function=function,
        message=message,
        category=category,
        fingerprint=row.get("fingerprint", ""),
        count=int(float(row["events"])) or int(float(row["lines"])),
        first=parse_row_time(row["first"]),
        last=parse_row_time(row["last"]),
        what=next(filter(None, (row.get("error"), row.get("reason"), explanation_of(rule), message)), CRASHED),
        runbook=section_about(function, message, category),
    )


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


# -- what to do ----------------------------------------------------------------------------------------------------


def add_advice(status: StackStatus) -> StackStatus:
    """Add the next step: the first one that applies."""
    step, command = next(found for found in (rule(status) for rule in _ADVICE) if found)
    return replace(status, next=step, command=command)


Advice = tuple[str, str] | None


def _mapping_missing(status: StackStatus) -> Advice:
    if status.processing:
        return None
    return MAPPING_MISSING, "holdfast verify --config-only"


def _paused_by_nothing(status: StackStatus) -> Advice:
    if status.processing is not ProcessingState.PAUSED or status.pause:
        return None
    return "No execution of the circuit breaker runs, so nothing resumes processing.", "holdfast resume"


def _paused(status: StackStatus) -> Advice:
    if not status.pause:
        return None
    if status.pause.by_hand:
        return f"A person paused processing: {status.pause.reason or 'no reason was given'}.", "holdfast resume"
    cause = next((one for one in status.failures or () if one.function == "processor"), None)
    if cause:
        return f"Correct the cause: {cause.what} ({cause.runbook}). A probe then resumes processing.", ""
    return "Correct what the log of the processor shows. A probe then resumes processing.", ""


def _alarm(status: StackStatus) -> Advice:
    """The alarm that began first, with what failed in the same section of the runbook."""
    if not status.alarms:
        return None
    first = status.alarms[0]
    if first.name in _ABOUT_LETTERS and (found := _letters(status)):
        return found
    same = next((one for one in status.failures or () if one.runbook == first.runbook), None)
    return f"{first.name} is active{f': {same.what}' if same else ''}. See {first.runbook}.", ""


def _letters(status: StackStatus) -> Advice:
    cause = next((one for one in status.failures or () if one.about_letters), None)
    if not cause or not (status.in_triage or status.archived):
        return None
    command = f"holdfast letters --fingerprint {cause.fingerprint}"
    if cause.category in _TRANSIENT:
        return f"Triage retries these letters by itself ({cause.runbook}).", command
    return f"See {cause.runbook}.", command


def _nothing_to_do(status: StackStatus) -> Advice:
    if not status.healthy:
        return f"Processing is {status.processing}. Look again in a minute.", "holdfast status"
    return "Nothing has to be done.", ""


_ABOUT_LETTERS = {"DeadLetterAlarm", "LettersGivenUpAlarm", "MisconfiguredAlarm"}
_ADVICE: tuple[Callable[[StackStatus], Advice], ...] = (
    _mapping_missing,
    _paused_by_nothing,
    _paused,
    _alarm,
    _letters,
    _nothing_to_do,
)


# -- show ----------------------------------------------------------------------------------------------------------


def render(status: StackStatus) -> RenderableType:
    """One screen."""
    facts = Table.grid(padding=(0, 3, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    for name, value in _facts(status):
        facts.add_row(name, value)
    title = Text.assemble((status.stack, "bold"), f"  {status.region}  {screen.local_time(status.at, status.at)}")
    parts: list[RenderableType] = [title, "", facts]
    if status.failures:
        parts += ["", Text("Failures in 24 hours", style="bold"), _failure_table(status)]
    elif status.failures is None:
        parts += ["", Text("The log query has not ended in time: what failed is not shown.", style="dim")]
    parts += ["", Text.assemble(("Next  ", "bold"), status.next)]
    if status.command:
        parts.append(Text.assemble("      ", (status.command, "bold cyan")))
    return Group(*parts)


def _facts(status: StackStatus) -> Iterable[tuple[str, RenderableType]]:
    yield "processing", _processing(status)
    yield "buffer", _depth_text(status.buffer)
    yield "dead-letter queue", _depth_text(status.dead_letters)
    yield "in triage", Text(f"{status.in_triage:,}{' or more' if status.more_in_triage else ''} letters")
    total = sum(status.archived.values())
    by_category = ", ".join(f"{count:,} {category}" for category, count in status.archived.items())
    yield "archived in 24 h", Text(f"{total:,} letters" + (f": {by_category}" if by_category else ""))
    lag = status.fan_out_lag
    yield "publication", Text("nothing published in 15 minutes" if lag is None else f"{screen.duration(lag)} behind")
    yield "alarms", _alarm_text(status)


def _processing(status: StackStatus) -> Text:
    if status.processing is ProcessingState.RUNNING:
        limit = f", at most {status.concurrency} batches at the same time" if status.concurrency else ""
        return Text.assemble(("running", "green"), limit)
    if not status.pause:
        return Text(str(status.processing or "missing"), style="red")
    pause = status.pause
    since = f" since {screen.local_time(pause.since, status.at)} ({screen.ago(pause.since, status.at)})"
    who = f", by hand: {pause.reason}" if pause.by_hand else f", by {pause.reason}"
    probe = f"; next probe {screen.ago(pause.next_probe_at, status.at)}" if pause.next_probe_at else ""
    return Text.assemble((str(status.processing), "yellow"), since, who, probe)


def _depth_text(depth: Depth) -> Text:
    parts = [f"{depth.waiting:,} waiting", f"{depth.in_flight:,} in flight"]
    parts += [f"{depth.delayed:,} delayed"] if depth.delayed else []
    parts += [f"the oldest for {screen.duration(depth.oldest)}"] if depth.oldest else []
    return Text(", ".join(parts))


def _alarm_text(status: StackStatus) -> Text:
    if not status.alarms:
        return Text("none", style="green")
    lines = [
        Text.assemble((one.name, "red"), f" {screen.ago(one.since, status.at)}, {one.runbook}") for one in status.alarms
    ]
    return Text("\n").join(lines)


def _failure_table(status: StackStatus) -> Table:
    table = screen.table("count", "function", "category", "last", "what", right=["count"])
    for one in status.failures or ():
        function = "triage" if one.about_letters else one.function
        table.add_row(f"{one.count:,}", function, one.category, screen.local_time(one.last, status.at), one.what)
    return table


def status(
    stack: options.Stack = options.DEFAULT_STACK,
    profile: options.Profile = None,
    region: options.Region = None,
    as_json: options.Json = False,
) -> None:
    """Show whether the stack works, what is wrong, and the next command.

    Exit status 1: processing does not run, or an alarm is active.

    Example: holdfast status --stack holdfast-prod
    """
    with screen.exit_on_error():
        found = collect(AwsStack.named(stack, profile=profile, region=region), datetime.now(UTC))
    screen.print_result(found, render, as_json=as_json)
    raise typer.Exit(0 if found.healthy else 1)
