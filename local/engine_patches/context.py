"""Which task of which execution a thread works on. The engine does not pass this on to where the patches need it."""

from __future__ import annotations

import contextlib
import contextvars
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Task:
    """The execution (None in TestState) and the context object of the current state."""

    execution: dict[str, Any] | None
    context: dict[str, Any]

    @property
    def token(self) -> str | None:
        """The token that a callback task waits for."""
        token: str | None = self.context.get("Task", {}).get("Token")
        return token


_task: contextvars.ContextVar[Task | None] = contextvars.ContextVar("task", default=None)


@contextlib.contextmanager
def working_on(task: Task) -> Iterator[None]:
    """Make this the task of the block."""
    before = _task.set(task)
    try:
        yield
    finally:
        _task.reset(before)


def current_task() -> Task | None:
    """The task this thread works on."""
    return _task.get()


def current_execution() -> dict[str, Any] | None:
    """The execution this thread works on."""
    task = _task.get()
    return task.execution if task else None
