"""Logs and metrics: structured, correlated by letter id, and never with anything of a payload."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

NAMESPACE = "Holdfast"


@cache
def logger() -> Logger:
    """The function's logger; its service name and level come from the environment."""
    return Logger()


def emit(counts: Mapping[str, float], *, dimensions: Mapping[str, str] | None = None) -> None:
    """Write counts as one metric record (CloudWatch embedded metric format). Zeros are left out: they cost the same."""
    told = {name: value for name, value in counts.items() if value}
    if not told:
        return
    metrics = Metrics(namespace=NAMESPACE)
    for name, text in (dimensions or {}).items():
        metrics.add_dimension(name=name, value=text)
    for name, value in told.items():
        metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)
    metrics.flush_metrics()
