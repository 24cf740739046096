"""The engines to test against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local.engine import Engine
from tests.integration.cloud import Cloud

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def patched() -> Iterator[Cloud]:
    """The engine with its patches. Waits take a hundredth of their time, and callbacks time out after at most 1 s."""
    with Engine(wait_scale=0.01, callback_floor_seconds=1) as engine:
        yield Cloud(engine)


@pytest.fixture(scope="session")
def plain() -> Iterator[Cloud]:
    """The engine without patches, with the same wait scale."""
    with Engine(wait_scale=0.01, patched=False) as engine:
        yield Cloud(engine)
