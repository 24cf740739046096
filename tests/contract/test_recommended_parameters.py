"""The template accepts the values that docs/performance.md recommends, and the model uses the defaults of the template."""

from __future__ import annotations

from benchmarks.capacity import System
from benchmarks.scenarios import LONG_BUFFERING, SCALES
from tests.contract.parameters import accepts
from tests.contract.project import ROOT, template


def test_the_defaults_of_the_model_are_those_of_the_template() -> None:
    system = System()
    defaults = {name: parameter.get("Default") for name, parameter in template()["Parameters"].items()}
    assert {
        "MaxConcurrency": system.concurrency,
        "BatchSize": system.batch_size,
        "BatchWindowSeconds": system.batch_window,
        "MaxReceiveCount": system.max_receives,
        "BackoffBaseSeconds": system.backoff_base,
        "BackoffCapSeconds": system.backoff_cap,
        "RetryBaseSeconds": system.retry_base,
        "RetryCapSeconds": system.retry_cap,
        "MaxRetries": system.max_retries,
    }.items() <= defaults.items()


def test_the_template_accepts_the_recommended_values_and_the_page_lists_them() -> None:
    parameters, page = template()["Parameters"], (ROOT / "docs" / "performance.md").read_text()
    for recommended in (LONG_BUFFERING, *(scale.parameters for scale in SCALES)):
        assert all(accepts(parameters[name], value) for name, value in recommended.items())
        assert all(f"`{name}={value}`" in page for name, value in recommended.items())
