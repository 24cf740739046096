"""The reconciliation counts every event once, finds every missing one, and names every problem."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from ops.reconciliation import ArchivedObject, Expected, Holdings, Reconciliation, SentEvent, reconcile

VALID = SentEvent("event-1")
BROKEN = SentEvent("sha256-1", Expected.MALFORMED, body="{ö")
STORED: dict[str, Any] = {"event-1": {"detail": {"attributes": {}}}}
ARCHIVED = ArchivedObject("archive/category=MALFORMED/dt=2026-11-23/x.json", "sha256-1", "MALFORMED", "{ö")


def of(*sent: SentEvent, **holdings: object) -> Reconciliation:
    return reconcile(sent, replace(Holdings(), **holdings))  # type: ignore[arg-type]


def test_a_reconciliation_passes_if_every_event_is_where_it_must_end() -> None:
    result = of(VALID, BROKEN, stored=STORED, archive=(ARCHIVED,))
    assert (result.sent, result.stored, result.archived, result.in_progress) == (2, 1, 1, 0)
    assert result.passed
    assert not result.problems


def test_an_event_in_no_place_is_lost() -> None:
    result = of(VALID, BROKEN, archive=(ARCHIVED,))
    assert result.lost == ("event-1",)
    assert not result.passed


@pytest.mark.parametrize("place", ["buffer", "dead_letters", "snapshots"])
def test_an_event_in_progress_is_neither_lost_nor_at_its_end(place: str) -> None:
    result = of(VALID, **{place: Counter({"event-1": 2})})
    assert (result.lost, result.in_progress) == ((), 1)
    assert not result.passed


def test_an_event_counts_once_stored_before_archived_before_in_progress() -> None:
    archived = replace(ARCHIVED, event_id="event-1")
    everywhere = of(VALID, stored=STORED, archive=(archived,), buffer=Counter({"event-1": 1}))
    assert (everywhere.stored, everywhere.archived, everywhere.in_progress) == (1, 0, 0)
    not_stored = of(VALID, archive=(archived,), buffer=Counter({"event-1": 1}))
    assert (not_stored.stored, not_stored.archived, not_stored.in_progress) == (0, 1, 0)


def test_a_valid_event_in_the_archive_is_a_problem() -> None:
    result = of(VALID, stored=STORED, archive=(replace(ARCHIVED, event_id="event-1"),))
    assert result.problems == ("valid events that were archived: 1 (event-1)",)


def test_an_invalid_body_must_have_exactly_one_archive_object() -> None:
    twice = of(BROKEN, archive=(ARCHIVED, replace(ARCHIVED, key="archive/other.json")))
    assert twice.problems == ("invalid bodies with 2 archive objects instead of one: 1 (sha256-1)",)


def test_an_invalid_body_must_not_be_stored() -> None:
    result = of(BROKEN, archive=(ARCHIVED,), stored={"sha256-1": None})
    assert result.problems == ("invalid bodies that were stored: 1 (sha256-1)",)


def test_an_invalid_body_must_be_archived_with_its_category() -> None:
    result = of(BROKEN, archive=(replace(ARCHIVED, category="INVALID"),))
    assert result.problems == ("dead letters archived as INVALID that should be archived as MALFORMED: 1 (sha256-1)",)


def test_an_archived_body_is_compared_byte_for_byte() -> None:
    result = of(BROKEN, archive=(replace(ARCHIVED, body="{o\u0308"),))
    assert result.problems == ("dead letters archived with a changed body: 1 (sha256-1)",)


def test_an_event_sent_through_the_bus_is_compared_by_its_detail() -> None:
    sent = SentEvent("event-2", Expected.INVALID, detail={"a": 1})
    archived = ArchivedObject("k", "event-2", "INVALID", json.dumps({"id": "event-2", "detail": {"a": 1}}))
    assert of(sent, archive=(archived,)).passed
    assert not of(sent, archive=(replace(archived, body='{"detail": {"a": 2}}'),)).passed


def test_an_event_of_an_agent_must_be_stored_with_the_name() -> None:
    sent = replace(VALID, names_user=True)
    assert of(sent, stored={"event-1": {"detail": {"eventBody": {"userName": "Ada Ito"}}}}).passed
    assert of(sent, stored=STORED).problems == ("events stored without the agent's name: 1 (event-1)",)


def test_an_event_that_was_never_sent_is_a_problem() -> None:
    assert of(stored=STORED).problems == ("events that were never sent: 1 (event-1)",)


def test_executions_that_failed_or_are_running_are_problems() -> None:
    result = of(VALID, stored=STORED, failed=("a",), running=("b", "c"))
    assert result.problems == (
        "executions that ended without an outcome: 1 (a)",
        "executions still running: 2 (b, c)",
    )


def test_a_problem_lists_the_first_few_of_many_events() -> None:
    sent = [SentEvent(f"event-{number}") for number in range(9)]
    (problem,) = reconcile(sent, Holdings()).problems
    assert problem == ("valid events that are not stored: 9 (event-0, event-1, event-2, event-3, event-4, …)")
