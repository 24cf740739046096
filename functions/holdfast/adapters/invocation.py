"""The deadline and the clock of an invocation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


def now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class InvocationDeadline:
    """The time that an invocation has left for work: ``reserved_seconds`` of it are kept for what comes after."""

    context: Any
    reserved_seconds: float

    def remaining(self) -> float:
        """Seconds left for work."""
        return float(self.context.get_remaining_time_in_millis()) / 1000 - self.reserved_seconds
