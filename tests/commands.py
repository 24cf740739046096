"""A stack that answers calls of AWS from a table, and how a command's screen looks at a width."""

from __future__ import annotations

import io
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

OUTPUTS = {
    "EventBusName": "bus",
    "BufferQueueUrl": "https://sqs.eu-west-1.amazonaws.com/123456789012/buffer",
    "DeadLetterQueueUrl": "https://sqs.eu-west-1.amazonaws.com/123456789012/dead-letters",
    "ProcessorFunctionName": "processor",
    "FanOutFunctionName": "fan-out",
    "EventsTableName": "events",
    "AttemptsTableName": "attempts",
    "ArchiveBucketName": "archive",
    "TriageStateMachineArn": "arn:aws:states:eu-west-1:123456789012:stateMachine:triage",
    "ReplayStateMachineArn": "arn:aws:states:eu-west-1:123456789012:stateMachine:replay",
    "CircuitBreakerStateMachineArn": "arn:aws:states:eu-west-1:123456789012:stateMachine:breaker",
    "EnrichedBusName": "enriched",
    "AlarmTopicArn": "arn:aws:sns:eu-west-1:123456789012:alarms",
}


@dataclass
class AnsweringStack:
    """A deployed stack whose clients answer from ``answers``: ``"sqs.get_queue_attributes"`` → an answer or a function.

    ``calls`` counts the calls. An operation without an answer fails the test.
    """

    answers: Mapping[str, Any]
    name: str = "holdfast"
    region: str = "eu-west-1"
    outputs: Mapping[str, str] = field(default_factory=lambda: OUTPUTS)
    calls: Counter[str] = field(default_factory=Counter)

    def client(self, service: str) -> Any:
        return _Client(self, service)

    def call(self, operation: str, positional: tuple[Any, ...], request: Mapping[str, Any]) -> Any:
        self.calls[operation] += 1
        assert operation in self.answers, f"{operation} has no answer"
        answer = self.answers[operation]
        return answer(*positional, **request) if callable(answer) else answer


@dataclass
class _Client:
    stack: AnsweringStack
    service: str

    @property
    def exceptions(self) -> Any:
        return self.stack.answers[f"{self.service}.exceptions"]

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        return lambda *positional, **request: self.stack.call(f"{self.service}.{operation}", positional, request)


def screen_of(shown: RenderableType, width: int = 80) -> str:
    """The screen as text, without the spaces at the ends of its lines."""
    console = Console(file=io.StringIO(), width=width, highlight=False, no_color=True)
    console.print(shown)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()).strip("\n") + "\n"


def assert_screen(shown: RenderableType, name: str) -> None:
    """Compare a screen with ``tests/screens/<name>.txt``, at 80 and at 140 columns. UPDATE_SCREENS=1 writes the file."""
    file = Path(__file__).parent / "screens" / f"{name}.txt"
    found = "\n".join(f"{'-' * width}\n{screen_of(shown, width)}" for width in (80, 140))
    if os.environ.get("UPDATE_SCREENS"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(found)
    assert found == file.read_text(), f"If the screen is right, run the test with UPDATE_SCREENS=1: {file.name}"
