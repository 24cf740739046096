"""Logs and metrics: structured, correlated by event id, without anything of a payload."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from functools import cache

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.shared import constants

#: An event of embedded metrics has at most 256 kB, and an error message 500 characters.
_ERRORS_LIMIT = 10


@cache
def logger() -> Logger:
    """Return the function's logger. Its service name and level come from the environment."""
    return Logger()


@cache
def _metrics(namespace: str) -> Metrics:
    return Metrics(namespace=namespace)


def emit(
    counts: Mapping[str, float],
    *,
    milliseconds: Mapping[str, float] | None = None,
    dimensions: Mapping[str, str] | None = None,
    errors: Mapping[str, int] | None = None,
) -> None:
    """Write one metric record (CloudWatch embedded metric format).

    Counts of zero are not written, because each metric that is written costs money.

    ``errors`` has the number of occurrences by message. The record shows the most frequent ones as a property: a log
    query finds them, and they make no metrics of their own.

    The namespace comes from ``POWERTOOLS_METRICS_NAMESPACE``, so that every stack has its own.
    """
    values = [(name, MetricUnit.Count, value) for name, value in counts.items() if value]
    values += [(name, MetricUnit.Milliseconds, value) for name, value in (milliseconds or {}).items()]
    if not values:
        return
    metrics = _metrics(os.environ.get(constants.METRICS_NAMESPACE_ENV, "Holdfast"))
    for name, text in (dimensions or {}).items():
        metrics.add_dimension(name=name, value=text)
    if errors:
        metrics.add_metadata("errors", dict(Counter(errors).most_common(_ERRORS_LIMIT)))
    for name, unit, value in values:
        metrics.add_metric(name=name, unit=unit, value=value)
    metrics.flush_metrics()
