"""A small sample of what ``make fuzz`` throws at every surface: no unhandled exception, no hang, no loss."""

from __future__ import annotations

import pytest

from tests.fuzz import fuzz
from tests.surfaces import SURFACES, Surface

CASES = 50


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: str(surface.name))
def test_nothing_that_comes_in_breaks_a_promise(surface: Surface) -> None:
    assert fuzz(surface, CASES, number=1).total() >= CASES / 2
