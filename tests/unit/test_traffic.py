"""The synthetic burst is what it claims to be: every topic, every kind of nonsense, and each body as bad as expected."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import UTC, datetime

import pytest

from holdfast.domain.envelope import examine, identify
from holdfast.domain.errors import HoldfastError
from local.traffic import (
    OUTAGE_FROM,
    OUTAGE_TO,
    BusEvent,
    Expected,
    Item,
    QueueBody,
    SecondCopy,
    burst,
    envelope,
)

NOW = datetime(2026, 11, 23, 19, tzinfo=UTC)
EVENT_ID = "7a4c1c9e-2f0b-4b8e-9d5e-0f1a2b3c4d5e"


def plan(count: int = 600, seed: int = 1) -> list[Item]:
    return burst(count, random.Random(seed), NOW)  # noqa: S311 - no secret


def body(item: BusEvent | QueueBody) -> str:
    if isinstance(item, QueueBody):
        return item.text
    return json.dumps(envelope(EVENT_ID, item.detail_type, item.detail, NOW))


def judged(text: str) -> Expected:
    """Where the product's own decoder would send this body."""
    try:
        examine(text)
    except HoldfastError as error:
        return Expected(f"archived as {error.category}")
    return Expected.STORED


@pytest.mark.parametrize("count", [500, 600, 2_000])
def test_a_burst_has_as_many_deliveries_as_were_asked_for(count: int) -> None:
    assert len(plan(count)) == count


def test_the_same_seed_makes_the_same_burst() -> None:
    assert plan(seed=7) == plan(seed=7)
    assert plan(seed=7) != plan(seed=8)


def test_every_item_is_as_good_or_bad_as_it_is_expected_to_be() -> None:
    for item in plan():
        if not isinstance(item, SecondCopy):
            assert judged(body(item)) is item.expected


def test_a_burst_mixes_topics_the_plain_shape_copies_and_both_kinds_of_nonsense() -> None:
    items = plan()
    topics = {item.detail_type for item in items if isinstance(item, BusEvent) and item.expected is Expected.STORED}
    assert len(topics) >= 9
    assert "Conversation Survey" in topics
    kinds = Counter(type(item) if isinstance(item, SecondCopy) else item.expected for item in items)
    assert kinds[Expected.STORED] >= 500
    assert min(kinds[Expected.MALFORMED], kinds[Expected.INVALID], kinds[SecondCopy]) >= 5


def test_each_body_that_goes_straight_to_the_queue_is_an_identity_of_its_own() -> None:
    bodies = [item.text for item in plan() if isinstance(item, QueueBody)]
    assert len({identify(text)[0] for text in bodies}) == len(bodies)


def test_a_copy_never_comes_before_there_is_something_to_copy() -> None:
    items = plan()
    first_copy = next(place for place, item in enumerate(items) if isinstance(item, SecondCopy))
    valid = [item for item in items[:first_copy] if isinstance(item, BusEvent) and item.expected is Expected.STORED]
    assert len(valid) >= 10


def test_an_event_names_a_user_exactly_where_the_product_finds_one() -> None:
    for item in plan():
        if isinstance(item, BusEvent) and item.expected is Expected.STORED:
            assert item.names_user == bool(examine(body(item)).references)


def test_the_outage_meets_agents_who_were_not_seen_before() -> None:
    items = plan()
    before, during = (
        {
            reference.user_id
            for item in part
            if isinstance(item, BusEvent) and item.expected is Expected.STORED
            for reference in examine(body(item)).references
        }
        for part in (
            items[: int(OUTAGE_FROM * len(items))],
            items[int(OUTAGE_FROM * len(items)) : int(OUTAGE_TO * len(items))],
        )
    )
    assert len(during - before) >= 5


def test_ten_events_fit_into_one_request() -> None:
    sizes = sorted(len(body(item)) for item in plan(2_000) if isinstance(item, BusEvent))
    assert sum(sizes[-10:]) < 256_000
    assert sizes[-1] > 8_000
