"""The triage state machine: its executions, and the callbacks of those that wait."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from holdfast.adapters.aws import code_of, translated
from holdfast.adapters.pace import UNPACED, Pace
from holdfast.domain.letters import parse_document
from holdfast.domain.ports import ExecutionDescription, ExecutionStatus

#: https://docs.aws.amazon.com/step-functions/latest/apireference/API_ListExecutions.html
LIST_PAGE = 1_000
#: ValidationException: the text is no token, for example because it is too long. Any producer can write a stamp.
_DEAD_TOKEN = frozenset({"TaskTimedOut", "TaskDoesNotExist", "InvalidToken", "ValidationException"})
_ABSENT = frozenset({"ExecutionDoesNotExist", "InvalidArn", "ValidationException"})


@dataclass(frozen=True, slots=True)
class TriageExecutions:
    """The executions of one state machine. ``describing`` and ``listing`` limit the rate of these calls."""

    client: Any
    state_machine_arn: str
    describing: Pace = UNPACED
    listing: Pace = UNPACED

    def start(self, name: str, execution_input: Mapping[str, Any]) -> bool:
        """Start one. Returns false if an execution with this name exists."""
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

    def describe(self, name_or_arn: str) -> ExecutionDescription:
        """Describe an execution of this state machine. Any other is ``ABSENT``."""
        arn = self._own_arn(name_or_arn)
        if arn is None:
            return ExecutionDescription(ExecutionStatus.ABSENT)
        self.describing.wait()
        with translated("describe a triage execution"):
            try:
                answer = self.client.describe_execution(executionArn=arn)
            except ClientError as error:
                if code_of(error) in _ABSENT:
                    return ExecutionDescription(ExecutionStatus.ABSENT)
                raise
        event_id = parse_document(answer.get("input")).get("eventId")
        return ExecutionDescription(
            ExecutionStatus(answer["status"]), event_id, parse_document(answer.get("output")) or None
        )

    def last_input(self, name_or_arn: str) -> Mapping[str, Any]:
        """Return the input of the last state that an execution of this state machine entered; empty for any other.

        The first event of a history has the execution's input, and every entered state its own:
        https://docs.aws.amazon.com/step-functions/latest/apireference/API_GetExecutionHistory.html
        """
        arn = self._own_arn(name_or_arn)
        if arn is None:
            return {}
        pages = self.client.get_paginator("get_execution_history")
        with translated("read the history of a triage execution"):
            try:
                for page in pages.paginate(executionArn=arn, reverseOrder=True):
                    for event in page["events"]:
                        if found := _input_in(event):
                            return found
            except ClientError as error:
                if code_of(error) not in _ABSENT:
                    raise
        return {}

    def running_names(self) -> Iterator[str]:
        """The names of the running executions, a thousand in a page."""
        pages = self.client.get_paginator("list_executions").paginate(
            stateMachineArn=self.state_machine_arn, statusFilter="RUNNING", PaginationConfig={"PageSize": LIST_PAGE}
        )
        with translated("list the running triage executions"):
            self.listing.wait()
            for page in pages:
                yield from (execution["name"] for execution in page["executions"])
                self.listing.wait()

    def _own_arn(self, name_or_arn: str) -> str | None:
        """The ARN of an execution of this state machine; ``None`` for another's, which a forged stamp may name."""
        prefix = self.state_machine_arn.replace(":stateMachine:", ":execution:") + ":"
        name = name_or_arn.removeprefix(prefix)
        return None if ":" in name else prefix + name


@dataclass(frozen=True, slots=True)
class CallbackTokens:
    """The task tokens of waiting executions."""

    client: Any

    def succeed(self, task_token: str, output: Mapping[str, Any]) -> bool:
        """Report success. Returns false if no execution waits for this token."""
        return self._answer("send_task_success", taskToken=task_token, output=json.dumps(output))

    def fail(self, task_token: str, error: str, cause: Mapping[str, Any]) -> bool:
        """Report a failure. Returns false if no execution waits for this token."""
        return self._answer("send_task_failure", taskToken=task_token, error=error, cause=json.dumps(cause))

    def _answer(self, operation: str, **parameters: str) -> bool:
        with translated("answer a triage execution"):
            try:
                getattr(self.client, operation)(**parameters)
            except ClientError as error:
                if code_of(error) in _DEAD_TOKEN:
                    return False
                raise
        return True


def _input_in(event: Mapping[str, Any]) -> Mapping[str, Any]:
    details = event.get("stateEnteredEventDetails") or event.get("executionStartedEventDetails") or {}
    return parse_document(details.get("input"))
