"""The whole pipeline in memory: the domain code over fakes, and triage as a walk through its definition."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Any

from holdfast.domain.intake import IntakeServices, TriageServices, as_response, take_in
from holdfast.domain.letters import SNAPSHOT_PREFIX, Outgoing
from holdfast.domain.policy import Limits, Policy
from holdfast.domain.ports import ExecutionStatus
from holdfast.domain.processing import ProcessorServices, process_batch
from holdfast.domain.sweep import Sweeper, SweepReport
from holdfast.domain.triage import Archiver, Classifier, Redriver, Settler, TriageInput
from tests.contract.asl import TaskFailed, Walk
from tests.contract.project import machine
from tests.fakes import (
    MACHINE,
    NOW,
    FakeAttemptLog,
    FakeBuffer,
    FakeDeadline,
    FakeEventStore,
    FakeExecutions,
    FakeObjects,
    FakeQueue,
    FakeTriageEvents,
    Journal,
    WorkerCrashed,
)
from tests.unit.samples import record

POLICY = Policy(files("holdfast.domain").joinpath("triage_policy.json").read_text())
DEFINITION = machine("triage")
LIMITS = Limits(max_retries=5, max_age_hours=96)
MOVED = {"DeadLetterQueueSourceArn": "arn:aws:sqs:eu-central-1:123456789012:buffer"}
#: When triage sends its messages: now.
SENT_AT = str(int(NOW.timestamp() * 1000))
Raw = dict[str, Any]
Meanwhile = Callable[[list[Raw]], None]


class Aborted(BaseException):
    """The execution was stopped by hand."""


@dataclass
class World:
    journal: Journal = field(default_factory=Journal)
    limits: Limits = LIMITS

    def __post_init__(self) -> None:
        self.store = FakeEventStore(self.journal)
        self.attempt_log = FakeAttemptLog(self.journal)
        self.objects = FakeObjects(self.journal)
        self.executions = FakeExecutions(self.journal)
        self.queue = FakeQueue(self.journal)
        self.buffer_state = FakeBuffer(self.journal)
        self.triage_events = FakeTriageEvents(self.journal)
        self.tokens = 0
        self.sent_before = 0

    # -- the pipeline --------------------------------------------------------------------------------------------

    @property
    def processing(self) -> ProcessorServices:
        return ProcessorServices(
            store=self.store, attempt_log=self.attempt_log, queue=self.queue, task_tokens=self.executions, enrichment=None,
            backoff_base_seconds=1, backoff_cap_seconds=1,
            clock=lambda: NOW, rng=lambda: 0.5,
        )  # fmt: skip

    @property
    def intake(self) -> IntakeServices:
        return IntakeServices(TriageServices(self.objects, self.executions), self.executions, map)

    def process(self, *records: Raw) -> list[str]:
        """Process a batch. Returns the ids of the messages that were reported as failed."""
        report = process_batch(records, self.processing, FakeDeadline(), "request")
        return [one["itemIdentifier"] for one in report.as_response()["batchItemFailures"]]

    def take_in(self, *letters: Raw) -> list[str]:
        """Take in a batch of dead letters. Returns the ids of the messages that stay in their queue."""
        taken = take_in(letters, self.intake)
        return [one["itemIdentifier"] for one in as_response(taken)["batchItemFailures"]]

    def sweep(self, now: datetime = NOW + timedelta(days=2), deadline: FakeDeadline | None = None) -> SweepReport:
        sweeper = Sweeper(self.intake.triage, self.store)
        return sweeper.sweep(now, timedelta(days=1), deadline or FakeDeadline())

    def sent(self) -> list[Raw]:
        """The messages that triage sent to the buffer since the last call."""
        fresh = [received(out, f"sent-{n}") for n, out in enumerate(self.queue.sent, 1) if n > self.sent_before]
        self.sent_before = len(self.queue.sent)
        return fresh

    # -- triage --------------------------------------------------------------------------------------------------

    def triage(self, name: str, *redrives: Meanwhile, now: datetime = NOW) -> list[str]:
        """Walk an execution to its end and return the states entered; ``redrives`` run while it waits."""
        remaining = list(redrives)

        def answer(state: str, payload: Any) -> Any:
            if state == "Redrive":
                meanwhile = remaining.pop(0) if remaining else self.process_all
                return self.retried(state, lambda: self._redriven(name, TriageInput.read(payload), meanwhile))
            return self.retried(state, lambda: self.step(name, state, payload, now))

        walk = Walk(DEFINITION, answer)
        try:
            output = walk.run(json.loads(json.dumps(self.executions.inputs[name])))
        except Aborted:
            self.executions.waiting.clear()
            self.executions.end(name, ExecutionStatus.ABORTED)
        except TaskFailed:
            self.executions.end(name, ExecutionStatus.FAILED)
        else:
            self.executions.end(name, ExecutionStatus.SUCCEEDED, output)
        self.executions.last_inputs[name] = walk.inputs[-1]
        return walk.entered

    def output(self, name: str) -> Mapping[str, Any]:
        found = self.executions.descriptions[name].output
        assert found is not None
        return found

    def process_all(self, sent: list[Raw]) -> None:
        """Process redriven messages without a failure."""
        assert self.process(*sent) == []

    @staticmethod
    def retried(state: str, step: Callable[[], Any]) -> Any:
        """Apply the state's Retry, without its pauses."""
        left = {
            name: retry["MaxAttempts"]
            for retry in DEFINITION["States"][state]["Retry"]
            for name in retry["ErrorEquals"]
        }
        while True:
            try:
                return step()
            except TaskFailed:
                raise
            except (Exception, WorkerCrashed) as error:
                name = "Lambda.Unknown" if isinstance(error, WorkerCrashed) else type(error).__name__
                if not left.get(name):
                    raise TaskFailed(name) from error
                left[name] -= 1

    def step(self, name: str, state: str, payload: Any, now: datetime) -> Any:
        """Run the domain code behind a state."""
        triage_input = TriageInput.read(payload)
        if state == "Classify":
            classifier = Classifier(self.store, self.attempt_log, self.objects, self.buffer_state, POLICY, self.limits)
            return classifier.classify(triage_input, now).as_json()
        if state == "Archive":
            archiver = Archiver(self.objects, self.attempt_log, self.store, "archive-bucket")
            return archiver.archive(triage_input, payload["verdict"], MACHINE + name, payload["archivedAt"])
        settler = Settler(self.objects, self.objects, self.triage_events)
        output, _ = settler.settle(triage_input, payload["outcome"], payload["verdict"], payload.get("archive"))
        return output

    def _redriven(self, name: str, triage_input: TriageInput, meanwhile: Meanwhile) -> Any:
        """Send and wait. Each attempt has its own token, which is invalid once the attempt has ended."""
        token = self.new_token()
        try:
            Redriver(self.objects, self.queue).redrive(triage_input, MACHINE + name, token)
            meanwhile(self.sent())
        finally:
            self.executions.waiting.discard(token)
        outcome = self.outcome_of(token)
        if outcome is None:
            raise TaskFailed("States.Timeout")
        return self.callback_result(outcome)

    def new_token(self) -> str:
        """A new task token that an execution waits for."""
        self.tokens += 1
        token = f"token-{self.tokens}"
        self.executions.waiting.add(token)
        return token

    def outcome_of(self, token: str) -> Mapping[str, Any] | None:
        """The answer to a token, if there was one."""
        return next((answer for answered, answer in self.executions.answered if answered == token), None)

    @staticmethod
    def callback_result(outcome: Mapping[str, Any]) -> Any:
        """The callback task's result, or its error."""
        if "error" in outcome:
            raise TaskFailed(outcome["error"], json.dumps(outcome["cause"]))
        return {}

    # -- assertions ----------------------------------------------------------------------------------------------

    def keys(self, prefix: str) -> list[str]:
        return [key for key in self.objects.texts if key.startswith(prefix)]

    @property
    def outcomes(self) -> list[str]:
        """The outcomes that triage published: ``Recovered`` or ``Archived``."""
        return [kind.removeprefix("Dead Letter ") for kind, _ in self.triage_events.published]

    def assert_nothing_in_custody(self) -> None:
        """Assert that no execution, task token or snapshot is left."""
        assert self.executions.running == []
        assert self.executions.waiting == set()
        assert self.keys(SNAPSHOT_PREFIX) == []


def received(sent: Outgoing, message_id: str) -> Raw:
    """A sent message as a Lambda record."""
    attributes = {
        name: {"dataType": value["DataType"], "binaryValue": base64.b64encode(value["BinaryValue"]).decode()}
        if "BinaryValue" in value
        else {"dataType": value["DataType"], "stringValue": value["StringValue"]}
        for name, value in sent.message_attributes.items()
    }
    return record(sent.body, message_id, attributes=attributes, system={"SentTimestamp": SENT_AT})


def dead(raw: Raw) -> Raw:
    """The record after SQS has moved the message to the dead-letter queue."""
    return {**raw, "attributes": {**raw["attributes"], **MOVED, "ApproximateReceiveCount": "6"}}
