"""The triage state machine, from outside: starting and looking at executions, and answering the ones that wait."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from holdfast.adapters.aws import code_of, translated
from holdfast.domain.ports import Execution, ExecutionReport

_NOBODY_WAITS = frozenset({"TaskTimedOut", "TaskDoesNotExist", "InvalidToken"})
_ABSENT = frozenset({"ExecutionDoesNotExist", "InvalidArn", "ValidationException"})


@dataclass(frozen=True, slots=True)
class TriageExecutions:
    """Executions of one state machine. ``state_machine_arn`` is empty where only answers are given."""

    client: Any
    state_machine_arn: str = ""

    def start(self, name: str, execution_input: Mapping[str, Any]) -> bool:
        """Start one; false if the name is taken."""
        with translated("start triage"):
            try:
                self.client.start_execution(
                    stateMachineArn=self.state_machine_arn, name=name, input=json.dumps(execution_input)
                )
            except ClientError as error:
                if code_of(error) == "ExecutionAlreadyExists":
                    return False
                raise
        return True

    def describe(self, name_or_arn: str) -> ExecutionReport:
        """Look at one of this machine's executions. Anything else is absent."""
        arn = self._own_arn(name_or_arn)
        if arn is None:
            return ExecutionReport(Execution.ABSENT)
        with translated("look at a triage execution"):
            try:
                answer = self.client.describe_execution(executionArn=arn)
            except ClientError as error:
                if code_of(error) in _ABSENT:
                    return ExecutionReport(Execution.ABSENT)
                raise
        event_id = _object(answer.get("input")).get("eventId")
        return ExecutionReport(Execution(answer["status"]), event_id, _object(answer.get("output")) or None)

    def last_input(self, name_or_arn: str) -> Mapping[str, Any]:
        """What the last state that it entered was given; empty for an execution that is not this machine's, or gone.

        https://docs.aws.amazon.com/step-functions/latest/apireference/API_GetExecutionHistory.html: the first event has
        the execution's input, and every entered state its own.
        """
        arn = self._own_arn(name_or_arn)
        if arn is None:
            return {}
        pages = self.client.get_paginator("get_execution_history")
        with translated("read a triage execution's history"):
            try:
                for page in pages.paginate(executionArn=arn, reverseOrder=True):
                    for event in page["events"]:
                        if given := _input_in(event):
                            return given
            except ClientError as error:
                if code_of(error) not in _ABSENT:
                    raise
        return {}

    def _own_arn(self, name_or_arn: str) -> str | None:
        """The ARN of one of this machine's executions; ``None`` for another's, as a forged attribute may name it."""
        prefix = self.state_machine_arn.replace(":stateMachine:", ":execution:") + ":"
        name = name_or_arn.removeprefix(prefix)
        return None if ":" in name else prefix + name

    def succeed(self, task_token: str, output: Mapping[str, Any]) -> bool:
        """Wake a waiting execution; false if nobody waits any more."""
        return self._answer("send_task_success", taskToken=task_token, output=json.dumps(output))

    def fail(self, task_token: str, error: str, cause: Mapping[str, Any]) -> bool:
        """Wake a waiting execution with a failure; false if nobody waits any more."""
        return self._answer("send_task_failure", taskToken=task_token, error=error, cause=json.dumps(cause))

    def _answer(self, operation: str, **parameters: str) -> bool:
        with translated("answer a triage execution"):
            try:
                getattr(self.client, operation)(**parameters)
            except ClientError as error:
                if code_of(error) in _NOBODY_WAITS:
                    return False
                raise
        return True


def _input_in(event: Mapping[str, Any]) -> Mapping[str, Any]:
    details = event.get("stateEnteredEventDetails") or event.get("executionStartedEventDetails") or {}
    return _object(details.get("input"))


def _object(text: str | None) -> Mapping[str, Any]:
    data = json.loads(text or "null")
    return data if isinstance(data, dict) else {}
