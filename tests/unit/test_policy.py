"""Every verdict follows from evidence, by the first rule that matches; a wrong policy is refused as a whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.categories import VERDICT_CATEGORIES as CATEGORIES
from holdfast.domain.policy import ACTIONS, SCHEDULES, Evidence, Limits, Policy, PolicyError, fingerprint

TEXT = files("holdfast.domain").joinpath("triage_policy.json").read_text()
SHIPPED = Policy(TEXT)
SHIPPED_RULES = json.loads(TEXT)["rules"]
LIMITS = Limits(max_retries=5, max_age_hours=96)


def judged(history: tuple[str, ...] = (), **evidence: Any) -> tuple[str, str]:
    verdict = SHIPPED.judge(Evidence(**{"redrives": len(history), **evidence}), history, LIMITS)
    return verdict.category, verdict.action


def failed(category: str, **more: Any) -> dict[str, Any]:
    return {"last_status": "failed", "last_category": category, **more}


# -- the design's table --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("evidence", "category", "action"),
    [
        ({"stored": True}, "ALREADY_STORED", "settle"),
        ({"body": "MALFORMED"}, "MALFORMED", "archive"),
        ({"body": "INVALID"}, "INVALID", "archive"),
        (failed("THROTTLED_UPSTREAM"), "THROTTLED_UPSTREAM", "retry"),
        (failed("UNAVAILABLE"), "UNAVAILABLE", "retry"),
        ({"last_status": "deferred", "last_category": "DEFERRED"}, "UNAVAILABLE", "retry"),
        (failed("REJECTED"), "REJECTED", "archive"),
        (failed("MISCONFIGURED"), "MISCONFIGURED", "retry"),
        ({"last_status": "started"}, "CRASHED", "retry"),
        ({"dead_lettered": True}, "NEVER_RAN", "retry"),
        ({"undelivered": True, "error_code": "SDK_CLIENT_ERROR"}, "UNDELIVERED", "retry"),
        ({}, "UNKNOWN", "retry"),
        (failed("UNKNOWN"), "UNKNOWN", "retry"),
        (failed("NEVER_HEARD_OF"), "UNKNOWN", "retry"),
        ({"last_status": "stored"}, "UNKNOWN", "retry"),
        ({"undelivered": True, "last_status": "failed", "last_category": "UNAVAILABLE"}, "UNKNOWN", "archive"),
        ({"replay": True, "redrives": 1, "redrive_outcome": "NOT_SENT"}, "UNKNOWN", "archive"),
        ({"dead_lettered": True, "attempt_log": "unreadable"}, "UNKNOWN", "retry"),
        ({"redrive_outcome": "SILENT", "redrives": 1}, "UNCONFIRMED", "archive"),
        ({"redrive_outcome": "STORED", "redrives": 1}, "UNKNOWN", "archive"),
        (failed("UNAVAILABLE", age_hours=96.0), "EXPIRED", "archive"),
        (failed("UNAVAILABLE", redrives=5), "EXHAUSTED", "archive"),
        ({"replay": True}, "UNKNOWN", "retry"),
        (
            {"replay": True, "redrives": 1, "redrive_outcome": "DEAD_LETTERED_AGAIN", **failed("UNAVAILABLE")},
            "EXHAUSTED",
            "archive",
        ),
        (
            {"replay": True, "redrives": 1, "redrive_outcome": "DEAD_LETTERED_AGAIN", **failed("REJECTED")},
            "REJECTED",
            "archive",
        ),
    ],
)
def test_each_category_follows_from_its_evidence(evidence: dict[str, Any], category: str, action: str) -> None:
    assert judged(**evidence) == (category, action)


@pytest.mark.parametrize(
    ("evidence", "limit", "category"),
    [
        ({"last_status": "started"}, 2, "CRASHED"),
        ({"last_status": "deferred"}, 3, "UNAVAILABLE"),
        ({"dead_lettered": True}, 3, "NEVER_RAN"),
        ({}, 1, "UNKNOWN"),
    ],
)
def test_a_category_has_so_many_rounds_and_no_more(evidence: dict[str, Any], limit: int, category: str) -> None:
    assert judged((category,) * (limit - 1), **evidence) == (category, "retry")
    assert judged((category,) * limit, **evidence) != (category, "retry")


def test_a_letter_whose_workers_keep_dying_ends_as_crashed() -> None:
    assert judged(("CRASHED", "CRASHED"), last_status="started") == ("CRASHED", "archive")


def test_a_letter_that_never_runs_goes_on_as_unknown() -> None:
    assert judged(("NEVER_RAN",) * 3, dead_lettered=True) == ("UNKNOWN", "retry")
    assert judged((*("NEVER_RAN",) * 3, "UNKNOWN"), dead_lettered=True) == ("UNKNOWN", "archive")


def test_what_nobody_knows_is_retried_once_and_then_archived_for_a_person() -> None:
    assert judged() == ("UNKNOWN", "retry")
    assert judged(("UNKNOWN",)) == ("UNKNOWN", "archive")


def test_a_different_error_after_a_retry_is_judged_anew() -> None:
    assert judged(("CRASHED", "CRASHED"), **failed("UNAVAILABLE")) == ("UNAVAILABLE", "retry")


def test_a_misconfiguration_waits_on_the_slow_schedule_and_a_replay_not_at_all() -> None:
    assert SHIPPED.judge(Evidence(**failed("MISCONFIGURED")), (), LIMITS).schedule == "slow"
    assert SHIPPED.judge(Evidence(replay=True), (), LIMITS).schedule == "now"
    assert SHIPPED.judge(Evidence(), (), LIMITS).schedule == "standard"


@pytest.mark.parametrize(("redrives", "action"), [(4, "retry"), (5, "archive"), (6, "archive")])
def test_the_template_s_number_of_retries_is_the_bound(redrives: int, action: str) -> None:
    assert judged(**failed("UNAVAILABLE", redrives=redrives))[1] == action


@pytest.mark.parametrize(("hours", "action"), [(95.9, "retry"), (96.0, "archive")])
def test_the_template_s_age_is_the_bound(hours: float, action: str) -> None:
    assert judged(**failed("UNAVAILABLE", age_hours=hours))[1] == action


EVIDENCE = st.builds(
    Evidence,
    stored=st.booleans(),
    body=st.sampled_from(["EVENT", "MALFORMED", "INVALID"]),
    undelivered=st.booleans(),
    attempt_log=st.sampled_from(["read", "unreadable"]),
    last_status=st.sampled_from([None, "started", "stored", "failed", "deferred", "new"]),
    last_category=st.sampled_from([None, "NEVER_HEARD_OF", *sorted(CATEGORIES)]),
    retry_after=st.none() | st.floats(0, 1e6),
    dead_lettered=st.booleans(),
    redrive_outcome=st.sampled_from([None, "DEAD_LETTERED_AGAIN", "STORED", "SILENT", "NOT_SENT"]),
    redrives=st.integers(0, 12),
    replay=st.booleans(),
    age_hours=st.floats(0, 1e4),
)


@given(EVIDENCE, st.lists(st.sampled_from(sorted(CATEGORIES)), max_size=9))
def test_any_evidence_has_a_verdict_and_a_stored_event_always_settles(evidence: Evidence, history: list[str]) -> None:
    verdict = SHIPPED.judge(evidence, history, LIMITS)
    assert verdict.category in CATEGORIES
    assert verdict.action in ACTIONS
    assert verdict.schedule in SCHEDULES
    assert (verdict.action == "settle") is evidence.stored
    json.dumps(verdict.as_json(), allow_nan=False)


@given(EVIDENCE)
def test_no_letter_is_retried_for_ever(evidence: Evidence) -> None:
    history: list[str] = []
    for redrives in range(10):
        same = replace(evidence, stored=False, redrives=redrives, age_hours=0.0)
        verdict = SHIPPED.judge(same, history, LIMITS)
        if verdict.action == "archive":
            return
        history.append(verdict.category)
    pytest.fail("ten rounds and no end")


# -- the verdict ---------------------------------------------------------------------------------------------------


def test_a_verdict_shows_its_evidence_and_its_rule() -> None:
    evidence = Evidence(
        **failed("THROTTLED_UPSTREAM", last_error="Throttled", last_message="m", retry_after=120.0), redrives=1
    )
    verdict = SHIPPED.judge(evidence, ["UNKNOWN"], LIMITS).as_json()
    assert verdict.keys() == {
        "category", "rule", "action", "schedule", "explanation", "retryAfterSeconds", "fingerprint", "policy", "evidence",
    }  # fmt: skip
    assert verdict["rule"] == "upstream-throttled"
    assert verdict["retryAfterSeconds"] == 120.0
    assert verdict["evidence"] == {
        "body": "EVENT",
        "attemptLog": "read",
        "lastStatus": "failed",
        "lastCategory": "THROTTLED_UPSTREAM",
        "lastError": "Throttled",
        "lastMessage": "m",
        "retryAfter": 120.0,
        "redrives": 1,
    }


def test_the_policy_s_hash_changes_with_its_text() -> None:
    assert SHIPPED.hash == Policy(TEXT).hash != Policy(TEXT + "\n").hash


def test_the_same_error_has_the_same_fingerprint_whatever_its_ids_and_numbers_are() -> None:
    def print_of(message: str, error: str = "Unavailable") -> str:
        return fingerprint(Evidence(**failed("UNAVAILABLE", last_error=error, last_message=message)))

    first = print_of(
        "user 5f1c0a3e-0000-4000-8000-000000000001 at 10.0.0.1 a@example.com 2026-11-23T10:00:00Z http://x/1"
    )
    assert first == print_of(
        "user 00000000-0000-4000-8000-000000000009 at 192.168.9.77 bob.x@e.org 2027-01-01T23:59:59Z http://y"
    )
    assert first != print_of("group 5f1c0a3e-0000-4000-8000-000000000001")
    assert print_of("x") != print_of("x", "Throttled")


# -- what a policy has to be ---------------------------------------------------------------------------------------


def test_the_shipped_policy_loads_and_every_rule_says_something() -> None:
    assert len(SHIPPED.rules) > 10
    assert all(rule.explanation.endswith(".") for rule in SHIPPED.rules)
    assert {rule.category for rule in SHIPPED.rules} == CATEGORIES


def edited(edit: Callable[[list[Any]], Any]) -> str:
    data = json.loads(TEXT)
    edit(data["rules"])
    return json.dumps(data, indent=1)


def set_in(index: int, **values: Any) -> Callable[[list[Any]], Any]:
    return lambda rules: rules[index].update(values)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "line 1: not JSON"),
        ("9" * 5_000, "not JSON that Python can read"),
        ("[" * 5_000, "not JSON"),
        ('{\n"rules": [,]}', "line 2: not JSON"),
        ("[]", "a policy must be an object"),
        ("null", "a policy must be an object"),
        ("{}", "a policy must be an object"),
        ('{"schemaVersion": 2, "rules": []}', "schemaVersion must be 1"),
        ('{"schemaVersion": 1, "rules": {}}', "rules must be a list"),
        ('{"schemaVersion": 1, "rules": []}', "first rule"),
        (edited(lambda rules: rules.insert(3, "text")), "rule 4: it has no id"),
        (edited(lambda rules: rules[3].pop("id")), "rule 4: it has no id"),
        (edited(set_in(3, id=7)), "rule 4: it has no id"),
        (edited(set_in(3, colour="red")), "rule redrive-unconfirmed: unknown key colour"),
        (edited(lambda rules: rules[3].pop("explanation")), "no explanation"),
        (edited(lambda rules: rules[3].pop("when")), "no when"),
        (edited(set_in(3, category="WRONG")), "category does not exist"),
        (edited(set_in(3, category=["UNKNOWN"])), "category does not exist"),
        (edited(set_in(3, action="ignore")), "action does not exist"),
        (edited(set_in(3, action={})), "action does not exist"),
        (edited(set_in(3, schedule="soon")), "schedule does not exist"),
        (edited(set_in(3, schedule=[])), "schedule does not exist"),
        (edited(set_in(3, limit=0)), "limit is not a positive"),
        (edited(set_in(3, limit=True)), "limit is not a positive"),
        (edited(set_in(3, limit="2")), "limit is not a positive"),
        (edited(set_in(3, when=[])), "when is not an object"),
        (edited(set_in(3, when={"mood": "bad"})), "evidence has no mood"),
        (edited(set_in(3, when={"last_status": "failed"})), "evidence has no last_status"),
        (edited(set_in(3, when={"redrives": {"above": 1}})), "redrives has an unknown comparison"),
        (edited(set_in(3, when={"redrives": {"below": "maxPatience"}})), "redrives has an unknown comparison"),
        (edited(set_in(3, when={"redrives": {"below": True}})), "redrives has an unknown comparison"),
        (edited(set_in(3, when={"redrives": {"below": None}})), "redrives has an unknown comparison"),
        (edited(set_in(3, when={"redrives": {}})), "redrives has an unknown comparison"),
        (edited(set_in(3, when={"body": {"below": 3}})), "body is not a number"),
        (edited(set_in(3, when={"stored": {"atLeast": 1}})), "stored is not a number"),
        (edited(set_in(3, when={"lastStatus": []})), "lastStatus has an empty list"),
        (edited(lambda rules: rules.append(dict(rules[-1]))), "rule id unknown-archive is used twice"),
        (edited(lambda rules: rules.insert(0, rules.pop(1))), "first rule must be ALREADY_STORED"),
        (edited(set_in(0, when={"stored": False})), "first rule must be ALREADY_STORED"),
        (edited(lambda rules: rules.pop()), "last rule must match everything"),
        (edited(set_in(-1, action="retry")), "last rule must match everything"),
        (edited(set_in(-1, limit=3)), "last rule must match everything"),
        (edited(set_in(-1, when={"attemptLog": "read"})), "last rule must match everything"),
    ],
)
def test_a_wrong_policy_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(PolicyError, match=reason):
        Policy(text)


def test_a_refusal_names_the_line_of_the_rule_and_every_reason() -> None:
    text = TEXT.replace('"action": "settle"', '"action": "forget"').replace(
        '"category": "INVALID"', '"category": "ODD"'
    )
    line = next(number for number, line in enumerate(text.splitlines(), 1) if '"invalid-event"' in line)
    with pytest.raises(PolicyError) as caught:
        Policy(text)
    assert f"line {line}, rule invalid-event: its category does not exist" in str(caught.value)
    assert "rule already-stored: its action does not exist" in str(caught.value)


def test_a_condition_can_name_several_values() -> None:
    several = {**SHIPPED_RULES[-1], "id": "several", "when": {"lastStatus": ["started", None]}}
    policy = Policy(edited(lambda rules: rules.insert(1, several)))
    matched = [policy.judge(Evidence(last_status=status), (), LIMITS).rule for status in ("started", None, "failed")]
    assert matched[:2] == ["several", "several"]
    assert matched[2] != "several"


def test_a_number_that_is_not_there_is_neither_below_nor_above_anything() -> None:
    text = edited(
        lambda rules: rules.insert(1, {**rules[-1], "id": "patient", "when": {"retryAfter": {"atLeast": 60}}})
    )
    policy = Policy(text)
    assert policy.judge(Evidence(retry_after=60.0), (), LIMITS).rule == "patient"
    assert policy.judge(Evidence(retry_after=59.0), (), LIMITS).rule != "patient"
    assert policy.judge(Evidence(), (), LIMITS).rule != "patient"
