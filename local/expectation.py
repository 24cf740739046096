"""What a file in ``events/*/expected/`` describes, in a form that compares equal to what it allows."""

from __future__ import annotations

from typing import Any
from unittest.mock import ANY


def wildcards(expected: Any) -> Any:
    """Replace each placeholder, a text like ``<a timestamp>``, by an object that equals everything."""
    if isinstance(expected, str) and expected.startswith("<") and expected.endswith(">"):
        return ANY
    if isinstance(expected, dict):
        return {name: wildcards(value) for name, value in expected.items()}
    if isinstance(expected, list):
        return [wildcards(value) for value in expected]
    return expected
