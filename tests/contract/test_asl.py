"""The state machines: graphs, error names, delays, and the paths through triage."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from holdfast.domain.errors import HoldfastError, TransientError
from holdfast.domain.letters import _MAX_REDRIVES
from holdfast.domain.policy import ACTIONS, SCHEDULES
from holdfast.domain.triage import TriageInput
from tests.contract.asl import EXECUTION, Level, TaskFailed, Walk, evaluate, levels
from tests.contract.project import FUNCTIONS, MACHINES, functions, machine, machine_text, template, values

SUBSTITUTION = re.compile(r"\$\{(\w+)\}")
#: Errors of the Lambda service, of workers that crash and of workers that time out:
#: https://docs.aws.amazon.com/step-functions/latest/dg/sfn-best-practices.html and concepts-error-handling.html.
LAMBDA_ERRORS = {
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.Unknown",
    "Sandbox.Timedout",
    "Runtime.ExitError",
    "Runtime.OutOfMemory",
    "MemoryError",  # Python's own, if an allocation fails before Lambda ends the worker
}
#: Errors of Step Functions when a state machine starts an execution.
STEP_FUNCTIONS_ERRORS = {
    "StepFunctions.ThrottlingException",
    "StepFunctions.StepFunctionsException",
    "StepFunctions.SdkClientException",
}
#: Errors that last until an operator acts. Classify and Archive retry them, because they would archive the letter as
#: unknown or fail. Redrive catches them; Settle fails with them and can be redriven.
NEEDS_AN_OPERATOR = {"Misconfigured", "Runtime.ImportModuleError"}
#: The error that the intake sends to a waiting execution.
SENT_BY_INTAKE = {"DeadLetteredAgain"}
BASE, CAP = 120, 21_600


def leaf_names(kind: type[HoldfastError]) -> set[str]:
    below = kind.__subclasses__()
    return set().union(*map(leaf_names, below)) if below else {kind.__name__}


def all_levels() -> list[Level]:
    return [level for name in MACHINES for level in levels(machine(name), name)]


def all_states(kind: str | None = None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for level in all_levels():
        for name, state in level.states.items():
            if kind in (None, state["Type"]):
                yield f"{level.where}/{name}", state


def triage(name: str) -> Mapping[str, Any]:
    state: Mapping[str, Any] = machine("triage")["States"][name]
    return state


def retry_choice(samples: dict[str, str] | None = None) -> Mapping[str, Any]:
    """The choice of Decide that leads to BackOff."""
    (found,) = [one for one in machine("triage", samples)["States"]["Decide"]["Choices"] if one["Next"] == "BackOff"]
    return found


def dead_lettered_again() -> Mapping[str, Any]:
    """The catcher of Redrive for ``DeadLetteredAgain``."""
    (found,) = [one for one in triage("Redrive")["Catch"] if one["ErrorEquals"] == ["DeadLetteredAgain"]]
    return found


def retry_names(state: Mapping[str, Any]) -> set[str]:
    return {error for retry in state.get("Retry", []) for error in retry["ErrorEquals"]}


def catch_names(state: Mapping[str, Any]) -> set[str]:
    return {error for catcher in state.get("Catch", []) for error in catcher["ErrorEquals"]}


# ------------------------------------------------------------------ the files


@pytest.mark.parametrize(
    ("name", "logical_id"),
    [
        ("triage", "TriageStateMachine"),
        ("replay", "ReplayStateMachine"),
        ("circuit_breaker", "CircuitBreakerStateMachine"),
    ],
)
def test_a_definition_is_valid_json_with_the_substitutions_that_the_template_defines(
    name: str, logical_id: str
) -> None:
    text = MACHINES[name].read_text()
    assert json.loads(text)["Comment"]
    assert "arn:aws" not in text
    properties = template()["Resources"][logical_id]["Properties"]
    assert properties["DefinitionUri"] == f"statemachine/{name}.asl.json"
    assert set(SUBSTITUTION.findall(text)) == properties["DefinitionSubstitutions"].keys()
    assert not SUBSTITUTION.findall(machine_text(name))


# ------------------------------------------------------------------ the graph


@pytest.mark.parametrize("level", all_levels(), ids=lambda level: level.where)
def test_every_state_is_reachable_and_leads_to_an_end(level: Level) -> None:
    targets = {target for name in level.states for target in level.edges(name)} | {level.start}
    assert targets <= level.states.keys()
    assert level.reachable(level.start) == level.states.keys()
    for name, state in level.states.items():
        assert level.ends(name) or "Next" in state or "Default" in state, name
        assert any(level.ends(reached) for reached in level.reachable(name)), name


def test_there_is_no_fail_state() -> None:
    """An execution that ended in a Fail state cannot be redriven: it would fail again."""
    assert not list(all_states("Fail"))


def test_every_task_has_a_timeout_and_a_comment() -> None:
    for name, state in all_states("Task"):
        assert state.get("TimeoutSeconds"), name
        assert state["Comment"].endswith("."), name


def test_the_timeout_of_a_task_exceeds_the_timeout_of_its_function() -> None:
    timeouts = {
        f"arn:aws:lambda:us-east-1:123456789012:function:{name.removesuffix('Function').lower()}": found["Timeout"]
        for name, found in functions().items()
    }
    for name, state in all_states("Task"):
        called = state["Arguments"].get("FunctionName")
        if called and isinstance(state["TimeoutSeconds"], int):
            assert state["TimeoutSeconds"] > timeouts[called], name


# ------------------------------------------------------------------ errors


def test_every_transient_error_is_retried_unless_it_needs_an_operator() -> None:
    expected = LAMBDA_ERRORS | (leaf_names(TransientError) - NEEDS_AN_OPERATOR)
    for name, state in all_states("Task"):
        if name.startswith("circuit_breaker/"):
            # An execution that ends while processing is paused would leave it paused.
            assert "States.ALL" in retry_names(state), name
        elif ":lambda:invoke" in state["Resource"]:
            waits = state["Resource"].endswith(".waitForTaskToken")
            more = NEEDS_AN_OPERATOR if name in ("triage/Classify", "triage/Archive") else set()
            assert retry_names(state) == expected | more | (set() if waits else {"States.Timeout"}), name
        elif name == "triage/BackOff":
            # Without its token the letter waits as long, so nothing is retried.
            assert "States.ALL" in catch_names(state)
        else:
            assert retry_names(state) == STEP_FUNCTIONS_ERRORS, name
    assert leaf_names(TransientError) & NEEDS_AN_OPERATOR == {"Misconfigured"}


def test_every_error_name_exists() -> None:
    known = LAMBDA_ERRORS | STEP_FUNCTIONS_ERRORS | SENT_BY_INTAKE | NEEDS_AN_OPERATOR | leaf_names(HoldfastError)
    known |= {"States.ALL", "States.Timeout", "StepFunctions.ExecutionAlreadyExistsException", "ExecutionAlreadyExists"}
    known |= {"Lambda.ResourceNotFoundException"}
    for name, state in all_states():
        assert retry_names(state) | catch_names(state) <= known, name


def test_decide_supports_every_action_and_schedule_of_the_policy() -> None:
    text = json.dumps(triage("Decide"))
    assert set(re.findall(r"verdict\.action = '(\w+)'", text)) == ACTIONS
    assert set(re.findall(r"verdict\.schedule = '(\w+)'", text)) | {"standard"} == SCHEDULES


def test_the_outcomes_of_a_redrive_are_those_that_the_policy_tests() -> None:
    outcomes = set(re.findall(r"'redriveOutcome': '(\w+)'", json.dumps(triage("Redrive"))))
    assert outcomes == {"STORED", "DEAD_LETTERED_AGAIN", "SILENT", "NOT_SENT"}
    policy = (FUNCTIONS / "holdfast/domain/triage_policy.json").read_text()
    assert set(re.findall(r'"redriveOutcome": "(\w+)"', policy)) <= outcomes


# ------------------------------------------------------------------ the delay of a retry


def delay(redrives: int, *, rng: float = 0.5, schedule: str = "standard", **more: Any) -> int:
    """The delay in seconds that Decide computes."""
    verdict = {"action": "retry", "category": "UNAVAILABLE", "schedule": schedule, "retryAfterSeconds": 0, **more}
    states = {"input": {"eventId": "a", "snapshots": ["k"], "redrives": redrives, "verdict": verdict}}
    output = evaluate(retry_choice()["Output"], states, rng)
    assert output["redrives"] == redrives + 1
    seconds = output["delaySeconds"]
    assert isinstance(seconds, int), "Step Functions accepts whole seconds only"
    return seconds


RANDOM = (0.0, 0.25, 0.5, 0.75, 0.999999)


@pytest.mark.parametrize("rng", RANDOM)
@pytest.mark.parametrize("redrives", range(9))
def test_the_delay_grows_fourfold_up_to_the_cap_half_fixed_and_half_random(redrives: int, rng: float) -> None:
    step = min(CAP, BASE * 4**redrives)
    assert step / 2 <= delay(redrives, rng=rng) <= step
    assert delay(redrives, rng=rng) == pytest.approx(step / 2 * (1 + rng), abs=1)


def test_the_shortest_delays_are_those_of_the_documentation() -> None:
    assert [delay(redrives, rng=0.0) for redrives in range(6)] == [60, 240, 960, 3840, 10_800, 10_800]


def test_the_default_redrives_last_at_least_four_hours() -> None:
    assert template()["Parameters"]["MaxRetries"]["Default"] == 5
    assert template()["Parameters"]["RetryBaseSeconds"]["Default"] == BASE
    assert template()["Parameters"]["RetryCapSeconds"]["Default"] == CAP
    assert sum(delay(redrives, rng=0.0) for redrives in range(5)) >= 4 * 3600


@pytest.mark.parametrize("rng", RANDOM)
@pytest.mark.parametrize("retry_after", [1, 59.5, 3600, CAP, 5 * CAP])
@pytest.mark.parametrize("redrives", [0, 4, 8])
def test_a_retry_after_is_a_lower_bound_even_above_the_cap(redrives: int, retry_after: float, rng: float) -> None:
    standard, step = delay(redrives, rng=rng), min(CAP, BASE * 4**redrives)
    found = delay(redrives, rng=rng, retryAfterSeconds=retry_after)
    assert found >= retry_after
    assert found >= standard
    assert found <= max(standard, retry_after + step / 2 + 1)


def test_equal_retry_after_values_give_different_delays() -> None:
    assert len({delay(0, rng=rng, retryAfterSeconds=7200) for rng in RANDOM}) == len(RANDOM)


@pytest.mark.parametrize("retry_after", [10**9, 10**12, 1e300])
def test_no_retry_after_exceeds_the_limit_of_a_wait_state(retry_after: float) -> None:
    # https://docs.aws.amazon.com/step-functions/latest/dg/state-wait.html
    assert 0 < delay(0, rng=0.999999, retryAfterSeconds=retry_after) <= 99_999_999


@pytest.mark.parametrize("redrives", range(9))
def test_the_slow_schedule_uses_the_cap_from_the_first_redrive(redrives: int) -> None:
    assert delay(redrives, rng=0.0, schedule="slow") == CAP / 2
    assert delay(redrives, rng=0.999999, schedule="slow") == CAP


@pytest.mark.parametrize("rng", RANDOM)
def test_a_replay_does_not_wait(rng: float) -> None:
    assert delay(0, rng=rng, schedule="now") == 0


def test_the_delay_is_computed_for_the_largest_number_of_redrives_that_a_stamp_can_name() -> None:
    assert delay(_MAX_REDRIVES) == CAP * 3 // 4


def test_a_verdict_without_schedule_and_retry_after_uses_the_standard_delay() -> None:
    states = {"input": {"redrives": 1, "verdict": {"action": "retry", "category": "UNKNOWN"}}}
    assert evaluate(retry_choice()["Output"], states, 0.0)["delaySeconds"] == 240


def test_the_smallest_parameters_still_give_whole_seconds() -> None:
    choice = retry_choice({"RetryBaseSeconds": "1", "RetryCapSeconds": "1"})
    states = {"input": {"redrives": 0, "verdict": {"action": "retry", "category": "UNKNOWN"}}}
    assert [evaluate(choice["Output"], states, rng)["delaySeconds"] for rng in (0.0, 0.9)] == [1, 1]


# ------------------------------------------------------------------ lists stay lists


@pytest.mark.parametrize("before", [None, [], ["A"], ["A", "B"]], ids=["missing", "none", "one", "two"])
def test_the_history_is_always_a_list(before: list[str] | None) -> None:
    data = {"redrives": 0, "snapshots": ["k"], "verdict": {"action": "retry", "category": "C"}}
    data |= {} if before is None else {"history": before}
    output = evaluate(retry_choice()["Output"], {"input": data})
    assert output["history"] == [*(before or []), "C"]
    assert output["snapshots"] == ["k"]


@pytest.mark.parametrize("before", [["k1"], ["k1", "k2"], ["k1", "k2", "k3"]], ids=["one", "two", "three"])
def test_snapshots_are_a_list_and_a_new_one_is_last(before: list[str]) -> None:
    states = {
        "input": {"eventId": "a", "snapshots": before},
        "errorOutput": {"Error": "DeadLetteredAgain", "Cause": json.dumps({"eventId": "a", "snapshot": "new"})},
    }
    output = evaluate(dead_lettered_again()["Output"], states)
    assert output["snapshots"] == [*before, "new"]
    assert output["redriveOutcome"] == "DEAD_LETTERED_AGAIN"


# ------------------------------------------------------------------ paths through triage

LETTER = {
    "schemaVersion": 2,
    "eventId": "a",
    "detailType": "v2.detail.events.conversation.{id}.acd.start",
    "messageId": "m1",
    "snapshots": ["dead-letters/a/m1.json"],
    "redrives": 0,
    "firstSentAt": 1_795_426_200_640,
}
RETRY = {"action": "retry", "category": "UNAVAILABLE", "rule": "upstream-unavailable", "schedule": "standard"}
SETTLE = {"action": "settle", "category": "ALREADY_STORED", "rule": "already-stored"}
ARCHIVE = {"action": "archive", "category": "MALFORMED", "rule": "malformed-body"}


def walked(
    answers: Mapping[str, list[Any]], data: Mapping[str, Any] = LETTER, end_of_wait: Any = "States.Timeout"
) -> tuple[Walk, Any]:
    """Walk through triage. Each function returns its answers in order, and then repeats the last one."""
    left = {name: list(values_) for name, values_ in answers.items()}

    def answer(state: str, payload: Any) -> Any:
        TriageInput.read(payload)  # every function starts with this
        remaining = left.get(state, [{}])
        value = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        if isinstance(value, Exception):
            raise value
        return {"payload": payload} if state.startswith("Settle") else value

    walk = Walk(machine("triage"), answer, end_of_wait=end_of_wait)
    return walk, walk.run(dict(data))


@pytest.mark.parametrize("action", ["archive", "an action of a later policy"])
def test_a_letter_is_archived_in_five_states_also_for_an_unknown_action(action: str) -> None:
    place = {"bucket": "b", "key": "k"}
    walk, output = walked({"Classify": [{**ARCHIVE, "action": action}], "Archive": [place]})
    assert walk.entered == ["Classify", "Decide", "Archive", "SettleArchived", "Archived"]
    assert walk.inputs[2]["archivedAt"] == "2026-11-23T09:30:02.000Z"
    assert (output["payload"]["outcome"], output["payload"]["archive"]) == ("ARCHIVED", place)


def test_a_letter_that_the_first_redrive_recovers_enters_eight_states() -> None:
    walk, _ = walked({"Classify": [RETRY, SETTLE]})
    assert walk.entered == [
        *("Classify", "Decide", "BackOff", "Redrive"),
        *("Classify", "Decide", "SettleRecovered", "Recovered"),
    ]


def test_a_letter_whose_event_is_stored_is_recovered_without_a_redrive() -> None:
    walk, output = walked({"Classify": [SETTLE]})
    assert walk.entered == ["Classify", "Decide", "SettleRecovered", "Recovered"]
    assert output["payload"]["outcome"] == "RECOVERED"


def test_a_waiting_letter_is_listed_with_its_token_and_without_anything_of_its_event() -> None:
    walk, _ = walked({"Classify": [RETRY, SETTLE]})
    ((item,),) = [[one["Item"] for one in walk.written]]
    assert item["eventId"] == {"S": "waiting letters"}  # a space: no event has this id
    assert item["attempt"] == {"S": EXECUTION.rpartition(":")[2]}
    assert item["taskToken"] == {"S": "a-token"}
    assert set(item) == {
        *("eventId", "attempt", "taskToken", "letter", "category", "rule", "fingerprint", "nextTryAt", "expiresAt")
    }
    delay = walk.inputs[2]["delaySeconds"]
    begin = datetime(2026, 11, 23, 12, tzinfo=UTC)  # the model's clock
    assert datetime.fromisoformat(item["nextTryAt"]["S"]) == begin + timedelta(seconds=delay)
    assert int(item["expiresAt"]["N"]) == begin.timestamp() + delay + 86_400


@pytest.mark.parametrize(
    ("end_of_wait", "states", "reason"),
    [
        ("States.Timeout", ["BackOff", "Redrive"], None),
        ({"reason": "the secret is right again"}, ["BackOff", "Redrive"], "the secret is right again"),
        ("DynamoDb.ThrottlingException", ["BackOff", "BackOffUnlisted", "Redrive"], None),
    ],
)
def test_a_wait_ends_by_its_timeout_or_by_a_person_and_costs_no_redrive_more(
    end_of_wait: Any, states: list[str], reason: str | None
) -> None:
    walk, _ = walked({"Classify": [RETRY, SETTLE]}, end_of_wait=end_of_wait)
    assert walk.entered[2 : 2 + len(states)] == states
    before, after = (walk.inputs[walk.entered.index(name)] for name in ("BackOff", "Redrive"))
    assert after == before | ({"retriedNow": reason} if reason else {})


@pytest.mark.parametrize("failure", ["SnapshotMissing", "States.Timeout", "Runtime.HandlerError"])
def test_a_letter_that_cannot_be_classified_is_archived(failure: str) -> None:
    walk, _ = walked({"Classify": [TaskFailed(failure)], "Archive": [{"bucket": "b", "key": "k"}]})
    assert walk.entered == ["Classify", "Archive", "SettleArchived", "Archived"]
    archive = walk.inputs[1]
    assert (archive["verdict"]["category"], archive["verdict"]["evidence"]) == ("UNKNOWN", {"error": failure})
    assert archive["archivedAt"] == "2026-11-23T09:30:01.000Z"


def test_a_letter_that_fails_after_every_redrive_keeps_all_snapshots_and_categories() -> None:
    failures = [
        TaskFailed("DeadLetteredAgain", json.dumps({"eventId": "a", "snapshot": f"dead-letters/a/m{n}.json"}))
        for n in range(2, 7)
    ]
    walk, output = walked({"Classify": [*[RETRY] * 5, ARCHIVE], "Redrive": failures, "Archive": [{"key": "k"}]})
    triage_input = TriageInput.read(output["payload"])
    assert triage_input.snapshots == tuple(f"dead-letters/a/m{n}.json" for n in range(1, 7))
    assert triage_input.history == ("UNAVAILABLE",) * 5
    assert triage_input.redrives == 5
    assert walk.entered.count("Redrive") == 5


@pytest.mark.parametrize("name", ["Archive", "SettleArchived", "SettleRecovered"])
def test_an_error_of_archive_or_settle_ends_the_execution_which_can_then_be_redriven(name: str) -> None:
    assert triage(name)["Retry"]
    verdict = SETTLE if name == "SettleRecovered" else ARCHIVE
    with pytest.raises(TaskFailed, match="Misconfigured"):
        walked({"Classify": [verdict], "Archive": [{"key": "k"}], name: [TaskFailed("Misconfigured")]})


def test_no_definition_reads_a_body() -> None:
    for path in MACHINES.values():
        assert not re.search(r"\.(message|body|messageAttributes)\b", path.read_text()), path


# ------------------------------------------------------------------ the replay


def test_the_replay_limits_concurrency_and_tolerates_failing_letters() -> None:
    letters = machine("replay")["States"]["ReplayLetters"]
    assert 1 <= letters["MaxConcurrency"] <= 40
    assert letters["ToleratedFailurePercentage"] == 100
    assert letters["ItemProcessor"]["ProcessorConfig"] == {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}


def test_a_child_of_the_replay_records_every_outcome() -> None:
    inside = machine("replay")["States"]["ReplayLetters"]["ItemProcessor"]["States"]
    for name in ("Prepare", "Triage"):
        assert "States.ALL" in catch_names(inside[name])
    targets = {target for state in inside.values() for target in values(state.get("Catch", []), "Next")}
    assert targets == {"Note"}


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_dry_run_skips_the_map(dry_run: bool) -> None:
    choice = machine("replay")["States"]["DryRun"]
    taken = evaluate(choice["Choices"][0]["Condition"], {"input": {"dryRun": dry_run}})
    assert (choice["Choices"][0]["Next"] if taken else choice["Default"]) == ("Counted" if dry_run else "ReplayLetters")


def test_the_timeout_of_a_replayed_letter_exceeds_the_longest_redrive() -> None:
    child = machine("replay")["States"]["ReplayLetters"]["ItemProcessor"]["States"]["Triage"]
    assert child["TimeoutSeconds"] > template()["Parameters"]["OutcomeTimeoutSeconds"]["MaxValue"]
