"""The synthetic traffic contains every topic and every kind of invalid body, each with the expected outcome."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import UTC, datetime

import pytest

from holdfast.domain.envelope import Event, examine
from local.traffic import (
    OUTAGE_FROM,
    OUTAGE_TO,
    BusEvent,
    Item,
    QueueBody,
    SecondCopy,
    burst,
    envelope,
)
from ops.reconciliation import Expected

NOW = datetime(2026, 11, 23, 19, tzinfo=UTC)
EVENT_ID = "7a4c1c9e-2f0b-4b8e-9d5e-0f1a2b3c4d5e"


def plan(count: int = 600, seed: int = 1) -> list[Item]:
    return burst(count, random.Random(seed), NOW)  # noqa: S311 - no secret


def body(item: BusEvent | QueueBody) -> str:
    if isinstance(item, QueueBody):
        return item.text
    return json.dumps(envelope(EVENT_ID, item.detail_type, item.detail, NOW))


def outcome(text: str) -> Expected:
    """Where the product would put this body."""
    kind = examine(text).kind
    return Expected.STORED if kind == "EVENT" else Expected(f"archived as {kind}")


def users(item: BusEvent) -> set[str]:
    """The users that the product finds in an event."""
    content = examine(body(item)).content
    return {reference.id for reference in content.references()} if isinstance(content, Event) else set()


@pytest.mark.parametrize("count", [500, 2_000])
def test_a_burst_has_the_requested_number_of_deliveries_and_depends_on_the_seed(count: int) -> None:
    assert len(plan(count, seed=7)) == count
    assert plan(count, seed=7) == plan(count, seed=7)
    assert plan(count, seed=7) != plan(count, seed=8)


def test_every_item_has_the_outcome_that_is_expected_of_it() -> None:
    for item in plan():
        if not isinstance(item, SecondCopy):
            assert outcome(body(item)) is item.expected


def test_a_burst_mixes_topics_the_plain_shape_copies_and_both_kinds_of_invalid_bodies() -> None:
    items = plan()
    topics = {item.detail_type for item in items if isinstance(item, BusEvent) and item.expected is Expected.STORED}
    assert len(topics) >= 9
    assert "Conversation Survey" in topics
    kinds = Counter(type(item) if isinstance(item, SecondCopy) else item.expected for item in items)
    assert kinds[Expected.STORED] >= 500
    assert min(kinds[Expected.MALFORMED], kinds[Expected.INVALID], kinds[SecondCopy]) >= 5


def test_each_body_that_goes_straight_to_the_queue_has_its_own_event_id() -> None:
    bodies = [item.text for item in plan() if isinstance(item, QueueBody)]
    assert len({examine(text).event_id for text in bodies}) == len(bodies)


def test_a_copy_comes_after_the_events_that_it_may_copy() -> None:
    items = plan()
    first_copy = next(place for place, item in enumerate(items) if isinstance(item, SecondCopy))
    valid = [item for item in items[:first_copy] if isinstance(item, BusEvent) and item.expected is Expected.STORED]
    assert len(valid) >= 10


def test_an_event_names_a_user_exactly_if_the_product_finds_one() -> None:
    for item in plan():
        if isinstance(item, BusEvent) and item.expected is Expected.STORED:
            assert item.names_user == bool(users(item))


def test_events_of_the_outage_name_agents_who_were_not_seen_before() -> None:
    items = plan()
    begins, ends = int(OUTAGE_FROM * len(items)), int(OUTAGE_TO * len(items))
    before, during = (
        {user for item in part if isinstance(item, BusEvent) for user in users(item)}
        for part in (items[:begins], items[begins:ends])
    )
    assert len(during - before) >= 5


def test_in_a_total_outage_every_event_names_an_agent_who_was_not_seen_before() -> None:
    items = burst(600, random.Random(1), NOW, new_agent_every=1)  # noqa: S311 - no secret
    begins, ends = int(OUTAGE_FROM * len(items)), int(OUTAGE_TO * len(items))
    before = {user for item in items[:begins] if isinstance(item, BusEvent) for user in users(item)}
    # Copies and invalid bodies move the borders by a few places.
    during = [item for item in items[begins + 20 : ends - 20] if isinstance(item, BusEvent)]
    assert all(users(item) - before for item in during if item.expected is Expected.STORED)


def test_ten_events_fit_into_one_request() -> None:
    sizes = sorted(len(body(item)) for item in plan(2_000) if isinstance(item, BusEvent))
    assert sum(sizes[-10:]) < 256_000
    assert sizes[-1] > 8_000
