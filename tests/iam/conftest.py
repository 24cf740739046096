"""The stack on which permissions are taken away, and how many of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local.environment import LocalStack
from local.genesys import GenesysStandIn
from tests.iam.grants import grants
from tests.iam.world import SEEN, World

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Long enough for a function's first answer; what a probe waits for comes at once.
CALLBACK_SECONDS = 5


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every", type=int, default=1, help="take away only every n-th permission")


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """The stack, with every condition of the template met and all mappings at rest."""
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
    """One test per permission, and one for whom any was taken from; what is denied is not: it would only widen."""
    allowed = [grant for grant in grants() if not grant.action.startswith("Deny ")]
    asked = allowed[:: metafunc.config.getoption("--every")]
    if "grant" in metafunc.fixturenames:
        metafunc.parametrize("grant", asked, ids=lambda grant: " ".join(grant.row))
    if "robbed" in metafunc.fixturenames:
        metafunc.parametrize("robbed", dict.fromkeys(grant.who for grant in asked))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tell what was seen without each permission."""
    seen = config.stash.get(SEEN, {})
    if seen:
        terminalreporter.section("without this permission, this does not hold any more")
        for grant, what in seen.items():
            terminalreporter.write_line(f"{grant}: {what}")
