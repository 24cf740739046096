"""The deployed stack, once for all end-to-end tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local.environment import LocalStack
from local.genesys import GenesysStandIn
from tests.e2e.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Quick waits, so that minutes of patience take seconds here; what decides is the same.
PARAMETERS = {
    "EnrichmentPolicy": "required",
    "MaxConcurrency": "4",
    "BatchWindowSeconds": "1",
    "BackoffBaseSeconds": "1",
    "BackoffCapSeconds": "1",
    "RetryBaseSeconds": "120",
    "MaxRetries": "3",
}
WAIT_SCALE = 0.01


@pytest.fixture(scope="session")
def deployed() -> Iterator[LocalStack]:
    genesys = GenesysStandIn(requests_per_minute=100_000)
    with LocalStack(parameters=PARAMETERS, wait_scale=WAIT_SCALE, genesys=genesys, callback_floor_seconds=15) as stack:
        yield stack


@pytest.fixture
def pipeline(deployed: LocalStack) -> Iterator[Pipeline]:
    """The stack, with a healthy Genesys before and after each test."""
    deployed.genesys.set_faults(None)
    yield Pipeline(deployed)
    deployed.genesys.set_faults(None)
