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
        """Look at one of this machine's executions. Anything else, as a forged attribute may name it, is absent."""
        prefix = self.state_machine_arn.replace(":stateMachine:", ":execution:") + ":"
        name = name_or_arn.removeprefix(prefix)
        if ":" in name:
            return ExecutionReport(Execution.ABSENT)
        with translated("look at a triage execution"):
            try:
                answer = self.client.describe_execution(executionArn=prefix + name)
            except ClientError as error:
                if code_of(error) in _ABSENT:
                    return ExecutionReport(Execution.ABSENT)
                raise
        output = answer.get("output")
        return ExecutionReport(Execution(answer["status"]), json.loads(output) if output else None)

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
