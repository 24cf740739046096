"""The policy that ships is one that triage can use."""

from __future__ import annotations

import pytest

from holdfast.domain.categories import VERDICT_CATEGORIES as CATEGORIES
from holdfast.domain.policy import ACTIONS, Evidence, Limits, Policy, PolicyError
from tests.contract.project import FUNCTIONS

TEXT = (FUNCTIONS / "holdfast" / "domain" / "triage_policy.json").read_text()


def test_the_shipped_policy_loads() -> None:
    assert Policy(TEXT).rules


def test_every_category_and_every_action_has_a_rule() -> None:
    rules = Policy(TEXT).rules
    assert {rule.category for rule in rules} == CATEGORIES
    assert {rule.action for rule in rules} == ACTIONS


def test_every_rule_says_in_one_sentence_what_it_means() -> None:
    for rule in Policy(TEXT).rules:
        assert rule.explanation.endswith(".")
        assert len(rule.explanation) < 120


@pytest.mark.parametrize(
    ("category", "limit"), [("CRASHED", 2), ("NEVER_RAN", 3), ("UNKNOWN", 1)], ids=["CRASHED", "NEVER_RAN", "UNKNOWN"]
)
def test_what_may_be_retried_a_few_times_only_is_bounded(category: str, limit: int) -> None:
    bounded = [rule.limit for rule in Policy(TEXT).rules if rule.category == category and rule.limit]
    assert set(bounded) == {limit}


def test_no_letter_is_retried_more_often_than_the_parameter_allows() -> None:
    policy, limits = Policy(TEXT), Limits(max_retries=5, max_age_hours=168)
    for status in (None, "started", "failed", "deferred"):
        for category in (None, *CATEGORIES):
            evidence = Evidence(last_status=status, last_category=category, redrives=5)
            assert policy.judge(evidence, [], limits).action != "retry"


def test_a_list_in_a_condition_means_any_of_these_and_an_empty_one_is_refused() -> None:
    rule = next(rule for rule in Policy(TEXT).rules if isinstance(rule.when.get("lastCategory"), list))
    for category in rule.when["lastCategory"]:
        assert rule.matches(Evidence(last_status="failed", last_category=category), {}, Limits(5, 96))
    assert not rule.matches(Evidence(last_status="failed"), {}, Limits(5, 96))
    with pytest.raises(PolicyError, match=f"rule {rule.id}: lastCategory has an empty list"):
        Policy(TEXT.replace('["MALFORMED", "INVALID"]', "[]"))
