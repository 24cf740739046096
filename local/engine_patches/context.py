"""Which task of which execution this thread works on; the engine does not hand it down to where bridges need it."""

from __future__ import annotations

import contextlib
import contextvars
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Task:
    """The execution (None in TestState) and the context object of the state that is being executed."""

    execution: dict[str, Any] | None
    context: dict[str, Any]


_task: contextvars.ContextVar[Task | None] = contextvars.ContextVar("local_task", default=None)
_token: contextvars.ContextVar[str | None] = contextvars.ContextVar("local_token", default=None)


@contextlib.contextmanager
def working_on(task: Task) -> Iterator[None]:
    """Make this the task of the block."""
    before = _task.set(task)
    try:
        yield
    finally:
        _task.reset(before)


@contextlib.contextmanager
def waiting_for(token: str) -> Iterator[None]:
    """Make this the token for which the block's task waits."""
    before = _token.set(token)
    try:
        yield
    finally:
        _token.reset(before)


def current_task() -> Task | None:
    """The task this thread works on."""
    return _task.get()


def current_execution() -> dict[str, Any] | None:
    """The execution this thread works on."""
    task = _task.get()
    return task.execution if task else None


def current_token() -> str | None:
    """The task token this thread's task waits for."""
    return _token.get()
