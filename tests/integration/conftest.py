"""The engines to test against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local.engine import Engine
from tests.integration.cloud import Cloud

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def bridged() -> Iterator[Cloud]:
    """The engine as the project uses it; waits are a hundred times shorter, and callbacks time out after 1 s at most."""
    with Engine(wait_scale=0.01, callback_floor_seconds=1) as engine:
        yield Cloud(engine)


@pytest.fixture(scope="session")
def plain() -> Iterator[Cloud]:
    """The engine as it is, with the same wait scale."""
    with Engine(wait_scale=0.01, bridged=False) as engine:
        yield Cloud(engine)
