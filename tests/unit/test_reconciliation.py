"""The balance by identity: nothing is counted twice, nothing that is missing goes unseen, and every fault is named."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from local.reconciliation import Archived, Balance, Holdings, Sent, balance
from local.traffic import Expected

VALID = Sent("event-1")
BROKEN = Sent("sha256-1", Expected.MALFORMED, body="{ö")
STORED: dict[str, Any] = {"event-1": {"detail": {"attributes": {}}}}
LETTER = Archived("archive/category=MALFORMED/dt=2026-11-23/x.json", "sha256-1", "MALFORMED", "{ö")


def of(*sent: Sent, **holdings: object) -> Balance:
    return balance(sent, replace(Holdings(), **holdings))  # type: ignore[arg-type]


def test_what_is_where_it_belongs_makes_a_right_balance() -> None:
    result = of(VALID, BROKEN, stored=STORED, archive=(LETTER,))
    assert (result.sent, result.stored, result.archived, result.in_custody) == (2, 1, 1, 0)
    assert result.right
    assert not result.faults


def test_what_is_nowhere_is_lost() -> None:
    result = of(VALID, BROKEN, archive=(LETTER,))
    assert result.lost == ("event-1",)
    assert not result.right


@pytest.mark.parametrize("place", ["buffer", "dead_letters", "evidence"])
def test_what_is_on_its_way_is_not_lost_and_not_at_rest(place: str) -> None:
    holdings = replace(Holdings(), **{place: Counter({"event-1": 2})})  # type: ignore[arg-type]
    result = balance([VALID], holdings)
    assert (result.lost, result.in_custody) == ((), 1)
    assert not result.right
    assert not holdings.at_rest


def test_an_identity_counts_once_stored_before_archived_before_in_custody() -> None:
    letter = replace(LETTER, event_id="event-1")
    everywhere = of(VALID, stored=STORED, archive=(letter,), buffer=Counter({"event-1": 1}))
    assert (everywhere.stored, everywhere.archived, everywhere.in_custody) == (1, 0, 0)
    not_stored = of(VALID, archive=(letter,), buffer=Counter({"event-1": 1}))
    assert (not_stored.stored, not_stored.archived, not_stored.in_custody) == (0, 1, 0)


def test_a_valid_event_in_the_archive_is_a_fault() -> None:
    result = of(VALID, stored=STORED, archive=(replace(LETTER, event_id="event-1"),))
    assert result.faults == ("valid events that were archived: 1 (event-1)",)


def test_a_body_that_is_no_event_has_exactly_one_object() -> None:
    twice = of(BROKEN, archive=(LETTER, replace(LETTER, key="archive/other.json")))
    assert twice.faults == ("bodies that are no event, with 2 objects in the archive instead of one: 1 (sha256-1)",)


def test_a_body_that_is_no_event_and_was_stored_is_a_fault() -> None:
    result = of(BROKEN, archive=(LETTER,), stored={"sha256-1": None})
    assert result.faults == ("bodies that are no event and were stored: 1 (sha256-1)",)


def test_the_archive_has_to_name_the_right_category() -> None:
    result = of(BROKEN, archive=(replace(LETTER, category="INVALID"),))
    assert result.faults == ("letters to be archived as MALFORMED, and the archive says INVALID: 1 (sha256-1)",)


def test_an_archived_body_is_compared_byte_for_byte() -> None:
    result = of(BROKEN, archive=(replace(LETTER, body="{o\u0308"),))
    assert result.faults == ("letters archived with another content than was sent: 1 (sha256-1)",)


def test_what_went_by_the_bus_is_compared_by_its_detail() -> None:
    sent = Sent("event-2", Expected.INVALID, detail={"a": 1})
    letter = Archived("k", "event-2", "INVALID", json.dumps({"id": "event-2", "detail": {"a": 1}}))
    assert of(sent, archive=(letter,)).right
    assert not of(sent, archive=(replace(letter, body='{"detail": {"a": 2}}'),)).right


def test_an_event_of_an_agent_has_to_be_stored_with_the_name() -> None:
    sent = replace(VALID, names_user=True)
    assert of(sent, stored={"event-1": {"detail": {"eventBody": {"userName": "Ada Ito"}}}}).right
    assert of(sent, stored=STORED).faults == ("events stored without the name of the agent they name: 1 (event-1)",)


def test_what_nobody_sent_is_a_fault() -> None:
    assert of(stored=STORED).faults == ("identities that nobody sent: 1 (event-1)",)


def test_executions_that_failed_or_still_run_are_faults() -> None:
    result = of(VALID, stored=STORED, failed=("a",), running=("b", "c"))
    assert result.faults == (
        "executions that ended without an outcome: 1 (a)",
        "executions that still run: 2 (b, c)",
    )


def test_a_fault_of_many_names_the_first_few() -> None:
    sent = [Sent(f"event-{number}") for number in range(9)]
    (fault,) = balance(sent, Holdings()).faults
    assert fault == ("valid events that are not stored: 9 (event-0, event-1, event-2, event-3, event-4, …)")
