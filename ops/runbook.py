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


#: Sections about the failures of functions. The first one fits whose function and message are part of the log line's.
_FUNCTIONS = (
    ("processor", "users not looked up", "enrichment-errors"),
    ("processor", "", "processor-errors"),
    ("fan-out", "set aside", "items-set-aside"),
    ("fan-out", "", "fan-out-failure"),
    ("dead-letter-intake", "", "dead-letter-intake"),
    ("evidence-sweep", "", "snapshot-age"),
    ("replay", "", "replay-after-a-fix"),
    ("", "", "triage-failed"),
)


def section_about(function: str, message: str, category: str) -> str:
    """The section about a line that a function logged."""
    if category:
        return section_of(category)
    found = next(name for one, text, name in _FUNCTIONS if one in ("", function) and text in message)
    return f"{_PAGE}#{found}"


def section_of(name: str) -> str:
    """The section about an alarm (its logical id) or a category, for example ``operations.md#buffer-age``."""
    if name in Category.__members__:
        return f"{_PAGE}#{_CATEGORIES.get(Category(name), 'dead-letter')}"
    words = re.findall(r"[A-Z][a-z]+", name.removesuffix("Alarm"))
    return f"{_PAGE}#{'-'.join(words).lower()}"
