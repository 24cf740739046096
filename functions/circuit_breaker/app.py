"""CircuitBreakerFunction: decides each step of a circuit breaker execution, and probes the processor."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from holdfast.adapters.aws import client, invoking_client
from holdfast.adapters.circuit_breaker import CircuitBreakerExecutions, ProcessorProbe
from holdfast.adapters.invocation import now
from holdfast.adapters.mapping import EventSourceMapping
from holdfast.adapters.settings import Settings
from holdfast.adapters.sqs import BufferConsumer
from holdfast.adapters.telemetry import emit, logger
from holdfast.domain.circuit_breaker import BreakerInput, CircuitBreaker, NextStep
from holdfast.domain.errors import InvalidInput

#: Longer than the timeout of the processor (30 s).
PROCESSOR_READ_TIMEOUT_SECONDS = 40


@dataclass(frozen=True, slots=True)
class CircuitBreakerSettings(Settings):
    """The environment of CircuitBreakerFunction."""

    processor_function_name: str
    processor_mapping_id: str
    buffer_queue_url: str
    buffer_queue_arn: str
    circuit_breaker_failure_percent: int
    circuit_breaker_max_hours: int


def lambda_handler(
    event: Mapping[str, Any], _context: Any, *, services: CircuitBreaker | None = None
) -> dict[str, Any]:
    """Decide the next step of an execution.

    Args:
        event: ``action`` (``inspect``, ``check`` or ``confirm``), ``execution`` (its ARN), ``startedAt``, ``manual``,
            ``openedAt``, ``waitSeconds``, ``probes``. ``reason`` is not used.
        _context: The Lambda context (unused).
        services: Replaces the production services in tests.

    Returns:
        ``step``: what the state machine does next. ``outcome`` if the execution ends. ``waitSeconds``,
        ``delaySeconds``, ``nextProbeAt``, ``probes`` and ``probe`` if it waits.

    Raises:
        InvalidInput: The input cannot be used.
    """
    breaker, services = BreakerInput.read(event), services or production()
    decide = {"inspect": services.inspect, "check": services.check, "confirm": services.confirm}.get(
        str(event.get("action"))
    )
    if decide is None:
        raise InvalidInput("the action must be inspect, check or confirm")
    decided = decide(breaker)
    report(breaker, decided, services.hours_open(breaker), services.max_hours)
    return decided


def report(breaker: BreakerInput, decided: Mapping[str, Any], hours_open: float, max_hours: int) -> None:
    """Log a step. While processing is paused, count for how long: alarms and the dashboard read it."""
    logger().info("circuit breaker", extra=dict(decided))
    if decided["step"] in {NextStep.OPEN, NextStep.WAIT}:
        emit(
            {
                "ProcessingPaused": 1,
                "CircuitOpen": 0 if breaker.execution.manual else 1,
                "CircuitOpenHours": hours_open,
                "CircuitOpenPercentOfMaxHours": 100 * hours_open / max_hours,
            }
        )


@cache
def production() -> CircuitBreaker:
    """The services of this execution environment."""
    settings = CircuitBreakerSettings.from_env()
    return CircuitBreaker(
        mapping=EventSourceMapping(client("lambda"), settings.processor_mapping_id),
        executions=CircuitBreakerExecutions(client("stepfunctions")),
        prober=ProcessorProbe(
            BufferConsumer(client("sqs"), settings.buffer_queue_url),
            settings.buffer_queue_arn,
            invoking_client(PROCESSOR_READ_TIMEOUT_SECONDS),
            settings.processor_function_name,
        ),
        failure_percent=settings.circuit_breaker_failure_percent,
        max_hours=settings.circuit_breaker_max_hours,
        clock=now,
        rng=random.random,
    )
