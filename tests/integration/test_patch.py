"""An engine patch names the function it wraps and its parameters, so that an engine upgrade cannot change them unseen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from local.engine_patches.patch import EngineChangedError, around


def double(number: int, *, times: int = 2) -> int:
    return number * times


@pytest.fixture
def engine() -> Any:
    return SimpleNamespace(__name__="engine", double=double)


def plus_one(plain: Any, *args: Any, **named: Any) -> Any:
    return plain(*args, **named) + 1


@pytest.mark.parametrize("handlers", [False, True])
def test_a_patch_wraps_the_original(engine: Any, handlers: bool) -> None:
    owner = vars(engine) if handlers else engine
    around(owner, "double", "(number, *, times=2)")(plus_one)
    assert engine.double(3, times=3) == 10


def test_other_parameters_are_an_error_that_names_both(engine: Any) -> None:
    expected = r"engine\.double takes \(number, \*, times=2\), and its patch in .*test_patch was written for \(number\)"
    with pytest.raises(EngineChangedError, match=expected):
        around(engine, "double", "(number)")(plus_one)


def test_a_missing_function_is_an_error_that_names_it(engine: Any) -> None:
    with pytest.raises(EngineChangedError, match=r"engine\.triple does not exist\. Adapt or delete its patch"):
        around(engine, "triple", "(number)")(plus_one)


def test_a_second_patch_of_the_same_function_is_an_error(engine: Any) -> None:
    around(engine, "double", "(number, *, times=2)")(plus_one)
    with pytest.raises(EngineChangedError, match=r"engine\.double is patched by .*test_patch already"):
        around(engine, "double", "(number, *, times=2)")(plus_one)
