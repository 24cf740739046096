"""One fixture of every function with ``sam local invoke``, in the container that a developer gets.

The tests need a Docker engine (``.ci/docker`` starts one on a throw-away machine) and AWS's base image, and are skipped
otherwise. ``test_invocation.py`` runs every fixture without Docker.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from local.docker import IMAGE, Docker, address, has_image
from local.environment import LocalStack
from local.errors import LocalError
from local.expectation import wildcards
from local.fixture_setup import expected
from local.stack import build
from tests.contract.project import EVENTS, FUNCTION_IDS, ROOT
from tests.e2e.idle_stack import IdleStack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIXTURES = [
    "processor/mixed-batch",
    "fan_out/stream-batch",
    "dead_letter_intake/exhausted",
    "classify/throttled",
    "redrive/first-redrive",
    "archive/exhausted",
    "settle/recovered",
    "evidence_sweep/by-hand",
    "replay/plan-dry-run",
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        address()
    except LocalError:
        pytest.skip("not run in Docker: no engine answers here (.ci/docker starts one on a throw-away machine)")
    if not has_image():
        pytest.skip(f"not run in Docker: {IMAGE} is missing and cannot be pulled")
    return build(ROOT, tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def stack(built: Path) -> Iterator[IdleStack]:
    with LocalStack(built=built) as local:
        yield IdleStack(local, built)


@pytest.mark.parametrize("fixture", FIXTURES)
def test_a_function_in_its_container_has_the_expected_answer_and_effects(
    fixture: str, stack: IdleStack, built: Path
) -> None:
    path = EVENTS / f"{fixture}.json"
    logical_id = FUNCTION_IDS[path.parent.name]
    setup, wanted = expected(path).get("setup", {}), wildcards(expected(path))
    stack.prepare(setup)
    function = stack.function(logical_id)
    function = replace(function, variables={**function.variables, **setup.get("environment", {})})
    with Docker(function, logical_id, built) as docker:
        assert docker.invoke(path.read_bytes()) == wanted["answer"]
    assert stack.effects() == wanted["leaves"]


def test_every_function_has_one_fixture_in_docker() -> None:
    # The only fixture of the circuit breaker looks at the mapping; test_invocation.py runs it.
    assert sorted(fixture.partition("/")[0] for fixture in FIXTURES) == sorted(
        FUNCTION_IDS.keys() - {"circuit_breaker"}
    )
