"""Sweep and replay of very many letters: the real code on a clock that only moves with calls and pauses.

The stores are in memory. Every call takes :data:`CALL_SECONDS`, and Step Functions refuses calls beyond its quotas in
the smaller regions: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
"""

from __future__ import annotations

import importlib
import json
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

CALL_SECONDS = 0.03
BEGIN = datetime(2026, 11, 23, tzinfo=UTC)
DAY = 86_400.0
#: As in template.yaml. A test compares them.
SWEEP_EVERY_SECONDS, SWEEP_TIMEOUT_SECONDS = 1_800.0, 900.0
#: Operation → bucket and refill a second.
QUOTAS = {
    "describe_execution": (250, 10),
    "get_execution_history": (400, 15),
    "list_executions": (100, 2),
    "start_execution": (800, 150),
}
MACHINE = "arn:aws:states:eu-central-1:000000000000:stateMachine:triage"
PAGE = 1_000
PLAN = {"prefix": "archive/category=EXHAUSTED/", "reason": "fixed"}


@dataclass(slots=True)
class Clock:
    """Seconds since :data:`BEGIN`."""

    seconds: float = 0.0

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds

    def now(self) -> datetime:
        """The time of day."""
        return BEGIN + timedelta(seconds=self.seconds)


@dataclass(slots=True)
class Until:
    """A deadline on a clock."""

    clock: Clock
    end: float

    def remaining(self) -> float:
        """Seconds left."""
        return self.end - self.clock.seconds


class StepFunctions:
    """The client, with executions that were all aborted, and its quotas."""

    def __init__(self, clock: Clock, aborted: Mapping[str, str]) -> None:
        """Begin with these executions, by name, and their inputs."""
        self.clock = clock
        self.throttled: Counter[str] = Counter()
        self._inputs = dict(aborted)
        self._running: set[str] = set()
        self._tokens = {name: (float(size), 0.0) for name, (size, _) in QUOTAS.items()}

    def start_execution(self, *, name: str, **request: Any) -> dict[str, Any]:
        """Refuse a name that exists."""
        self._take("start_execution")
        if name in self._inputs:
            raise _error("ExecutionAlreadyExists")
        self._inputs[name] = request["input"]
        self._running.add(name)
        return {}

    def describe_execution(self, *, executionArn: str) -> dict[str, Any]:  # noqa: N803 - boto3's name
        """An execution that is not running was aborted."""
        self._take("describe_execution")
        name = executionArn.rpartition(":")[2]
        if name not in self._inputs:
            raise _error("ExecutionDoesNotExist")
        return {"status": "RUNNING" if name in self._running else "ABORTED", "input": self._inputs[name]}

    def get_paginator(self, operation: str) -> Any:
        """Pages of executions, or of a history."""
        return _Paginator(self, operation)

    def pages(self, operation: str, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The pages of an answer."""
        if operation == "get_execution_history":
            self._take(operation)
            text = self._inputs[request["executionArn"].rpartition(":")[2]]
            yield {"events": [{"executionStartedEventDetails": {"input": text}}]}
            return
        names = sorted(self._running)
        for start in range(0, len(names), PAGE) or [0]:
            self._take(operation)
            yield {"executions": [{"name": name} for name in names[start : start + PAGE]]}

    def _take(self, operation: str) -> None:
        """Take one token of the operation's bucket."""
        self.clock.pause(CALL_SECONDS)
        size, refill = QUOTAS[operation]
        tokens, at = self._tokens[operation]
        tokens = min(size, tokens + (self.clock.seconds - at) * refill)
        self._tokens[operation] = (max(0.0, tokens - 1), self.clock.seconds)
        if tokens < 1:
            self.throttled[operation] += 1
            raise _error("ThrottlingException")


@dataclass(frozen=True, slots=True)
class _Paginator:
    client: StepFunctions
    operation: str

    def paginate(self, **request: Any) -> Iterator[dict[str, Any]]:
        return self.client.pages(self.operation, request)


def _error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": ""}}, "call")


@dataclass(slots=True)
class Bucket:
    """Objects in memory. A listing takes one call for each page."""

    clock: Clock
    texts: dict[str, str] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)

    def create(self, key: str, text: str) -> bool:
        """Write an object once."""
        self.clock.pause(CALL_SECONDS)
        new = key not in self.texts
        self.texts.setdefault(key, text)
        return new

    def write(self, key: str, text: str) -> None:
        """Write an object."""
        self.clock.pause(CALL_SECONDS)
        self.texts[key] = text

    def read(self, key: str) -> str | None:
        """Read an object."""
        self.clock.pause(CALL_SECONDS)
        return self.texts.get(key)

    def delete(self, keys: Any) -> None:
        """Nothing is deleted: no letter is settled here."""

    def list(self, prefix: str, after: str = "") -> Iterator[Any]:
        """List the objects that existed at the beginning."""
        ports: Any = importlib.import_module("holdfast.domain.ports")
        first = max(bisect_left(self.keys, prefix), bisect_right(self.keys, after))
        self.clock.pause(CALL_SECONDS)
        for number, index in enumerate(range(first, len(self.keys)), 1):
            if not self.keys[index].startswith(prefix):
                return
            yield ports.StoredObject(self.keys[index], BEGIN - timedelta(days=2))
            if number % PAGE == 0:
                self.clock.pause(CALL_SECONDS)


class NothingStored:
    """The events table contains none of the events."""

    def __init__(self, clock: Clock) -> None:
        """Use this clock."""
        self._clock = clock

    def holds(self, _event_id: str) -> bool:
        """Look an event up."""
        self._clock.pause(CALL_SECONDS)
        return False


def letter_text(number: int) -> tuple[str, str]:
    """The key and the text of a dead letter's snapshot."""
    letters: Any = importlib.import_module("holdfast.domain.letters")
    body = json.dumps({"id": f"event-{number}", "detail-type": "topic", "detail": {}})
    raw = {"messageId": f"message-{number}", "body": body, "attributes": {}, "messageAttributes": {}}
    letter = letters.DeadLetter.of(letters.Message.of_record(raw))
    return letter.key, letter.as_json()


def sweep(letters: int) -> int:
    """The letters that one day of sweeps decides on, if all executions were aborted: the most calls for each."""
    domain: Any = importlib.import_module("holdfast.domain.sweep")
    intake: Any = importlib.import_module("holdfast.domain.intake")
    identity: Any = importlib.import_module("holdfast.domain.identity")
    adapter: Any = importlib.import_module("holdfast.adapters.stepfunctions")
    clock = Clock()
    bucket = Bucket(clock, dict(map(letter_text, range(letters))))
    bucket.keys = sorted(bucket.texts)
    names = (identity.execution_name("topic", f"event-{number}", f"message-{number}") for number in range(letters))
    client = StepFunctions(clock, dict.fromkeys(names, "{}"))
    executions = adapter.TriageExecutions(client, MACHINE, **paces(clock))
    sweeper = domain.Sweeper(intake.TriageServices(bucket, executions), NothingStored(clock))
    adopted = 0
    while clock.seconds < DAY:
        begin = clock.seconds
        deadline = Until(clock, begin + SWEEP_TIMEOUT_SECONDS - reserved_seconds())
        adopted += sweeper.sweep(clock.now(), timedelta(days=1), deadline).adopted
        clock.seconds = max(clock.seconds, begin + SWEEP_EVERY_SECONDS)
    if client.throttled:
        raise RuntimeError(f"the sweep exceeded the quotas: {dict(client.throttled)}")
    return adopted


def paces(clock: Clock) -> dict[str, Any]:
    """The rates of EvidenceSweepFunction on this clock."""
    app: Any = importlib.import_module("evidence_sweep.app")
    pace: Any = importlib.import_module("holdfast.adapters.pace")
    rates = {"describing": app.DESCRIPTIONS_PER_SECOND, "listing": app.LISTINGS_PER_SECOND}
    return {name: pace.Pace(rate, lambda: clock.seconds, clock.pause) for name, rate in rates.items()}


def reserved_seconds() -> float:
    """What EvidenceSweepFunction keeps for its last decision and its report."""
    app: Any = importlib.import_module("evidence_sweep.app")
    return float(app.RESERVED_FOR_REPORT_SECONDS)


@dataclass(slots=True)
class Archive:
    """An archive of so many letters that are made when they are read, and the results of their replay."""

    letters: int
    noted: list[str] = field(default_factory=list)
    report: str = ""

    def list(self, prefix: str) -> Iterator[Any]:
        """List the letters or the results."""
        ports: Any = importlib.import_module("holdfast.domain.ports")
        keys = map(self.key, range(self.letters)) if prefix.startswith("archive/") else iter(sorted(self.noted))
        return (ports.StoredObject(key, BEGIN) for key in keys)

    @staticmethod
    def key(number: int) -> str:
        """The key of a letter."""
        return f"archive/category=EXHAUSTED/dt=2026-11-22/dd75bb534ae6b57f/x-{number:07}.json"

    def read(self, key: str) -> str:
        """Make the archive object of a letter."""
        document = json.loads(letter_text(int(key[-12:-5]))[1])
        return json.dumps({**document, "archivedAt": "2026-11-22T00:00:00.000Z"})

    def create(self, key: str, text: str) -> bool:
        """Keep the key of a result, or the report."""
        if key.endswith("/report.json"):
            self.report = text
        else:
            self.noted.append(key)
        return True

    @staticmethod
    def tags(_key: str) -> dict[str, str]:
        """No letter was replayed."""
        return {}


class NoExecutions:
    """No execution of the replay exists yet."""

    @staticmethod
    def describe(_name: str) -> Any:
        """Describe one."""
        ports: Any = importlib.import_module("holdfast.domain.ports")
        return ports.ExecutionDescription(ports.ExecutionStatus.ABSENT)


def replay(letters: int) -> int:
    """The letters in the report of a replay, whose every step runs with the real handler."""
    app: Any = importlib.import_module("replay.app")
    domain: Any = importlib.import_module("holdfast.domain.replay")
    archive = Archive(letters)
    services = domain.Replayer(archive, NoExecutions(), map)
    context = _Context()

    def step(name: str, **more: Any) -> dict[str, Any]:
        answer: dict[str, Any] = app.lambda_handler({"step": name, **more}, context, services=services)
        return answer

    plan = step("plan", input=PLAN, run="run", startedAt="2026-11-23T00:00:00Z")
    for number in range(letters):
        key = archive.key(number)
        if step("prepare", plan=plan, key=key)["action"] != "start":
            raise RuntimeError("a letter was skipped")
        outcome = "ARCHIVED" if number % 10 == 0 else "RECOVERED"
        step("note", plan=plan, key=key, result={"outcome": outcome})
    step("report", plan=plan)
    return int(json.loads(archive.report)["letters"])


class _Context:
    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 900_000
