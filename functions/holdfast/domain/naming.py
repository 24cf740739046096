"""Names in the two spellings that leave Python: camel case in JSON, capitalised words in metric names."""

from __future__ import annotations


def camel(name: str) -> str:
    """Return ``last_status`` as ``lastStatus``."""
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def capitalised(category: str) -> str:
    """Return ``THROTTLED_UPSTREAM`` as ``ThrottledUpstream``."""
    return "".join(word.capitalize() for word in category.split("_"))
