"""Every fixture of events/ through the built artifact, as Lambda would run it: emulator, runtime client, role and all.

The answer, and what the invocation left behind, are those of the file in ``expected/`` beside the fixture.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from local.environment import LocalStack
from local.fixture_setup import expected
from local.runtime_emulator import Emulator
from local.stack import build
from tests.contract.project import FUNCTION_IDS, ROOT, fixtures
from tests.e2e.expectation import known
from tests.e2e.still import StillStack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    #: Takes a fixture; gives the answer and what is there afterwards.
    Invoke = Callable[[Path], tuple[Any, dict[str, list[str]]]]


@pytest.fixture(scope="module")
def invoke(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Invoke]:
    """Invokes a fixture's function; a function stays warm from one of its fixtures to the next."""
    built = build(ROOT, tmp_path_factory.mktemp("built"))
    with LocalStack(built=built) as stack, ExitStack() as warm:
        still = StillStack(stack, built)
        emulators: dict[str, Emulator] = {}

        def invoked(path: Path) -> tuple[Any, dict[str, list[str]]]:
            setup = expected(path).get("setup", {})
            own = setup.get("environment", {})
            name = f"{FUNCTION_IDS[path.parent.name]} {own}"
            if name not in emulators:
                function = still.function(FUNCTION_IDS[path.parent.name])
                function = replace(function, variables={**function.variables, **own})
                emulators[name] = warm.enter_context(Emulator(function))
            still.prepare(setup)
            return emulators[name].invoke(path.read_bytes()), still.leaves()

        yield invoked


@pytest.mark.parametrize("path", fixtures(*FUNCTION_IDS), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_fixture_answers_and_leaves_behind_what_stands_beside_it(path: Path, invoke: Invoke) -> None:
    told = expected(path)
    answer, leaves = invoke(path)
    assert known(answer, told["answer"]) == told["answer"]
    assert known(leaves, told["leaves"]) == told["leaves"]


def test_a_placeholder_stands_for_one_value_and_for_nothing_else() -> None:
    assert known({"a": [1, {"b": 2}], "c": 3}, {"a": ["<one>", {"b": 2}]}) == {"a": ["<one>", {"b": 2}], "c": 3}
    assert known([1, 2], ["<one>"]) == [1, 2]
    assert json.dumps(known({"a": 1}, {})) == '{"a": 1}'
