"""Every Retry and Catch of both machines is taken: none is left out, and each leads where it should with what it should.

The engine's TestState is not up to this: it asks Catch before Retry, and leaves a Catch's JSONata ``Output`` out. So the
states run as executions on the engine's own executor, as they stand in the definitions, except for two things: the
execution begins at the state in question, and every Task's resource is a callback that this test answers. With
``SendTaskFailure`` it can answer with any error name, Lambda's own among them, which no function can raise.
"""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
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
}
REPLAYED = {"plan": {"run": "r"}, "key": "archive/category=UNKNOWN/dt=2026-11-20/x.json", "name": "n", "input": {}}
INPUTS: Mapping[str, dict[str, Any]] = {"triage": LETTER, "replay": {"prefix": "archive/"}, CHILD: REPLAYED}
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
CLASSIFY_FAILED = {
    "category": "UNKNOWN",
    "rule": "classify-failed",
    "action": "archive",
    "explanation": "Triage could not classify this letter; a person has to look.",
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


def states() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for name in MACHINES:
        for level in levels(machine(name), name):
            for state, found in level.states.items():
                yield level.where, state, found


EDGES = {
    Edge(where, name, kind, error)
    for where, name, state in states()
    for kind in ("Retry", "Catch")
    for one in state.get(kind, [])
    for error in one["ErrorEquals"]
}


@dataclass(frozen=True)
class Way:
    """A failure that is to take an edge: what the task is told, and what has to be entered next with what."""

    edge: Edge
    told: str | None
    next: str
    output: Mapping[str, Any]
    cause: str = "{}"
    note: str = ""

    def __str__(self) -> str:
        return f"{self.edge}{self.note and f' ({self.note})'}"


def caught(where: str, state: str, told: str | None, leads_to: str, **changes: Any) -> Way:
    """A way through a Catch; ``changes`` are what it adds to the input, ``edge`` names it where it is not ``told``."""
    edge, cause, note = changes.pop("edge", told), changes.pop("cause", "{}"), changes.pop("note", "")
    return Way(Edge(where, state, "Catch", edge), told, leads_to, {**INPUTS[where], **changes}, cause, note)


def death_of(letter: str) -> str:
    return json.dumps({"eventId": letter, "snapshot": f"dead-letters/{letter}/m2.json"})


#: Each Catch edge and what it has to do. A new one that is not named here is reported as left out.
CATCHES = [
    caught(
        "triage", "Classify", "SnapshotMissing", "Archive", edge="States.ALL",
        verdict={**CLASSIFY_FAILED, "evidence": {"error": "SnapshotMissing"}},
    ),
    caught(
        "triage", "Classify", "Runtime.HandlerError", "Archive", edge="States.ALL", note="a defect of the function",
        verdict={**CLASSIFY_FAILED, "evidence": {"error": "Runtime.HandlerError"}},
    ),
    caught(
        "triage", "Redrive", "DeadLetteredAgain", "Classify", cause=death_of("a"), note="this letter",
        redriveOutcome="DEAD_LETTERED_AGAIN", snapshots=["dead-letters/a/m1.json", "dead-letters/a/m2.json"],
    ),
    caught("triage", "Redrive", "DeadLetteredAgain", "Classify", cause=death_of("b"), note="another letter", redriveOutcome="SILENT"),
    caught("triage", "Redrive", "DeadLetteredAgain", "Classify", cause="{}", note="no letter", redriveOutcome="SILENT"),
    caught("triage", "Redrive", None, "Classify", edge="States.Timeout", redriveOutcome="SILENT"),
    caught(
        "triage", "Redrive", "SnapshotMissing", "Classify", edge="States.ALL",
        redriveOutcome="NOT_SENT", redriveError="SnapshotMissing",
    ),
    caught(
        "triage", "Redrive", "Misconfigured", "Classify", edge="States.ALL", note="no permission to send",
        redriveOutcome="NOT_SENT", redriveError="Misconfigured",
    ),
    caught(
        CHILD, "Prepare", "SnapshotMissing", "Note", edge="States.ALL",
        result={"outcome": "FAILED", "why": "SnapshotMissing"},
    ),
    *(
        caught(CHILD, "Triage", name, "Note", result={"outcome": "SKIPPED", "why": "this replay has done it before"})
        for name in ("ExecutionAlreadyExists", "StepFunctions.ExecutionAlreadyExistsException")
    ),
    caught(
        CHILD, "Triage", "States.TaskFailed", "Note", edge="States.ALL",
        result={"outcome": "FAILED", "why": "States.TaskFailed"},
    ),
]  # fmt: skip
#: A Retry edge leads back into its own state, with what it was entered with.
RETRIES = [
    Way(edge, edge.error, edge.state, INPUTS[edge.where]) for edge in sorted(EDGES, key=str) if edge.kind == "Retry"
]
WAYS = [*RETRIES, *CATCHES]
RETRYING = [(where, name, state) for where, name, state in states() if "Retry" in state]


@dataclass
class Run:
    """One execution: what its tasks were asked, one after the other, and how it ended if it did."""

    told: str | None
    cause: str = "{}"
    failures: int = 1
    asked: list[dict[str, Any]] = field(default_factory=list)
    ended: dict[str, Any] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        return bool(self.ended) or len(self.asked) > self.failures


class Stage:
    """The engine with the machines on it, and the runs that are under way."""

    def __init__(self, engine: Engine) -> None:
        self._stepfunctions, self._sqs = engine.client("stepfunctions"), engine.client("sqs")
        self._role = _role(engine)
        self._queue = self._sqs.create_queue(QueueName="asked")["QueueUrl"]
        self._machines: dict[tuple[str, str, bool], str] = {}
        self.runs: dict[str, Run] = {}

    def start(self, where: str, state: str, run: Run) -> Run:
        """Start an execution at a state. One that is told nothing waits for its time-out, which is a second then."""
        key = (where, state, run.told is None)
        if key not in self._machines:
            self._machines[key] = self._stepfunctions.create_state_machine(
                name=f"m{len(self._machines)}",
                definition=json.dumps(self._definition(where, state, "1" if run.told is None else "21600")),
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
                asked = (
                    "{'execution': $states.context.Execution.Id, 'token': $states.context.Task.Token, "
                    "'state': $states.context.State.Name, 'input': $states.input}"
                )
                task["Arguments"] = {"QueueUrl": self._queue, "MessageBody": f"{{% $string({asked}) %}}"}
        return {"QueryLanguage": language, "StartAt": state, "States": definition["States"]}

    def play(self, seconds: float = 60) -> None:
        """Answer every task with its run's failure, until each run has shown what it does then."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not all(run.over for run in self.runs.values()):
            found = self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            for message in found.get("Messages", []):
                self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
                self._answer(json.loads(message["Body"]))
            if not found.get("Messages"):
                self._look_who_ended()

    def _answer(self, asked: dict[str, Any]) -> None:
        run = self.runs[asked["execution"]]
        run.asked.append(asked)
        if run.over:
            self._stepfunctions.stop_execution(executionArn=asked["execution"])
        elif run.told:
            self._stepfunctions.send_task_failure(taskToken=asked["token"], error=run.told, cause=run.cause)

    def _look_who_ended(self) -> None:
        for execution, run in self.runs.items():
            if not run.over:
                found = self._stepfunctions.describe_execution(executionArn=execution)
                run.ended = found if found["status"] != "RUNNING" else {}


def _role(engine: Engine) -> str:
    iam = engine.client("iam")
    arn: str = iam.create_role(RoleName="edges", AssumeRolePolicyDocument='{"Statement": []}')["Role"]["Arn"]
    allow = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    iam.put_role_policy(RoleName="edges", PolicyName="p", PolicyDocument=json.dumps(allow))
    return arn


@dataclass(frozen=True)
class Played:
    """What came of it all."""

    ways: Mapping[str, Run]
    used_up: Mapping[tuple[str, str], Run]

    def followed(self, way: Way) -> tuple[str, Any]:
        """The state that was entered after the failure, and with what; the moment in it is checked and taken off."""
        run = self.ways[str(way)]
        assert len(run.asked) > 1, f"nothing was entered after {way}: {run.ended}"
        entered, given = run.asked[1]["state"], dict(run.asked[1]["input"])
        if way.edge.kind == "Catch" and entered == "Archive":
            assert MOMENT.match(given.pop("archivedAt"))
        return entered, given


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    with Engine(wait_scale=0.001, callback_floor_seconds=60) as engine:
        stage = Stage(engine)
        ways = {str(way): stage.start(way.edge.where, way.edge.state, Run(way.told, way.cause)) for way in WAYS}
        used_up = {
            (where, name): stage.start(
                where, name, Run(state["Retry"][0]["ErrorEquals"][0], failures=state["Retry"][0]["MaxAttempts"] + 1)
            )
            for where, name, state in RETRYING
        }
        stage.play()
        yield Played(ways, used_up)


def test_no_edge_is_left_out(played: Played) -> None:
    taken: dict[Edge, list[str]] = defaultdict(list)
    for way in WAYS:
        if len(played.ways[str(way)].asked) > 1:
            taken[way.edge].append(way.next)
    left_out = sorted(str(edge) for edge in EDGES - taken.keys())
    assert not left_out, f"{len(left_out)} of {len(EDGES)} edges are taken by no test: {left_out}"
    assert taken.keys() == EDGES, "ways are named whose edges are gone"


@pytest.mark.parametrize("way", CATCHES, ids=str)
def test_a_catch_leads_on_with_what_happened(way: Way, played: Played) -> None:
    assert played.followed(way) == (way.next, way.output)


@pytest.mark.parametrize("way", RETRIES, ids=str)
def test_a_retry_asks_the_same_task_the_same_again(way: Way, played: Played) -> None:
    assert played.followed(way) == (way.next, way.output)
    first, second = (asked["token"] for asked in played.ways[str(way)].asked[:2])
    assert first != second


@pytest.mark.parametrize(("where", "name", "state"), RETRYING, ids=[f"{where}/{name}" for where, name, _ in RETRYING])
def test_a_retry_that_is_used_up_is_caught_or_ends_the_execution_at_that_very_task(
    where: str, name: str, state: Mapping[str, Any], played: Played
) -> None:
    run, error, most = (
        played.used_up[where, name],
        state["Retry"][0]["ErrorEquals"][0],
        state["Retry"][0]["MaxAttempts"],
    )
    assert [asked["state"] for asked in run.asked[: most + 1]] == [name] * (most + 1)
    catcher = next((one for one in state.get("Catch", []) if {"States.ALL", error} & set(one["ErrorEquals"])), None)
    if catcher:
        assert run.asked[most + 1]["state"] == catcher["Next"]
    else:
        assert len(run.asked) == most + 1
        assert (run.ended["status"], run.ended["error"]) == ("FAILED", error)
