"""The invocation: its deadline, its clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class InvocationDeadline:
    """The time that Lambda leaves for work, ``reserve_seconds`` of it kept for reporting."""

    context: Any
    reserve_seconds: float

    def remaining(self) -> float:
        """Seconds left for work."""
        return float(self.context.get_remaining_time_in_millis()) / 1000 - self.reserve_seconds
