"""Which section of the runbook, ``docs/operations.md``, is about an alarm or a category."""

from __future__ import annotations

import re

from holdfast.domain.categories import Category

_PAGE = "operations.md"
_CATEGORIES = {
    Category.UNAVAILABLE: "a-long-outage",
    Category.THROTTLED_UPSTREAM: "a-long-outage",
    Category.MISCONFIGURED: "misconfigured",
    Category.NEVER_RAN: "processor-throttles",
    Category.CRASHED: "processor-errors",
    Category.UNDELIVERED: "undeliverable",
    Category.UNKNOWN: "letters-given-up",
    Category.EXHAUSTED: "letters-given-up",
    Category.EXPIRED: "letters-given-up",
    Category.UNCONFIRMED: "letters-given-up",
}


def section_of(name: str) -> str:
    """The section about an alarm (its logical id) or a category, for example ``operations.md#buffer-age``."""
    if name in Category.__members__:
        return f"{_PAGE}#{_CATEGORIES.get(Category(name), 'dead-letter')}"
    words = re.findall(r"[A-Z][a-z]+", name.removesuffix("Alarm"))
    return f"{_PAGE}#{'-'.join(words).lower()}"
