"""What stands beside a fixture, compared with what came."""

from __future__ import annotations

from typing import Any


def known(found: Any, told: Any) -> Any:
    """What was found, with the placeholders of what was told: ``<a text like this>`` stands for anything."""
    if isinstance(told, str) and told.startswith("<") and told.endswith(">"):
        return told
    if isinstance(told, dict) and isinstance(found, dict):
        return {name: known(value, told.get(name)) for name, value in found.items()}
    if isinstance(told, list) and isinstance(found, list) and len(told) == len(found):
        return [known(one, other) for one, other in zip(found, told, strict=True)]
    return found
