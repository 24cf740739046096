"""Every fixture of events/ through the built artifact as Lambda runs it: runtime emulator, runtime client and role.

The answer and the effects are those of the file in ``expected/`` beside the fixture.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from local.environment import LocalStack
from local.expectation import wildcards
from local.fixture_setup import expected
from local.runtime_emulator import Emulator
from local.stack import build
from tests.contract.project import FUNCTION_IDS, ROOT, fixtures
from tests.e2e.idle_stack import IdleStack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    #: Takes a fixture; gives the answer and the effects.
    Invoke = Callable[[Path], tuple[Any, dict[str, list[str]]]]


@pytest.fixture(scope="module")
def invoke(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Invoke]:
    """Invokes a fixture's function; a function stays warm from one of its fixtures to the next."""
    built = build(ROOT, tmp_path_factory.mktemp("built"))
    with LocalStack(built=built) as local, ExitStack() as warm:
        stack = IdleStack(local, built)
        emulators: dict[str, Emulator] = {}

        def invoked(path: Path) -> tuple[Any, dict[str, list[str]]]:
            setup = expected(path).get("setup", {})
            own = setup.get("environment", {})
            name = f"{FUNCTION_IDS[path.parent.name]} {own}"
            if name not in emulators:
                function = stack.function(FUNCTION_IDS[path.parent.name])
                function = replace(function, variables={**function.variables, **own})
                emulators[name] = warm.enter_context(Emulator(function))
            stack.prepare(setup)
            return emulators[name].invoke(path.read_bytes()), stack.effects()

        yield invoked


@pytest.mark.parametrize("path", fixtures(*FUNCTION_IDS), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_fixture_has_the_expected_answer_and_effects(path: Path, invoke: Invoke) -> None:
    answer, effects = invoke(path)
    wanted = wildcards(expected(path))
    assert answer == wanted["answer"]
    assert effects == wanted["leaves"]


def test_a_placeholder_equals_one_value_and_nothing_else() -> None:
    wanted = wildcards({"a": ["<one>", {"b": 2}]})
    assert wanted == {"a": [1, {"b": 2}]}
    assert wanted != {"a": [1, {"b": 2}], "c": 3}
    assert wildcards(["<one>"]) != [1, 2]
