"""The deployed stack, once for all end-to-end tests of a session."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from local.environment import LocalStack
from local.eventually import NotReachedError, eventually
from local.genesys import GenesysStandIn
from tests.e2e.controls import Controls
from tests.e2e.pipeline import PARAMETERS, WAIT_SCALE, Pipeline
from tests.e2e.subscribers import Consumer

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--letters", type=int, default=1_000, help="how many dead letters a storm has")


@pytest.fixture
def letters(request: pytest.FixtureRequest) -> int:
    """How many dead letters a storm has."""
    found: int = request.config.getoption("--letters")
    return found


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


@pytest.fixture
def controls(pipeline: Pipeline) -> Iterator[Controls]:
    """An idle stack that can be changed; the changes are undone, and what a failed test left in flight is dropped."""
    made = Controls(pipeline)
    try:
        eventually(made.idle, "earlier tests have left nothing in flight")
    except NotReachedError:
        made.clear()
    yield made
    pipeline.genesys.set_faults(None)
    made.restore()
    if not made.idle():
        made.clear()


@pytest.fixture
def consumer(pipeline: Pipeline) -> Iterator[Consumer]:
    with closing(Consumer(pipeline, "holdfast.events")) as made:
        yield made
