"""The stack from which permissions are removed, and which of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local.environment import LocalStack
from local.genesys import GenesysStandIn
from tests.iam.grants import removable
from tests.iam.world import FAILURES, World

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The grantee whose permissions ``-m fast`` checks.
FAST = "RedriveFunction"
#: Long enough for a function's cold start.
CALLBACK_SECONDS = 5


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every", type=int, default=1, help="check only every n-th permission")


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """The stack with all mappings disabled, and with every condition met that grants what the engine checks."""
    parameters = {"EnrichmentPolicy": "required", "MaxRetries": "1"}
    with LocalStack(
        parameters=parameters,
        wait_scale=0.0001,
        callback_floor_seconds=CALLBACK_SECONDS,
        genesys=GenesysStandIn(requests_per_minute=100_000),
    ) as stack:
        functions = stack.client("lambda")
        for mapping in functions.list_event_source_mappings()["EventSourceMappings"]:
            functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
        yield World(stack)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per permission, and one per grantee afterwards."""
    chosen = removable()[:: metafunc.config.getoption("--every")]
    if "grant" in metafunc.fixturenames:
        marks = [pytest.mark.fast if grant.grantee == FAST else () for grant in chosen]
        cases = [
            pytest.param(grant, id=" ".join(grant.row), marks=mark) for grant, mark in zip(chosen, marks, strict=True)
        ]
        metafunc.parametrize("grant", cases)
    if "restored" in metafunc.fixturenames:
        metafunc.parametrize("restored", dict.fromkeys(grant.grantee for grant in chosen))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what failed without each permission."""
    failures = config.stash.get(FAILURES, {})
    if failures:
        terminalreporter.section("without this permission, this fails")
        for grant, failure in failures.items():
            terminalreporter.write_line(f"{grant}: {failure}")
