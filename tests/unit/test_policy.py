"""Properties of every verdict, and the errors of a wrong policy. ``tests/corpus`` has the verdict of each case."""

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


def verdict_of(history: tuple[str, ...] = (), **evidence: Any) -> tuple[str, str]:
    verdict = SHIPPED.judge(Evidence(**{"redrives": len(history), **evidence}), history, LIMITS)
    return verdict.category, verdict.action


def failed(category: str, **more: Any) -> dict[str, Any]:
    return {"last_status": "failed", "last_category": category, **more}


# -- verdicts ------------------------------------------------------------------------------------------------------


def test_a_misconfiguration_uses_the_slow_schedule_and_a_replay_does_not_wait() -> None:
    assert SHIPPED.judge(Evidence(**failed("MISCONFIGURED")), (), LIMITS).schedule == "slow"
    assert SHIPPED.judge(Evidence(replay=True), (), LIMITS).schedule == "now"
    assert SHIPPED.judge(Evidence(), (), LIMITS).schedule == "standard"


EVIDENCE = st.builds(
    Evidence,
    stored=st.booleans(),
    body=st.sampled_from(["EVENT", "MALFORMED", "INVALID"]),
    undelivered=st.booleans(),
    attempt_log=st.sampled_from(["read", "unreadable"]),
    last_status=st.sampled_from([None, "started", "stored", "failed", "deferred", "new"]),
    last_category=st.sampled_from([None, "NEW_CATEGORY", *sorted(CATEGORIES)]),
    retry_after=st.none() | st.floats(0, 1e6),
    dead_lettered=st.booleans(),
    redrive_outcome=st.sampled_from([None, "DEAD_LETTERED_AGAIN", "STORED", "SILENT", "NOT_SENT"]),
    redrives=st.integers(0, 12),
    replay=st.booleans(),
    age_hours=st.floats(0, 1e4),
)


@given(EVIDENCE, st.lists(st.sampled_from(sorted(CATEGORIES)), max_size=9))
def test_any_evidence_has_a_verdict_and_a_stored_event_is_always_settled(
    evidence: Evidence, history: list[str]
) -> None:
    verdict = SHIPPED.judge(evidence, history, LIMITS)
    assert verdict.category in CATEGORIES
    assert verdict.action in ACTIONS
    assert verdict.schedule in SCHEDULES
    assert (verdict.action == "settle") is evidence.stored
    json.dumps(verdict.as_json(), allow_nan=False)


@given(EVIDENCE)
def test_every_event_is_archived_in_the_end(evidence: Evidence) -> None:
    history: list[str] = []
    for redrives in range(10):
        same = replace(evidence, stored=False, redrives=redrives, age_hours=0.0)
        verdict = SHIPPED.judge(same, history, LIMITS)
        if verdict.action == "archive":
            return
        history.append(verdict.category)
    pytest.fail("not archived after ten redrives")


def test_a_verdict_contains_its_rule_and_evidence() -> None:
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


def test_the_hash_of_a_policy_depends_on_its_text() -> None:
    assert SHIPPED.hash == Policy(TEXT).hash != Policy(TEXT + "\n").hash


def test_errors_that_differ_only_in_ids_and_numbers_have_the_same_fingerprint() -> None:
    def fingerprint_of(message: str, error: str = "Unavailable") -> str:
        return fingerprint(Evidence(**failed("UNAVAILABLE", last_error=error, last_message=message)))

    first = fingerprint_of(
        "user 5f1c0a3e-0000-4000-8000-000000000001 at 10.0.0.1 a@example.com 2026-11-23T10:00:00Z http://x/1"
    )
    assert first == fingerprint_of(
        "user 00000000-0000-4000-8000-000000000009 at 192.168.9.77 bob.x@e.org 2027-01-01T23:59:59Z http://y"
    )
    assert first != fingerprint_of("group 5f1c0a3e-0000-4000-8000-000000000001")
    assert fingerprint_of("x") != fingerprint_of("x", "Throttled")


# -- wrong policies ------------------------------------------------------------------------------------------------


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
        (edited(set_in(3, colour="red")), "rule outcome-too-late: unknown key colour"),
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
        (edited(set_in(3, when={"size": "big"})), "evidence has no size"),
        (edited(set_in(3, when={"last_status": "failed"})), "evidence has no last_status"),
        (edited(set_in(3, when={"redrives": {"above": 1}})), "redrives has an unknown comparison"),
        (edited(set_in(3, when={"redrives": {"below": "maxMinutes"}})), "redrives has an unknown comparison"),
        (edited(set_in(3, when={"redrives": {"below": True}})), "redrives has an unknown comparison"),
        (edited(set_in(3, when={"redrives": {"below": None}})), "redrives has an unknown comparison"),
        (edited(set_in(3, when={"redrives": {}})), "redrives has an unknown comparison"),
        (edited(set_in(3, when={"body": {"below": 3}})), "body is not a number"),
        (edited(set_in(3, when={"stored": {"atLeast": 1}})), "stored is not a number"),
        (edited(set_in(3, when={"lastStatus": []})), "lastStatus has an empty list"),
        (edited(set_in(3, when={"lastCategory": "THROTLED_UPSTREAM"})), "lastCategory cannot be 'THROTLED_UPSTREAM'"),
        (edited(set_in(3, when={"lastCategory": ["UNKNOWN", "X"]})), "lastCategory cannot be 'X'"),
        (edited(set_in(3, when={"body": "event"})), "body cannot be 'event'"),
        (edited(set_in(3, when={"lastStatus": "done"})), "lastStatus cannot be 'done'"),
        (edited(set_in(3, when={"redriveOutcome": "LOST"})), "redriveOutcome cannot be 'LOST'"),
        (edited(set_in(3, when={"attemptLog": True})), "attemptLog cannot be True"),
        (edited(set_in(3, when={"redrives": True})), "redrives cannot be True"),
        (edited(set_in(3, when={"ageHours": "maxAgeHours"})), "ageHours cannot be 'maxAgeHours'"),
        (edited(set_in(3, when={"replay": 1})), "replay cannot be 1"),
        (edited(set_in(3, when={"errorCode": 5})), "errorCode cannot be 5"),
        (edited(set_in(3, when={"redrives": None})), "redrives cannot be None"),
        (edited(set_in(3, explanation=5)), "explanation is not text"),
        (edited(lambda rules: rules.append(dict(rules[-1]))), "rule id unknown-archive is used twice"),
        (edited(lambda rules: rules.insert(0, rules.pop(1))), "first rule must be ALREADY_STORED"),
        (edited(set_in(0, when={"stored": False})), "rule already-stored: it settles an event without the condition"),
        (edited(set_in(0, when={"stored": True, "replay": True})), "first rule must be ALREADY_STORED"),
        (edited(set_in(0, action="archive")), "first rule must be ALREADY_STORED"),
        (edited(set_in(0, limit=1)), "first rule must be ALREADY_STORED"),
        (edited(set_in(3, action="settle")), "rule outcome-too-late: it settles an event without the condition"),
        (edited(lambda rules: rules.pop()), "last rule must match everything"),
        (edited(set_in(-1, action="retry")), "last rule must match everything"),
        (edited(set_in(-1, action="settle")), "rule unknown-archive: it settles an event without the condition"),
        (edited(set_in(-1, limit=3)), "last rule must match everything"),
        (edited(set_in(-1, when={"attemptLog": "read"})), "last rule must match everything"),
    ],
)
def test_a_wrong_policy_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(PolicyError, match=reason):
        Policy(text)


def test_an_error_lists_every_reason_with_rule_and_line() -> None:
    text = TEXT.replace('"action": "settle"', '"action": "forget"').replace(
        '"category": "INVALID"', '"category": "ODD"'
    )
    line = next(number for number, line in enumerate(text.splitlines(), 1) if '"invalid-event"' in line)
    with pytest.raises(PolicyError) as caught:
        Policy(text)
    assert f"line {line}, rule invalid-event: its category does not exist" in str(caught.value)
    assert "rule already-stored: its action does not exist" in str(caught.value)


@pytest.mark.parametrize("name", ["retry", "archivé"])
def test_an_error_has_the_line_of_the_rule_with_an_unusual_id(name: str) -> None:
    text = TEXT.replace('"max-age-exceeded"', f'"{name}"').replace('"category": "EXPIRED"', '"category": "ODD"')
    line = next(number for number, line in enumerate(text.splitlines(), 1) if f'"id": "{name}"' in line)
    with pytest.raises(PolicyError, match=f"line {line}, rule {name}: its category does not exist"):
        Policy(text)


def test_a_condition_can_list_several_values() -> None:
    several = {**SHIPPED_RULES[-1], "id": "several", "when": {"lastStatus": ["started", None]}}
    policy = Policy(edited(lambda rules: rules.insert(1, several)))
    matched = [policy.judge(Evidence(last_status=status), (), LIMITS).rule for status in ("started", None, "failed")]
    assert matched[:2] == ["several", "several"]
    assert matched[2] != "several"


def test_a_missing_number_matches_no_comparison() -> None:
    text = edited(
        lambda rules: rules.insert(1, {**rules[-1], "id": "long-wait", "when": {"retryAfter": {"atLeast": 60}}})
    )
    policy = Policy(text)
    assert policy.judge(Evidence(retry_after=60.0), (), LIMITS).rule == "long-wait"
    assert policy.judge(Evidence(retry_after=59.0), (), LIMITS).rule != "long-wait"
    assert policy.judge(Evidence(), (), LIMITS).rule != "long-wait"
