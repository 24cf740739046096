"""Synthetic events on the real path of a deployed stack: what is sent, what must follow, and how it is removed.

Every event has the detail-type ``Holdfast:Verify``. :class:`Trial` sends the events, looks for what must follow, and
removes what they left: items, attempt records, archive objects and snapshots of these events only. An event that is
still being processed is not deleted, because triage or the sweep settle it.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from holdfast.domain.identity import event_digest
from holdfast.domain.letters import MAX_MESSAGE_BYTES, DeadLetter, Message
from ops.checks import CheckResult, Finding, NotCheckedError
from ops.deployed import DeployedStack, execution_arn, executions, keys
from ops.errors import CommandError, explain
from ops.facts import is_local
from ops.names import ExecutionName
from ops.template import DeployedTemplate
from ops.waiting import WAITING_KEY

DETAIL_TYPE = "Holdfast:Verify"
ALARM = "DeadLetterAlarm"
_SOURCE = "genesys.cloud"
_GROUP = "Events"
_POLL_SECONDS = 2.0
#: Processing, five receives and triage take seconds; a cold start and Lambda's pollers up to a minute.
_SECONDS = 240.0
#: CloudWatch needs up to three minutes for the metric of an execution.
_ALARM_SECONDS = 360.0
#: A composite alarm with a suppressor acts 120 seconds after its change to ALARM (ActionsSuppressorWaitPeriod).
_SUPPRESSOR_SECONDS = 150.0
#: Clocks of this machine and of AWS may differ.
_CLOCKS = timedelta(minutes=1)

Observe = Callable[[], "Observation | None"]
Sleep = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class SyntheticEvent:
    """A synthetic event: its name in this run, its identity, and its body."""

    name: str
    event_id: str
    body: str


@dataclass(frozen=True, slots=True)
class Observation:
    """What followed: a few words, and what is wrong with it, if anything."""

    summary: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must follow. ``observe`` returns ``None`` as long as it has not."""

    name: str
    promise: str
    observe: Observe


@dataclass
class Trial:
    """One run of synthetic events through a stack.

    Attributes:
        stack: The stack.
        declared: Its template.
        sleep: Waits for some seconds.
        run_id: Part of the ids of this run's events.
    """

    stack: DeployedStack
    declared: DeployedTemplate
    sleep: Sleep = time.sleep
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    _own: dict[str, SyntheticEvent] = field(default_factory=dict)
    #: How an execution of these events may end, so that what they left is removed.
    _removable_statuses: frozenset[str] = frozenset({"SUCCEEDED"})
    _replay: str = ""

    def perform(self) -> list[Finding]:
        """Send the events, wait for what must follow, and remove what they left."""
        with self._without_actions(ALARM, "alarm", _SUPPRESSOR_SECONDS) as findings:
            findings.extend(self._check_and_clean_up())
        return [*findings, self._finding("other-letters", "No other letter came meanwhile", self._check_other_letters)]

    def _check_and_clean_up(self) -> list[Finding]:
        try:
            findings = self._send_and_check()
        except (ClientError, BotoCoreError) as error:
            findings = [Finding(_GROUP, "sent", "The events can be sent", explain(error), CheckResult.UNREADABLE)]
        finally:
            removed = self._finding("removed", "What was sent is removed again", self._remove_all)
        return [*findings, removed]

    def _send_and_check(self) -> list[Finding]:
        return [self._wait_for(one) for one in self._send_all()]

    # -- what is sent ------------------------------------------------------------------------------------------------

    def _send_all(self) -> list[Expectation]:
        """Send everything. Returns what must follow, in the order in which it is waited for."""
        bus = self._put_on_bus()
        copy, foreign = self._valid_event("copy"), self._valid_event("token")
        self._to_buffer(copy)
        stamp = {"eventId": foreign.event_id, "execution": f"verify-{self.run_id}", "redrives": 1, "taskToken": "none"}
        self._to_buffer(foreign, Triage=json.dumps(stamp))
        malformed = self._new_event(
            "malformed", f'{{"id": "verify-{self.run_id}-malformed", "detail-type": "{DETAIL_TYPE}"'
        )
        invalid = self._new_event("invalid", json.dumps(self._envelope("invalid", detail="no object")))
        large = self._new_event("large", self._large_body())
        for event in (malformed, invalid, large):
            self._to_buffer(event)
        undelivered = self._valid_event("undelivered")
        self._send("DeadLetterQueueUrl", undelivered, ERROR_CODE="VERIFY")
        self._start_replay()
        return [
            bus,
            Expectation("stored", "A valid event is stored as it was sent", lambda: self._check_stored(copy)),
            Expectation("duplicate", "A second copy of it changes nothing", lambda: self._check_second_copy(copy)),
            Expectation("token", "An unknown task token does no harm", lambda: self._check_stored(foreign)),
            self._archives(malformed, "A malformed body is archived byte by byte", "MALFORMED"),
            self._archives(invalid, "An invalid event is archived byte by byte", "INVALID"),
            self._archives(large, "A body of 1 MiB is archived byte by byte", "INVALID"),
            Expectation(
                "recovered", "Triage redrives a letter until it is stored", lambda: self._check_recovered(undelivered)
            ),
            Expectation("published", "What is stored is published", self._check_published),
            Expectation("empty-replay", "A replay without letters succeeds", self._check_replay),
        ]

    def _valid_event(self, name: str) -> SyntheticEvent:
        return self._new_event(name, json.dumps(self._envelope(name, detail={"eventBody": {"verify": self.run_id}})))

    def _envelope(self, name: str, detail: Any) -> dict[str, Any]:
        return {
            "version": "0",
            "id": f"verify-{self.run_id}-{name}",
            "source": _SOURCE,
            "detail-type": DETAIL_TYPE,
            "time": self.began.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "detail": detail,
        }

    def _large_body(self) -> str:
        """An invalid event with as many bytes as SQS accepts, in characters of one to four bytes."""
        text = json.dumps(self._envelope("large", detail=""), ensure_ascii=False)
        room = MAX_MESSAGE_BYTES - len(text.encode())
        part = "verify \\u00e9 é 漢 😀 "
        filler = part * (room // len(part.encode()))
        return text[:-2] + filler + "." * (room - len(filler.encode())) + text[-2:]

    def _new_event(self, name: str, body: str) -> SyntheticEvent:
        event = SyntheticEvent(name, DeadLetter.of(Message("", body)).event_id, body)
        self._own[event.event_id] = event
        return event

    def _to_buffer(self, event: SyntheticEvent, **attributes: str) -> None:
        self._send("BufferQueueUrl", event, **attributes)

    def _send(self, queue: str, event: SyntheticEvent, **attributes: str) -> None:
        self.stack.client("sqs").send_message(
            QueueUrl=self.stack.outputs[queue],
            MessageBody=event.body,
            MessageAttributes={
                name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
            },
        )

    def _put_on_bus(self) -> Expectation:
        """Put an event on the bus, if this account may and the rule matches it. EventBridge chooses its id."""
        promise = "An event on the bus is stored"
        parameters = self.declared.parameters
        if parameters.get("EventBusName"):
            return _expectation_not_checked("delivered", promise, "only Genesys Cloud can put events on a partner bus")
        if parameters.get("DetailTypes") or parameters.get("DetailTypePrefix"):
            return _expectation_not_checked(
                "delivered", promise, "the rule selects other topics (DetailTypes, DetailTypePrefix)"
            )
        detail = {"id": f"verify-{self.run_id}-bus", "eventBody": {"verify": self.run_id}}
        entry = {"Source": _SOURCE, "DetailType": DETAIL_TYPE, "Detail": json.dumps(detail)}
        (answer,) = self.stack.client("events").put_events(
            Entries=[{**entry, "EventBusName": self.stack.outputs["EventBusName"]}]
        )["Entries"]
        if "EventId" not in answer:
            code = answer.get("ErrorCode")
            return Expectation("delivered", promise, lambda: Observation("", f"EventBridge refused the event: {code}"))
        event = SyntheticEvent("bus", answer["EventId"], json.dumps({"detail": detail}))
        self._own[event.event_id] = event
        return Expectation("delivered", promise, lambda: self._check_stored(event))

    def _start_replay(self) -> None:
        replay_input = {"prefix": "archive/category=MALFORMED/dt=1970-01-01/", "reason": f"verify-{self.run_id}"}
        self._replay = self.stack.client("stepfunctions").start_execution(
            stateMachineArn=self.stack.outputs["ReplayStateMachineArn"], input=json.dumps(replay_input)
        )["executionArn"]

    # -- what must follow --------------------------------------------------------------------------------------------

    def _wait_for(self, expected: Expectation) -> Finding:
        """Look until it has followed, or the time is up. What is waited for first leaves less to wait for later."""
        sent_at, seconds = self._sent_at(), self._seconds()

        def observe() -> Observation:
            while (seen := expected.observe()) is None:
                waited = (datetime.now(UTC) - sent_at).total_seconds()
                if waited > seconds:
                    return Observation("", f"it was not seen within {waited:.0f} s")
                self.sleep(_POLL_SECONDS)
            return seen

        return self._finding(expected.name, expected.promise, observe)

    def _sent_at(self) -> datetime:
        """When the events were sent that are waited for."""
        return self.began

    def _seconds(self) -> float:
        """How long after that it is waited for what must follow."""
        return _SECONDS + float(self.declared.parameters.get("RetryBaseSeconds", 0))

    def _finding(self, name: str, promise: str, observe: Callable[[], Observation]) -> Finding:
        try:
            seen = observe()
        except NotCheckedError as reason:
            return Finding(_GROUP, name, promise, str(reason), CheckResult.NOT_CHECKED)
        except (ClientError, BotoCoreError) as error:
            return Finding(_GROUP, name, promise, explain(error), CheckResult.UNREADABLE)
        result = CheckResult.FAIL if seen.problem else CheckResult.PASS
        return Finding(_GROUP, name, promise, seen.problem or seen.summary, result)

    def _item(self, event: SyntheticEvent) -> Mapping[str, Any] | None:
        answer = self.stack.client("dynamodb").get_item(
            TableName=self.stack.outputs["EventsTableName"], Key={"eventId": {"S": event.event_id}}, ConsistentRead=True
        )
        found: Mapping[str, Any] | None = answer.get("Item")
        return found

    def _check_stored(self, event: SyntheticEvent) -> Observation | None:
        """Whether the table has the event, with the detail that was sent."""
        item = self._item(event)
        if item is None:
            return None
        same = json.loads(item["event"]["S"])["detail"] == json.loads(event.body)["detail"]
        return Observation("stored once", "" if same else "the stored event has another detail")

    def _check_second_copy(self, event: SyntheticEvent) -> Observation | None:
        """Give the processor the same event again, as a mapping does. It answers when it is done."""
        before = self._item(event)
        if before is None:
            return None
        record = {
            "messageId": str(uuid.uuid4()),
            "receiptHandle": "verify",
            "body": event.body,
            "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "0"},
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": self.declared.arn(self.declared.resource("BufferQueue")),
        }
        answer = self.stack.client("lambda").invoke(
            FunctionName=self.stack.outputs["ProcessorFunctionName"], Payload=json.dumps({"Records": [record]})
        )
        result = json.loads(answer["Payload"].read())
        if "FunctionError" in answer or result.get("batchItemFailures"):
            return Observation("", "the processor failed on the second copy")
        return Observation("unchanged", "" if self._item(event) == before else "the second copy changed the item")

    def _archives(self, event: SyntheticEvent, promise: str, category: str) -> Expectation:
        return Expectation(event.name, promise, lambda: self._check_archived(event, category))

    def _check_archived(self, event: SyntheticEvent, category: str) -> Observation | None:
        """Whether the archive has the exact body, and the execution has ended well."""
        name = next(self._executions_of(event), None)
        status = self._describe(name)["status"] if name else "RUNNING"
        if status == "RUNNING":
            return None
        if status != "SUCCEEDED":
            return Observation("", f"its execution {name} ended as {status}")
        key = next((one for one in self._archive_keys() if one.endswith(f"/{name}.json")), "")
        if f"/category={category}/" not in f"/{key}":
            return Observation("", f"it is not archived as {category}")
        found = self.stack.client("s3").get_object(Bucket=self.stack.outputs["ArchiveBucketName"], Key=key)
        body = json.loads(found["Body"].read())["message"]["body"]
        return Observation(f"{len(body.encode()):,} bytes", "" if body == event.body else "the archived body differs")

    def _check_recovered(self, event: SyntheticEvent) -> Observation | None:
        """Whether an event that arrived in the dead-letter queue was redriven, stored and settled."""
        name = next(self._executions_of(event), None)
        described = self._describe(name) if name else {"status": "RUNNING"}
        if described["status"] == "RUNNING":
            return None
        outcome = json.loads(described.get("output") or "{}").get("outcome")
        problem = "" if outcome == "RECOVERED" else f"{name} ended as {described['status']} {outcome or ''}".strip()
        return Observation("redriven, stored", problem)

    def _executions_of(self, event: SyntheticEvent) -> Iterator[str]:
        digest = event_digest(event.event_id)
        for one in executions(self.stack):  # the newest first
            if one["startDate"] < self.began - _CLOCKS:
                return
            read = ExecutionName.read(one["name"])
            if read and read.digest == digest:
                yield one["name"]

    def _describe(self, name: str) -> Mapping[str, Any]:
        client = self.stack.client("stepfunctions")
        found: Mapping[str, Any] = client.describe_execution(executionArn=execution_arn(self.stack, name))
        return found

    def _archive_keys(self) -> Iterator[str]:
        days = {f"{at:%Y-%m-%d}" for at in (self.began - _CLOCKS, datetime.now(UTC) + _CLOCKS)}
        for day in days:
            for category in ("MALFORMED", "INVALID"):
                yield from keys(self.stack, f"archive/category={category}/dt={day}/")

    def _check_published(self) -> Observation | None:
        """Whether the fan-out logged as many publications as this run has stored events. There is no consumer here."""
        stored = sum(self._item(one) is not None for one in self._own.values())
        pages = self.stack.client("logs").get_paginator("filter_log_events")
        found = pages.paginate(
            logGroupName=f"/aws/lambda/{self.stack.name}/fan-out",
            startTime=int((self.began - _CLOCKS).timestamp() * 1000),
            filterPattern='"Published"',
        )
        published = sum(_count(one["message"]) for page in found for one in page["events"])
        return Observation(f"{published} published") if published >= stored > 0 else None

    def _check_replay(self) -> Observation | None:
        status = self.stack.client("stepfunctions").describe_execution(executionArn=self._replay)["status"]
        return (
            None
            if status == "RUNNING"
            else Observation(status, "" if status == "SUCCEEDED" else f"it ended as {status}")
        )

    # -- what is removed ---------------------------------------------------------------------------------------------

    def _remove_all(self) -> Observation:
        """Remove what the events left. What is still being processed is not deleted."""
        left = [one.name for one in self._own.values() if not self._remove(one)]
        removed = len(self._own) - len(left)
        if self._replay:
            self._remove_versions(f"replays/{self._replay.rpartition(':')[2]}/")
        text = ", ".join(f"verify-{self.run_id}-{name}" for name in left)
        return Observation(f"{removed} events", f"still being processed, not deleted: {text}" if left else "")

    def _remove(self, event: SyntheticEvent) -> bool:
        names = list(self._executions_of(event))
        described = [self._describe(name)["status"] for name in names]
        if any(status not in self._removable_statuses for status in described) or not (names or self._item(event)):
            return False
        key = {"eventId": {"S": event.event_id}}
        dynamodb, outputs = self.stack.client("dynamodb"), self.stack.outputs
        dynamodb.delete_item(TableName=outputs["EventsTableName"], Key=key)
        pages = dynamodb.get_paginator("query").paginate(
            TableName=outputs["AttemptsTableName"],
            KeyConditionExpression="eventId = :id",
            ExpressionAttributeValues={":id": key["eventId"]},
            ProjectionExpression="eventId, attempt",
        )
        waits = [{"eventId": {"S": WAITING_KEY}, "attempt": {"S": name}} for name in names]
        for item in [*(item for page in pages for item in page["Items"]), *waits]:
            dynamodb.delete_item(TableName=outputs["AttemptsTableName"], Key=item)
        self._remove_versions(f"dead-letters/{event.event_id}/")
        for archived in [one for one in self._archive_keys() if any(one.endswith(f"/{name}.json") for name in names)]:
            self._remove_versions(archived)
        return True

    def _remove_versions(self, prefix: str) -> None:
        """Delete objects with all their versions, so that nothing stays until noncurrent versions expire."""
        s3, bucket = self.stack.client("s3"), {"Bucket": self.stack.outputs["ArchiveBucketName"]}
        for page in s3.get_paginator("list_object_versions").paginate(**bucket, Prefix=prefix):
            for one in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                s3.delete_object(**bucket, Key=one["Key"], VersionId=one["VersionId"])

    # -- the alarm ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _without_actions(self, logical_id: str, name: str, seconds: float = 0) -> Iterator[list[Finding]]:
        """Disable the actions of an alarm until the synthetic events have changed it to ALARM.

        An alarm acts when its state changes. Enabled again while it is in ALARM, it does not act.

        Args:
            logical_id: The alarm.
            name: The name of the finding about it, which is appended to the list that the context gives.
            seconds: How long after the change it can still act.
        """
        findings: list[Finding] = []
        alarm = self.declared.resource(logical_id).name
        alarms, before = self.stack.client("cloudwatch"), self._alarm(alarm)
        alarms.disable_alarm_actions(AlarmNames=[alarm])
        try:
            yield findings
            promise = f"{logical_id} becomes active"
            findings.append(self._finding(name, promise, lambda: self._wait_for_alarm(alarm, before["StateValue"])))
            self.sleep(seconds if findings[-1].result is CheckResult.PASS else 0)
        finally:
            if before["ActionsEnabled"]:
                alarms.enable_alarm_actions(AlarmNames=[alarm])

    def _wait_for_alarm(self, name: str, before: str) -> Observation:
        if is_local(self.stack):
            raise NotCheckedError("this is the local engine: its alarms have other periods")
        if before == "ALARM":
            raise NotCheckedError("it was active before")
        end = datetime.now(UTC) + timedelta(seconds=_ALARM_SECONDS)
        while self._alarm(name)["StateValue"] != "ALARM":
            if datetime.now(UTC) > end:
                return Observation("", f"it did not change to ALARM within {_ALARM_SECONDS / 60:.0f} minutes")
            self.sleep(10)
        return Observation("ALARM")

    def _alarm(self, name: str) -> Mapping[str, Any]:
        answer = self.stack.client("cloudwatch").describe_alarms(
            AlarmNames=[name], AlarmTypes=["CompositeAlarm", "MetricAlarm"]
        )
        found: list[Mapping[str, Any]] = [*answer["CompositeAlarms"], *answer["MetricAlarms"]]
        if not found:
            raise CommandError(f"The alarm {name} does not exist. Look at: holdfast verify --config-only")
        return found[0]

    def _check_other_letters(self) -> Observation:
        own = {event_digest(event_id) for event_id in self._own}
        started: Iterable[Mapping[str, Any]] = executions(self.stack)
        others = 0
        for one in started:  # the newest first
            if one["startDate"] < self.began:
                break
            read = ExecutionName.read(one["name"])
            others += not (read and read.digest in own)
        return Observation("none", f"{others} came. Look at them: holdfast letters --since 1h" if others else "")


def finding_not_checked(name: str, promise: str, reason: str) -> Finding:
    """The finding of a check that was not made."""
    return Finding(_GROUP, name, promise, reason, CheckResult.NOT_CHECKED)


def _expectation_not_checked(name: str, promise: str, reason: str) -> Expectation:
    def observe() -> Observation:
        raise NotCheckedError(reason)

    return Expectation(name, promise, observe)


def _count(message: str) -> int:
    """The number of published events in a line of the embedded metric format."""
    try:
        value = json.loads(message).get("Published", 0)
    except (ValueError, AttributeError):
        return 0
    return int(sum(value) if isinstance(value, list) else value)


#: Checks of the configuration without which no event can arrive.
_NEEDED = ("event-rule", "processor-mapping", "intake-mapping")


def check_with_events(trial: Trial, configuration: Sequence[Finding]) -> list[Finding]:
    """Send the synthetic events and return what followed. Nothing is sent if the configuration stops every event."""
    broken = [one.name for one in configuration if one.name in _NEEDED and one.result is not CheckResult.PASS]
    if broken:
        return [
            finding_not_checked(
                "events", "Synthetic events are processed", f"nothing was sent, because of {', '.join(broken)}"
            )
        ]
    return trial.perform()
