"""The categories of failure: one vocabulary for errors, attempt records, triage rules, metrics and archive keys."""

from __future__ import annotations

from enum import StrEnum


class Category(StrEnum):
    """Why an event failed, or how its triage ended. ``docs/triage.md`` explains each one."""

    ALREADY_STORED = "ALREADY_STORED"
    MALFORMED = "MALFORMED"
    INVALID = "INVALID"
    THROTTLED_UPSTREAM = "THROTTLED_UPSTREAM"
    UNAVAILABLE = "UNAVAILABLE"
    REJECTED = "REJECTED"
    MISCONFIGURED = "MISCONFIGURED"
    CRASHED = "CRASHED"
    NEVER_RAN = "NEVER_RAN"
    UNDELIVERED = "UNDELIVERED"
    UNKNOWN = "UNKNOWN"
    EXHAUSTED = "EXHAUSTED"
    EXPIRED = "EXPIRED"
    UNCONFIRMED = "UNCONFIRMED"
    #: The invocation ran out of time before it reached the event. Attempt records have it, verdicts do not.
    DEFERRED = "DEFERRED"


#: The categories that a verdict of triage can have.
VERDICT_CATEGORIES = frozenset(Category) - {Category.DEFERRED}

#: The categories of events for which a retry is useless: what was sent is not an event, or a service refuses the data.
REFUSED = frozenset({Category.MALFORMED, Category.INVALID, Category.REJECTED})

#: The categories of failures that can be over later. If nearly all events fail so, the circuit breaker pauses
#: processing. A deferred event has not failed.
FOR_NOW = frozenset({Category.THROTTLED_UPSTREAM, Category.UNAVAILABLE, Category.MISCONFIGURED, Category.UNKNOWN})
