"""Every error name of every Retry and Catch leads to the right state with the right input.

The engine's TestState cannot test this: it evaluates Catch before Retry and ignores the JSONata ``Output`` of a Catch.
So each case is an execution on the engine, with two changes to the definition: it starts at the state under test, and
every Task is a callback that this test answers. ``SendTaskFailure`` accepts every error name, also those of the Lambda
service, which no function can raise.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from local.engine import Engine
from tests.contract.asl import levels
from tests.contract.project import MACHINES, machine

CHILD = "replay/ReplayLetters"
LETTER = {
    "schemaVersion": 2,
    "eventId": "a",
    "snapshots": ["dead-letters/a/m1.json"],
    "redrives": 1,
    "history": ["UNAVAILABLE"],
    "verdict": {"category": "UNAVAILABLE", "rule": "upstream-unavailable", "action": "retry"},
    "delaySeconds": 20,
}
REPLAYED = {"plan": {"run": "r"}, "key": "archive/category=UNKNOWN/dt=2026-11-20/x.json", "name": "n", "input": {}}
INCIDENT = {"manual": False, "reason": "EverythingFailsAlarm", "step": "wait", "delaySeconds": 1}
INPUTS: Mapping[str, dict[str, Any]] = {
    "triage": LETTER,
    "replay": {"prefix": "archive/"},
    CHILD: REPLAYED,
    "circuit_breaker": INCIDENT,
}
#: After an error of one of these tasks the execution ends or waits: tests/contract/test_breaker_machine.py.
UNCAUGHT_HERE = {"Open", "Close", "AnnounceOpened", "AnnounceClosed"}
#: A task that is retried for days is not retried to the end here.
FEW_ATTEMPTS = 20
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
#: The time at which the execution entered the state.
ENTERED = "<time>"
CLASSIFY_FAILED = {
    "category": "UNKNOWN",
    "rule": "classify-failed",
    "action": "archive",
    "explanation": "Triage could not classify this letter and archived it. An operator must investigate.",
    "fingerprint": "classify-failed",
}


@dataclass(frozen=True)
class Edge:
    """One error name of one Retry or Catch."""

    where: str
    state: str
    kind: str
    error: str

    def __str__(self) -> str:
        return f"{self.where}/{self.state} {self.kind} {self.error}"


STATES = [
    (level.where, name, state)
    for definition in MACHINES
    for level in levels(machine(definition), definition)
    for name, state in level.states.items()
]
EDGES = {
    Edge(where, name, kind, error)
    for where, name, state in STATES
    for kind in ("Retry", "Catch")
    for one in state.get(kind, [])
    for error in one["ErrorEquals"]
    if one.get("MaxAttempts") != 0 and not (kind == "Catch" and name in UNCAUGHT_HERE)
}


@dataclass(frozen=True)
class Case:
    """An error that takes an edge, and the state that follows with its input. No error: the task times out."""

    edge: Edge
    error: str | None
    next: str
    input: Mapping[str, Any]
    cause: str = "{}"
    note: str = ""

    def __str__(self) -> str:
        return f"{self.edge}{self.note and f' ({self.note})'}"


def caught(where: str, state: str, error: str | None, leads_to: str, **changes: Any) -> Case:
    """A case for a Catch. ``changes`` are added to the input; ``edge`` is the name in the Catch, if not ``error``."""
    edge, cause, note = changes.pop("edge", error), changes.pop("cause", "{}"), changes.pop("note", "")
    return Case(Edge(where, state, "Catch", edge), error, leads_to, {**INPUTS[where], **changes}, cause, note)


def raised(name: str) -> str:
    """An error that matches a name in ErrorEquals."""
    return "Lambda.ServiceException" if name == "States.ALL" else name


def dead_lettered(event_id: str) -> str:
    return json.dumps({"eventId": event_id, "snapshot": f"dead-letters/{event_id}/m2.json"})


CATCHES = [
    *(
        caught(
            "triage", "Classify", error, "Archive", edge="States.ALL", note=error,
            verdict={**CLASSIFY_FAILED, "evidence": {"error": error}},
        )
        for error in ("SnapshotMissing", "Runtime.HandlerError")
    ),
    caught("triage", "BackOff", None, "Redrive", edge="States.Timeout"),
    caught("triage", "BackOff", "DynamoDb.ThrottlingException", "Redrive", edge="States.ALL"),  # by BackOffUnlisted
    caught(
        "triage", "Redrive", "DeadLetteredAgain", "Classify", cause=dead_lettered("a"), note="this event",
        redriveOutcome="DEAD_LETTERED_AGAIN", snapshots=["dead-letters/a/m1.json", "dead-letters/a/m2.json"],
    ),
    *(
        caught("triage", "Redrive", "DeadLetteredAgain", "Classify", cause=cause, note=note, redriveOutcome="SILENT", redrivenAt=ENTERED)
        for note, cause in (("another event", dead_lettered("b")), ("no event", "{}"))
    ),
    caught("triage", "Redrive", None, "Classify", edge="States.Timeout", redriveOutcome="SILENT", redrivenAt=ENTERED),
    *(
        caught(
            "triage", "Redrive", error, "Classify", edge="States.ALL", note=error,
            redriveOutcome="NOT_SENT", redriveError=error,
        )
        for error in ("SnapshotMissing", "Misconfigured")
    ),
    caught(
        "triage", "Archive", "AlreadyStored", "SettleRecovered",
        verdict={
            **LETTER["verdict"],
            "category": "ALREADY_STORED", "rule": "stored-before-archive", "action": "settle",
            "explanation": "The events table contains this event by now. Triage does not archive it and deletes the snapshots.",
        },
    ),
    *(
        caught(CHILD, state, error, "Note", edge="States.ALL", result={"outcome": "FAILED", "why": error})
        for state, error in (("Prepare", "SnapshotMissing"), ("Triage", "States.TaskFailed"))
    ),
    *(
        caught(CHILD, "Triage", name, "Note", result={"outcome": "SKIPPED", "why": "this replay already processed it"})
        for name in ("ExecutionAlreadyExists", "StepFunctions.ExecutionAlreadyExistsException")
    ),
]  # fmt: skip
#: A Retry enters the same state with the same input.
RETRIES = [
    Case(edge, raised(edge.error), edge.state, INPUTS[edge.where])
    for edge in sorted(EDGES, key=str)
    if edge.kind == "Retry"
]
CASES = [*RETRIES, *CATCHES]
RETRYING = [
    (where, name, state)
    for where, name, state in STATES
    if "Retry" in state and state["Retry"][-1]["MaxAttempts"] < FEW_ATTEMPTS and name not in UNCAUGHT_HERE
]


@dataclass
class Run:
    """One execution: the tasks that it entered, and how it ended if it did. ``failures`` tasks get the error."""

    error: str | None
    cause: str = "{}"
    failures: int = 1
    entered: list[dict[str, Any]] = field(default_factory=list)
    ended: dict[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return bool(self.ended) or len(self.entered) > self.failures


class Runner:
    """Runs executions of single states on the engine and answers their tasks."""

    def __init__(self, engine: Engine) -> None:
        self._stepfunctions, self._sqs = engine.client("stepfunctions"), engine.client("sqs")
        self._role = _role(engine)
        self._queue = self._sqs.create_queue(QueueName="tasks")["QueueUrl"]
        self._machines: dict[tuple[str, str, bool], str] = {}
        self.runs: dict[str, Run] = {}

    def start(self, where: str, state: str, run: Run) -> Run:
        """Start an execution at a state. Without an error, the timeout of Redrive is one second."""
        key = (where, state, run.error is None)
        if key not in self._machines:
            self._machines[key] = self._stepfunctions.create_state_machine(
                name=f"m{len(self._machines)}",
                definition=json.dumps(self._definition(where, state, "21600" if run.error else "1")),
                roleArn=self._role,
            )["stateMachineArn"]
        execution = self._stepfunctions.start_execution(
            stateMachineArn=self._machines[key], input=json.dumps(INPUTS[where])
        )["executionArn"]
        self.runs[execution] = run
        return run

    def _definition(self, where: str, state: str, outcome_timeout: str) -> dict[str, Any]:
        definition = machine(where.partition("/")[0], {"OutcomeTimeoutSeconds": outcome_timeout})
        language = definition["QueryLanguage"]
        for name in where.split("/")[1:]:
            definition = definition["States"][name]["ItemProcessor"]
        for task in definition["States"].values():
            if task["Type"] == "Task":
                task["Resource"] = "arn:aws:states:::sqs:sendMessage.waitForTaskToken"
                body = (
                    "{'execution': $states.context.Execution.Id, 'token': $states.context.Task.Token, "
                    "'state': $states.context.State.Name, 'input': $states.input}"
                )
                task["Arguments"] = {"QueueUrl": self._queue, "MessageBody": f"{{% $string({body}) %}}"}
        return {"QueryLanguage": language, "StartAt": state, "States": definition["States"]}

    def finish(self, seconds: float = 60) -> None:
        """Answer tasks until every run is finished or the time is over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not all(run.finished for run in self.runs.values()):
            found = self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            for message in found.get("Messages", []):
                self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
                self._answer(json.loads(message["Body"]))
            if not found.get("Messages"):
                self._describe()

    def _answer(self, task: dict[str, Any]) -> None:
        run = self.runs[task["execution"]]
        run.entered.append(task)
        if run.finished:
            self._stepfunctions.stop_execution(executionArn=task["execution"])
        elif run.error:
            self._stepfunctions.send_task_failure(taskToken=task["token"], error=run.error, cause=run.cause)

    def _describe(self) -> None:
        for execution, run in self.runs.items():
            if not run.finished:
                found = self._stepfunctions.describe_execution(executionArn=execution)
                run.ended = found if found["status"] != "RUNNING" else {}


def _role(engine: Engine) -> str:
    iam = engine.client("iam")
    arn: str = iam.create_role(RoleName="edges", AssumeRolePolicyDocument='{"Statement": []}')["Role"]["Arn"]
    allow = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    iam.put_role_policy(RoleName="edges", PolicyName="p", PolicyDocument=json.dumps(allow))
    return arn


@dataclass(frozen=True)
class Results:
    """The runs of all cases, and those in which every retry of a state's last Retry failed."""

    cases: Mapping[str, Run]
    exhausted: Mapping[tuple[str, str], Run]


@pytest.fixture(scope="module")
def results() -> Iterator[Results]:
    with Engine(wait_scale=0.001, callback_floor_seconds=60) as engine:
        runner = Runner(engine)
        cases = {str(one): runner.start(one.edge.where, one.edge.state, Run(one.error, one.cause)) for one in CASES}
        exhausted = {
            (where, name): runner.start(
                where,
                name,
                Run(raised(state["Retry"][-1]["ErrorEquals"][0]), failures=state["Retry"][-1]["MaxAttempts"] + 1),
            )
            for where, name, state in RETRYING
        }
        runner.finish()
        yield Results(cases, exhausted)


def test_every_edge_has_a_case() -> None:
    assert {case.edge for case in CASES} == EDGES


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_error_leads_to_the_next_state_with_its_input(case: Case, results: Results) -> None:
    run = results.cases[str(case)]
    assert len(run.entered) > 1, f"no state followed: {run.ended}"
    first, second = run.entered[:2]
    found = dict(second["input"])
    if case.input.get("redrivenAt") == ENTERED:
        assert TIMESTAMP.match(found["redrivenAt"])
        found["redrivenAt"] = ENTERED
    if case.edge.kind == "Catch" and case.next == "Archive":
        assert TIMESTAMP.match(found.pop("archivedAt"))
    assert (second["state"], found) == (case.next, case.input)
    assert first["token"] != second["token"]


@pytest.mark.parametrize(("where", "name", "state"), RETRYING, ids=[f"{where}/{name}" for where, name, _ in RETRYING])
def test_after_its_last_retry_a_task_is_caught_or_fails_the_execution(
    where: str, name: str, state: Mapping[str, Any], results: Results
) -> None:
    run, retry = results.exhausted[where, name], state["Retry"][-1]
    error, attempts = raised(retry["ErrorEquals"][0]), retry["MaxAttempts"] + 1
    assert [task["state"] for task in run.entered[:attempts]] == [name] * attempts
    catcher = next((one for one in state.get("Catch", []) if {"States.ALL", error} & set(one["ErrorEquals"])), None)
    if catcher:
        assert run.entered[attempts]["state"] == catcher["Next"]
    else:
        assert len(run.entered) == attempts
        assert (run.ended["status"], run.ended["error"]) == ("FAILED", error)
