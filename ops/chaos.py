"""``holdfast verify --chaos``: what happens to events while the processor is throttled and an execution is aborted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from ops.checks import CheckResult, Finding
from ops.deployed import execution_arn
from ops.synthetic import Expectation, Observation, SyntheticEvent, Trial, finding_not_checked

ALARM = "TriageFailedAlarm"
THROTTLED_SECONDS = 60.0
_CAUSE = "holdfast verify --chaos"


@dataclass
class ChaosTrial(Trial):
    """A trial that throttles the processor to zero for a minute, and aborts a triage execution in that time.

    Both are undone: the concurrency is set to what it was, and the sweep takes over the aborted execution. It is done
    only if every check of the trial itself has passed.
    """

    _removable_statuses: frozenset[str] = frozenset({"SUCCEEDED", "ABORTED"})
    _resumed: datetime | None = None
    _swept: bool = False

    def _send_and_check(self) -> list[Finding]:
        findings = super()._send_and_check()
        failed = [one.name for one in findings if one.result in {CheckResult.FAIL, CheckResult.UNREADABLE}]
        if failed:
            reason = f"nothing was disturbed, because of {', '.join(failed)}"
            return [*findings, finding_not_checked("chaos", "Events survive chaos", reason)]
        with self._without_actions(ALARM, "aborted-alarm") as disturbed:
            waiting, letter = self._valid_event("throttled"), self._valid_event("aborted")
            disturbed += [
                self._while_throttled(waiting, letter),
                *map(self._wait_for, self._expectations_after(waiting, letter)),
            ]
        return findings + disturbed

    def _while_throttled(self, waiting: SyntheticEvent, letter: SyntheticEvent) -> Finding:
        """Send both events while the processor is throttled, and abort the execution of the letter."""
        with self._throttled_processor():
            self._to_buffer(waiting)
            self._send("DeadLetterQueueUrl", letter, ERROR_CODE="VERIFY")
            self.sleep(THROTTLED_SECONDS)
            found = self._finding(
                "throttled", "A throttled processor stores nothing", lambda: self._abort(waiting, letter)
            )
        self._resumed = datetime.now(UTC)
        return found

    @contextmanager
    def _throttled_processor(self) -> Iterator[None]:
        """Set the concurrency of the processor to zero, and after that to what it was."""
        functions, processor = (
            self.stack.client("lambda"),
            {"FunctionName": self.stack.outputs["ProcessorFunctionName"]},
        )
        before = functions.get_function_concurrency(**processor).get("ReservedConcurrentExecutions")
        functions.put_function_concurrency(**processor, ReservedConcurrentExecutions=0)
        try:
            yield
        finally:
            if before is None:
                functions.delete_function_concurrency(**processor)
            else:
                functions.put_function_concurrency(**processor, ReservedConcurrentExecutions=before)

    def _abort(self, waiting: SyntheticEvent, letter: SyntheticEvent) -> Observation:
        name = next(self._executions_of(letter), None)
        if name is None:
            return Observation("", "no triage execution was started for the dead letter")
        self.stack.client("stepfunctions").stop_execution(executionArn=execution_arn(self.stack, name), cause=_CAUSE)
        stored = self._item(waiting) or self._item(letter)
        return Observation("nothing stored", "an event was stored, although the concurrency was zero" if stored else "")

    def _expectations_after(self, waiting: SyntheticEvent, letter: SyntheticEvent) -> list[Expectation]:
        return [
            Expectation(
                "throttled-stored", "An event that waited meanwhile is stored", lambda: self._check_stored(waiting)
            ),
            Expectation(
                "aborted-recovered", "The sweep takes over an aborted execution", lambda: self._check_taken_over(letter)
            ),
        ]

    def _check_taken_over(self, letter: SyntheticEvent) -> Observation | None:
        """Start the sweep once, without its minimum age, and look whether the event of the letter is stored."""
        if not self._swept:
            self.stack.client("lambda").invoke(
                FunctionName=self.declared.resource("EvidenceSweepFunction").name,
                Payload=json.dumps({"olderThanHours": 0}),
            )
            self._swept = True
        running = [name for name in self._executions_of(letter) if self._describe(name)["status"] == "RUNNING"]
        return None if running else self._check_stored(letter)

    def _sent_at(self) -> datetime:
        return self._resumed or super()._sent_at()

    def _seconds(self) -> float:
        """A message that Lambda received while it was throttled is invisible for the visibility timeout."""
        if self._resumed is None:
            return super()._seconds()
        buffer = self.declared.properties(self.declared.resource("BufferQueue"))
        return super()._seconds() + float(buffer["VisibilityTimeout"])
