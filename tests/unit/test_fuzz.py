"""A small sample of the cases of ``make fuzz`` for every surface."""

from __future__ import annotations

import pytest

from tests.fuzz import fuzz
from tests.surfaces import SURFACES, Surface

CASES = 50


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: str(surface.name))
def test_no_input_breaks_a_promise(surface: Surface) -> None:
    assert fuzz(surface, CASES, number=1).total() >= CASES / 2


def test_replays_that_are_planned_are_among_the_cases() -> None:
    (surface,) = (one for one in SURFACES if one.name == "replay inputs")
    assert fuzz(surface, CASES, number=1).keys() >= {"done", "InvalidInput"}
