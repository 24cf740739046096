"""Errors that are not the letter's are retried for longer than a day: they archive, redrive and fail nothing.

The tests walk the real definition with a virtual clock.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any

import pytest

from holdfast.domain.triage import TriageInput
from tests.contract.asl import TaskFailed, Walk, levels
from tests.contract.project import MACHINES, machine, template

HOUR = 3600
DAY = 24 * HOUR
#: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
HISTORY_EVENTS = 25_000
#: TaskScheduled, TaskStarted, TaskSubmitted, TaskFailed.
EVENTS_OF_AN_ATTEMPT = 4
#: A function that cannot start or answer now. The letter has no part in it.
NOT_THE_LETTERS = {
    "Lambda.TooManyRequestsException",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.ClientExecutionTimeoutException",
    "States.Timeout",
    "Sandbox.Timedout",
    "Throttled",
    "Unavailable",
}
#: A wrong permission or a package that cannot be loaded. Classify and Archive wait until it is corrected: the letter
#: must not be archived as unknown, and the execution must not fail.
WRONG_DEPLOYMENT = {"Misconfigured", "Runtime.ImportModuleError"}
#: A worker that died. The letter may be the cause.
CRASHES = {"Lambda.Unknown", "Runtime.ExitError", "Runtime.OutOfMemory", "MemoryError"}
#: After these errors of RedriveFunction nothing was sent: no call of it began, or SQS refused the message.
NOTHING_SENT = {"Lambda.TooManyRequestsException", "Throttled"}

LETTER = {
    "schemaVersion": 2,
    "eventId": "a",
    "messageId": "m1",
    "snapshots": ["dead-letters/a/m1.json"],
    "redrives": 0,
    "firstSentAt": 1_795_426_200_640,
}
RETRY = {"action": "retry", "category": "UNAVAILABLE", "rule": "upstream-unavailable", "schedule": "standard"}
SETTLE = {"action": "settle", "category": "ALREADY_STORED", "rule": "already-stored"}
ARCHIVE = {"action": "archive", "category": "REJECTED", "rule": "rejected-downstream"}
#: The verdicts, and the states that an execution enters.
RECOVERED = (
    [RETRY, SETTLE],
    ["Classify", "Decide", "BackOff", "Redrive", "Classify", "Decide", "SettleRecovered", "Recovered"],
)
ARCHIVED = ([ARCHIVE], ["Classify", "Decide", "Archive", "SettleArchived", "Archived"])


class Clock(Walk):
    """A walk with a virtual clock: waits and retries take their time. ``faults(state, seconds)`` names an error."""

    def __init__(self, verdicts: list[Any], faults: Callable[[str, float], str | None], seed: int = 0) -> None:
        super().__init__(machine("triage"), self._called)
        self.seconds = 0.0
        self.calls: Counter[str] = Counter()
        self._verdicts, self._faults, self._rng = list(verdicts), faults, Random(seed)  # noqa: S311 - no secret

    def advance(self, name: str, data: Any) -> tuple[str | None, Any]:
        if name == "BackOff" or self.definition["States"][name]["Type"] == "Wait":
            self.seconds += data["delaySeconds"]
        return super().advance(name, data)

    def _called(self, name: str, payload: Any) -> Any:
        TriageInput.read(payload)
        left = [retry["MaxAttempts"] for retry in self._retries(name)]
        while error := self._faults(name, self.seconds):
            self.calls[name] += 1
            found = next((n for n, retry in enumerate(self._retries(name)) if error in retry["ErrorEquals"]), None)
            if found is None or not left[found]:
                raise TaskFailed(error)
            retry = self._retries(name)[found]
            self.seconds += self._rng.random() * delay(retry, retry["MaxAttempts"] - left[found])
            left[found] -= 1
        self.calls[name] += 1
        return self._result(name, payload)

    def _retries(self, name: str) -> list[dict[str, Any]]:
        retries: list[dict[str, Any]] = self.definition["States"][name]["Retry"]
        return retries

    def _result(self, name: str, payload: Any) -> Any:
        if name == "Classify":
            return self._verdicts.pop(0)
        return {"key": "k"} if name == "Archive" else {"payload": payload}


def delay(retry: Mapping[str, Any], number: int) -> float:
    """The longest delay before the n-th retry (from 0). Full jitter takes a random part of it."""
    grown = retry["IntervalSeconds"] * float(retry["BackoffRate"]) ** min(number, 100)
    return float(min(retry["MaxDelaySeconds"], grown))


def without(error: str, state: str, seconds: float) -> Callable[[str, float], str | None]:
    """One state fails with this error until the time is over."""
    return lambda name, now: error if name == state and now < seconds else None


def lambda_tasks() -> Iterator[tuple[str, Mapping[str, Any]]]:
    for definition in MACHINES:
        for level in levels(machine(definition), definition):
            for name, state in level.states.items():
                if ":lambda:invoke" in state.get("Resource", ""):
                    yield f"{level.where}/{name}", state


# -- the lists -----------------------------------------------------------------------------------------------------


def test_every_idempotent_task_has_the_same_two_retries() -> None:
    retries = {
        name: state["Retry"]
        for name, state in lambda_tasks()
        if name.startswith("triage/") and name != "triage/Redrive"
    }
    assert len(retries) >= 4
    for name, found in retries.items():
        more = WRONG_DEPLOYMENT if name in ("triage/Classify", "triage/Archive") else set()
        assert [set(retry["ErrorEquals"]) for retry in found] == [NOT_THE_LETTERS | more, CRASHES], name
    delays = {json.dumps([{**retry, "ErrorEquals": []} for retry in found]) for found in retries.values()}
    assert len(delays) == 1


def test_redrive_retries_for_a_day_only_errors_after_which_nothing_was_sent() -> None:
    """Any other error of sending may have sent the message: two more attempts. An outcome is never retried."""
    patient, short = machine("triage")["States"]["Redrive"]["Retry"]
    assert set(patient["ErrorEquals"]) == NOTHING_SENT
    assert set(short["ErrorEquals"]) == (NOT_THE_LETTERS | CRASHES) - NOTHING_SENT - {"States.Timeout"}
    assert short["MaxAttempts"] == 2
    classify = machine("triage")["States"]["Classify"]["Retry"][0]
    assert {**patient, "ErrorEquals": []} == {**classify, "ErrorEquals": []}


# -- the time ------------------------------------------------------------------------------------------------------


def test_the_first_retry_lasts_a_day_whatever_the_jitter_is() -> None:
    """Hoeffding's bound on the sum of the delays, each of them random between zero and its longest."""
    retry = machine("triage")["States"]["Classify"]["Retry"][0]
    assert retry["MaxAttempts"] * retry["MaxDelaySeconds"] >= DAY
    longest = [delay(retry, number) for number in range(retry["MaxAttempts"])]
    margin = sum(longest) / 2 - DAY
    assert margin > 0
    assert math.exp(-2 * margin**2 / sum(seconds**2 for seconds in longest)) < 1e-15


def test_a_day_of_retries_in_several_states_fits_into_the_history() -> None:
    attempts = machine("triage")["States"]["Classify"]["Retry"][0]["MaxAttempts"] + 1
    redrives = template()["Parameters"]["MaxRetries"]["Default"]
    healthy = (redrives + 1) * 20
    assert 10 * attempts * EVENTS_OF_AN_ATTEMPT + healthy < HISTORY_EVENTS


def test_a_throttle_that_ends_is_noticed_within_ten_minutes() -> None:
    assert all(retry["MaxDelaySeconds"] <= 600 for _, state in lambda_tasks() for retry in state["Retry"])


# -- nothing is archived, redriven or failed -----------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [600, 23 * HOUR])
@pytest.mark.parametrize("error", sorted(NOT_THE_LETTERS))
@pytest.mark.parametrize(
    ("state", "case"),
    [
        ("Classify", RECOVERED),
        ("SettleRecovered", RECOVERED),
        ("Classify", ARCHIVED),
        ("Archive", ARCHIVED),
        ("SettleArchived", ARCHIVED),
    ],
    ids=lambda value: value if isinstance(value, str) else value[1][-1],
)
def test_an_error_of_the_service_changes_nothing_but_the_time(
    state: str, case: tuple[list[Any], list[str]], error: str, seconds: int
) -> None:
    verdicts, path = case
    for seed in range(5):
        walk = Clock(verdicts, without(error, state, seconds), seed)
        output = walk.run(dict(LETTER))["payload"]
        assert walk.entered == path
        assert walk.seconds >= seconds
        assert output["redrives"] == path.count("Redrive")
        assert output["verdict"] == verdicts[-1]


@pytest.mark.parametrize("seconds", [600, 23 * HOUR])
@pytest.mark.parametrize("error", sorted(NOTHING_SENT))
def test_a_throttled_redrive_costs_one_redrive_only(error: str, seconds: int) -> None:
    walk = Clock(RECOVERED[0], without(error, "Redrive", seconds))
    output = walk.run(dict(LETTER))["payload"]
    assert walk.entered == RECOVERED[1]
    assert (output["redrives"], output["redriveOutcome"]) == (1, "STORED")


def test_every_function_throttled_by_turns_for_a_day_changes_nothing_but_the_time() -> None:
    def by_turns(name: str, now: float) -> str | None:
        states = ("Classify", "Redrive", "SettleRecovered")
        throttled = now < DAY and name == states[int(now // HOUR) % len(states)]
        return "Lambda.TooManyRequestsException" if throttled else None

    walk = Clock(RECOVERED[0], by_turns)
    assert walk.run(dict(LETTER))["payload"]["outcome"] == "RECOVERED"
    assert walk.entered == RECOVERED[1]


# -- what remains --------------------------------------------------------------------------------------------------


def test_a_throttle_does_not_use_up_the_attempts_after_a_crash() -> None:
    errors = ["Lambda.TooManyRequestsException"] * 20 + ["Runtime.OutOfMemory"] * 6

    def in_turn(name: str, _now: float) -> str | None:
        return errors.pop(0) if name == "Classify" and errors else None

    walk = Clock(RECOVERED[0], in_turn)
    walk.run(dict(LETTER))
    assert walk.entered == RECOVERED[1]


@pytest.mark.parametrize("seconds", [600, 23 * HOUR])
@pytest.mark.parametrize("error", sorted(WRONG_DEPLOYMENT))
@pytest.mark.parametrize("state", ["Classify", "Archive"])
def test_a_wrong_deployment_of_classify_or_archive_changes_nothing_but_the_time(
    state: str, error: str, seconds: int
) -> None:
    walk = Clock(ARCHIVED[0], without(error, state, seconds))
    output = walk.run(dict(LETTER))["payload"]
    assert (walk.entered, output["verdict"]) == (ARCHIVED[1], ARCHIVE)
    assert walk.seconds >= seconds


@pytest.mark.parametrize("error", [*sorted(CRASHES), "KeyError", "SnapshotMissing"])
def test_a_letter_on_which_classify_fails_each_time_is_archived_under_a_rule_of_its_own(error: str) -> None:
    walk = Clock([], without(error, "Classify", math.inf))
    output = walk.run(dict(LETTER))["payload"]
    assert walk.entered == ["Classify", "Archive", "SettleArchived", "Archived"]
    assert output["verdict"]["rule"] == "classify-failed"
    assert walk.calls["Classify"] == (7 if error in CRASHES else 1)
    assert walk.seconds < HOUR


def test_a_letter_whose_event_is_stored_by_then_is_recovered_instead_of_archived() -> None:
    def faults(name: str, _now: float) -> str | None:
        return {"Classify": "KeyError", "Archive": "AlreadyStored"}.get(name)

    walk = Clock([], faults)
    output = walk.run(dict(LETTER))["payload"]
    assert walk.entered == ["Classify", "Archive", "SettleRecovered", "Recovered"]
    assert (output["outcome"], output.get("archive")) == ("RECOVERED", None)
    assert (output["verdict"]["category"], output["verdict"]["rule"]) == ("ALREADY_STORED", "stored-before-archive")
    assert output["verdict"]["evidence"] == {"error": "KeyError"}
