"""The state machines: their graphs, their error names, their arithmetic, and the ways through triage."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from holdfast.domain.errors import HoldfastError, TransientError
from holdfast.domain.policy import ACTIONS, SCHEDULES
from holdfast.domain.triage import TriageInput
from tests.contract.asl import Level, TaskFailed, Walk, evaluate, levels
from tests.contract.project import FUNCTIONS, MACHINES, functions, machine, machine_text, template, values

SUBSTITUTION = re.compile(r"\$\{(\w+)\}")
#: https://docs.aws.amazon.com/step-functions/latest/dg/sfn-best-practices.html and concepts-error-handling.html:
#: what Lambda itself answers with, and how a worker that died or ran out of time arrives.
LAMBDAS_OWN = {
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
    "Lambda.Unknown",
    "Sandbox.Timedout",
    "Runtime.ExitError",
}
#: What Step Functions answers with where a machine starts an execution.
STEP_FUNCTIONS_OWN = {
    "StepFunctions.ThrottlingException",
    "StepFunctions.StepFunctionsException",
    "StepFunctions.SdkClientException",
}
#: Transient, and yet not retried within the minutes that a Retry lasts: it ends only once a person has acted. Where
#: another state can take over it is caught; Archive and Settle end there, visibly and ready to be redriven.
HELPED_BY_A_PERSON = {"Misconfigured"}
#: What the intake tells a waiting execution.
TOLD = {"DeadLetteredAgain"}
BASE, CAP = 120, 21_600


def leaves(kind: type[HoldfastError]) -> set[str]:
    below = kind.__subclasses__()
    return set().union(*map(leaves, below)) if below else {kind.__name__}


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


def retry_names(state: Mapping[str, Any]) -> set[str]:
    return {error for retry in state.get("Retry", []) for error in retry["ErrorEquals"]}


def catch_names(state: Mapping[str, Any]) -> set[str]:
    return {error for catcher in state.get("Catch", []) for error in catcher["ErrorEquals"]}


# ------------------------------------------------------------------ the files


@pytest.mark.parametrize("name", MACHINES)
def test_a_definition_is_json_as_it_stands_so_every_substitution_is_quoted(name: str) -> None:
    definition = json.loads(MACHINES[name].read_text())
    assert definition["Comment"]
    assert not SUBSTITUTION.findall(machine_text(name))


@pytest.mark.parametrize(("name", "logical_id"), [("triage", "TriageStateMachine"), ("replay", "ReplayStateMachine")])
def test_the_template_gives_exactly_the_substitutions_that_the_definition_names(name: str, logical_id: str) -> None:
    properties = template()["Resources"][logical_id]["Properties"]
    assert properties["DefinitionUri"] == f"statemachine/{name}.asl.json"
    assert set(SUBSTITUTION.findall(MACHINES[name].read_text())) == properties["DefinitionSubstitutions"].keys()


# ------------------------------------------------------------------ the graph


@pytest.mark.parametrize("level", all_levels(), ids=lambda level: level.where)
def test_every_arrow_ends_at_a_state(level: Level) -> None:
    targets = {target for name in level.states for target in level.edges(name)} | {level.start}
    assert targets <= level.states.keys()


@pytest.mark.parametrize("level", all_levels(), ids=lambda level: level.where)
def test_every_state_can_be_reached(level: Level) -> None:
    assert level.reachable(level.start) == level.states.keys()


@pytest.mark.parametrize("level", all_levels(), ids=lambda level: level.where)
def test_every_state_can_come_to_an_end(level: Level) -> None:
    for name in level.states:
        assert any(level.ends(reached) for reached in level.reachable(name)), name


@pytest.mark.parametrize("level", all_levels(), ids=lambda level: level.where)
def test_what_does_not_end_leads_somewhere(level: Level) -> None:
    for name, state in level.states.items():
        assert level.ends(name) or "Next" in state or "Default" in state, name


def test_there_is_no_fail_state_because_a_redriven_fail_state_fails_again() -> None:
    assert not list(all_states("Fail"))


def test_every_task_has_a_time_out_and_says_what_it_is_for() -> None:
    for name, state in all_states("Task"):
        assert state.get("TimeoutSeconds"), name
        assert state["Comment"].endswith("."), name


def test_a_task_waits_longer_than_its_function_may_run() -> None:
    timeouts = {
        f"arn:aws:lambda:us-east-1:123456789012:function:{name.removesuffix('Function').lower()}": found["Timeout"]
        for name, found in functions().items()
    }
    for name, state in all_states("Task"):
        called = state["Arguments"].get("FunctionName")
        if called and isinstance(state["TimeoutSeconds"], int):
            assert state["TimeoutSeconds"] > timeouts[called], name


@pytest.mark.parametrize("name", MACHINES)
def test_no_arn_names_a_partition(name: str) -> None:
    assert not re.search(r"arn:aws", MACHINES[name].read_text())


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize("name", ["Archive", "SettleArchived", "SettleRecovered"])
def test_where_custody_moves_an_error_ends_the_execution_at_that_very_task_and_it_can_be_redriven(name: str) -> None:
    state = triage(name)
    assert state["Retry"]
    assert "Catch" not in state


def test_redrive_is_retried_for_errors_of_sending_only_and_twice_at_most() -> None:
    state = triage("Redrive")
    assert not retry_names(state) & {"States.ALL", "States.TaskFailed", "States.Timeout", "DeadLetteredAgain"}
    assert sum(retry["MaxAttempts"] for retry in state["Retry"]) <= 2


def test_no_task_retries_everything() -> None:
    for name, state in all_states("Task"):
        assert not {error for error in retry_names(state) if error.startswith("States.")}, name


def test_every_transient_error_of_ours_is_retried_but_the_one_that_only_a_person_can_end() -> None:
    expected = LAMBDAS_OWN | (leaves(TransientError) - HELPED_BY_A_PERSON)
    for name, state in all_states("Task"):
        if ":lambda:invoke" in state["Resource"]:
            assert retry_names(state) == expected, name
        else:
            assert retry_names(state) == STEP_FUNCTIONS_OWN, name
    assert leaves(TransientError) >= HELPED_BY_A_PERSON


def test_every_error_name_is_somebodys() -> None:
    known = LAMBDAS_OWN | STEP_FUNCTIONS_OWN | TOLD | leaves(HoldfastError)
    known |= {"States.ALL", "States.Timeout", "StepFunctions.ExecutionAlreadyExistsException", "ExecutionAlreadyExists"}
    for name, state in all_states():
        assert retry_names(state) | catch_names(state) <= known, name


def test_the_intake_tells_a_dead_letter_by_the_name_that_redrive_catches() -> None:
    calls = [
        node
        for node in ast.walk(ast.parse((FUNCTIONS / "holdfast/domain/intake.py").read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "fail"
    ]
    told = {arg.value for call in calls for arg in call.args if isinstance(arg, ast.Constant)}
    assert told == TOLD
    assert catch_names(triage("Redrive")) == {*TOLD, "States.Timeout", "States.ALL"}


def test_everything_else_that_fails_is_taken_over_by_another_state() -> None:
    assert {c["Next"] for c in triage("Classify")["Catch"]} == {"Archive"}
    assert {c["Next"] for c in triage("Redrive")["Catch"]} == {"Classify"}
    for name in ("Classify", "Redrive"):
        assert "States.ALL" in catch_names(triage(name))


def test_decide_knows_every_action_and_every_schedule_of_the_policy() -> None:
    text = json.dumps(triage("Decide"))
    assert set(re.findall(r"verdict\.action = '(\w+)'", text)) == ACTIONS
    assert set(re.findall(r"verdict\.schedule = '(\w+)'", text)) | {"standard"} == SCHEDULES


def test_the_outcomes_of_a_redrive_are_those_that_the_policy_knows() -> None:
    text = (FUNCTIONS / "holdfast/domain/policy.py").read_text()
    outcomes = set(re.findall(r"'redriveOutcome': '(\w+)'", json.dumps(triage("Redrive"))))
    assert outcomes == {"STORED", "DEAD_LETTERED_AGAIN", "SILENT", "NOT_SENT"}
    assert all(f"``{outcome}``" in text for outcome in outcomes)


# ------------------------------------------------------------------ the arithmetic of the wait


def wait(attempts: int, *, rng: float = 0.5, schedule: str = "standard", **more: Any) -> int:
    """The seconds that Decide computes."""
    (retry,) = [choice for choice in triage("Decide")["Choices"] if choice["Next"] == "BackOff"]
    verdict = {"action": "retry", "category": "UNAVAILABLE", "schedule": schedule, "retryAfterSeconds": 0, **more}
    states = {"input": {"eventId": "a", "snapshots": ["k"], "redrives": attempts, "verdict": verdict}}
    output = evaluate(retry["Output"], states, rng)
    assert output["redrives"] == attempts + 1
    seconds = output["delaySeconds"]
    assert isinstance(seconds, int), "Step Functions takes whole seconds"
    return seconds


CHANCES = (0.0, 0.25, 0.5, 0.75, 0.999999)


@pytest.mark.parametrize("rng", CHANCES)
@pytest.mark.parametrize("attempts", range(9))
def test_the_wait_grows_fourfold_up_to_the_cap_half_of_it_fixed_and_half_random(attempts: int, rng: float) -> None:
    step = min(CAP, BASE * 4**attempts)
    assert step / 2 <= wait(attempts, rng=rng) <= step
    assert wait(attempts, rng=rng) == pytest.approx(step / 2 * (1 + rng), abs=1)


def test_the_first_waits_are_those_of_the_documentation() -> None:
    assert [wait(attempts, rng=0.0) for attempts in range(6)] == [60, 240, 960, 3840, 10_800, 10_800]


def test_the_five_rounds_of_the_default_are_patient_for_four_hours_at_least() -> None:
    assert template()["Parameters"]["MaxRetries"]["Default"] == 5
    assert template()["Parameters"]["RetryBaseSeconds"]["Default"] == BASE
    assert template()["Parameters"]["RetryCapSeconds"]["Default"] == CAP
    assert sum(wait(attempts, rng=0.0) for attempts in range(5)) >= 4 * 3600


@pytest.mark.parametrize("rng", CHANCES)
@pytest.mark.parametrize("asked", [1, 59.5, 3600, CAP, 5 * CAP])
@pytest.mark.parametrize("attempts", [0, 4, 8])
def test_what_the_upstream_asked_for_is_a_floor_that_beats_the_cap(attempts: int, asked: float, rng: float) -> None:
    usual, step = wait(attempts, rng=rng), min(CAP, BASE * 4**attempts)
    found = wait(attempts, rng=rng, retryAfterSeconds=asked)
    assert found >= asked
    assert found >= usual
    assert found <= max(usual, asked + step / 2 + 1)


def test_letters_that_were_told_the_same_time_do_not_come_back_as_one_wave() -> None:
    assert len({wait(0, rng=rng, retryAfterSeconds=7200) for rng in CHANCES}) == len(CHANCES)


@pytest.mark.parametrize("asked", [10**9, 10**12, 1e300])
def test_no_upstream_can_ask_for_a_wait_that_step_functions_refuses(asked: float) -> None:
    # https://docs.aws.amazon.com/step-functions/latest/dg/state-wait.html
    assert 0 < wait(0, rng=0.999999, retryAfterSeconds=asked) <= 99_999_999


@pytest.mark.parametrize("attempts", range(9))
def test_the_slow_schedule_waits_around_the_cap_from_the_first_round_on(attempts: int) -> None:
    assert wait(attempts, rng=0.0, schedule="slow") == CAP / 2
    assert wait(attempts, rng=0.999999, schedule="slow") == CAP


@pytest.mark.parametrize("rng", CHANCES)
def test_a_replay_does_not_wait(rng: float) -> None:
    assert wait(0, rng=rng, schedule="now") == 0


def test_a_verdict_of_an_older_policy_without_schedule_or_retry_after_waits_as_usual() -> None:
    (retry,) = [choice for choice in triage("Decide")["Choices"] if choice["Next"] == "BackOff"]
    states = {"input": {"redrives": 1, "verdict": {"action": "retry", "category": "UNKNOWN"}}}
    assert evaluate(retry["Output"], states, 0.0)["delaySeconds"] == 240


def test_the_smallest_parameters_still_give_whole_seconds() -> None:
    definition = machine("triage", {"RetryBaseSeconds": "1", "RetryCapSeconds": "1"})
    (retry,) = [choice for choice in definition["States"]["Decide"]["Choices"] if choice["Next"] == "BackOff"]
    states = {"input": {"redrives": 0, "verdict": {"action": "retry", "category": "UNKNOWN"}}}
    assert [evaluate(retry["Output"], states, rng)["delaySeconds"] for rng in (0.0, 0.9)] == [1, 1]


# ------------------------------------------------------------------ lists stay lists


@pytest.mark.parametrize("before", [None, [], ["A"], ["A", "B"]], ids=["missing", "none", "one", "two"])
def test_the_history_is_a_list_however_many_rounds_there_were(before: list[str] | None) -> None:
    (retry,) = [choice for choice in triage("Decide")["Choices"] if choice["Next"] == "BackOff"]
    data = {"redrives": 0, "snapshots": ["k"], "verdict": {"action": "retry", "category": "C"}}
    data |= {} if before is None else {"history": before}
    output = evaluate(retry["Output"], {"input": data})
    assert output["history"] == [*(before or []), "C"]
    assert output["snapshots"] == ["k"]


@pytest.mark.parametrize("before", [["k1"], ["k1", "k2"], ["k1", "k2", "k3"]], ids=["one", "two", "three"])
def test_the_evidence_is_a_list_and_a_newer_death_comes_last(before: list[str]) -> None:
    (catcher,) = [one for one in triage("Redrive")["Catch"] if one["ErrorEquals"] == ["DeadLetteredAgain"]]
    states = {
        "input": {"eventId": "a", "snapshots": before},
        "errorOutput": {"Error": "DeadLetteredAgain", "Cause": json.dumps({"eventId": "a", "snapshot": "new"})},
    }
    output = evaluate(catcher["Output"], states)
    assert output["snapshots"] == [*before, "new"]
    assert output["redriveOutcome"] == "DEAD_LETTERED_AGAIN"


def test_a_death_that_is_told_of_another_letter_is_not_believed() -> None:
    (catcher,) = [one for one in triage("Redrive")["Catch"] if one["ErrorEquals"] == ["DeadLetteredAgain"]]
    states = {
        "input": {"eventId": "a", "snapshots": ["k1"]},
        "errorOutput": {"Error": "DeadLetteredAgain", "Cause": json.dumps({"eventId": "b", "snapshot": "k2"})},
    }
    assert evaluate(catcher["Output"], states) == {"eventId": "a", "snapshots": ["k1"], "redriveOutcome": "SILENT"}


# ------------------------------------------------------------------ the ways through triage

LETTER = {
    "schemaVersion": 2,
    "eventId": "a",
    "detailType": "v2.detail.events.conversation.{id}.acd.start",
    "messageId": "m1",
    "snapshots": ["dead-letters/a/m1.json"],
    "redrives": 0,
    "firstSentAt": 1_795_426_200_640,
}
SENDS_BACK = {"action": "retry", "category": "UNAVAILABLE", "rule": "upstream-unavailable", "schedule": "standard"}
SETTLES = {"action": "settle", "category": "ALREADY_STORED", "rule": "already-stored"}
GIVES_UP = {"action": "archive", "category": "MALFORMED", "rule": "malformed-body"}


def walked(answers: Mapping[str, list[Any]], data: Mapping[str, Any] = LETTER) -> tuple[Walk, Any]:
    """Walk through triage; each function answers from its own list, the last answer again and again."""
    left = {name: list(given) for name, given in answers.items()}

    def answer(state: str, payload: Any) -> Any:
        TriageInput.read(payload)  # what the function behind every state does first
        given = left.get(state, [{}])
        value = given.pop(0) if len(given) > 1 else given[0]
        if isinstance(value, Exception):
            raise value
        return {"payload": payload} if state.startswith("Settle") else value

    walk = Walk(machine("triage"), answer)
    return walk, walk.run(dict(data))


def test_a_letter_that_is_archived_at_first_sight_enters_five_states() -> None:
    walk, _ = walked({"Classify": [GIVES_UP], "Archive": [{"bucket": "b", "key": "k"}]})
    assert walk.entered == ["Classify", "Decide", "Archive", "SettleArchived", "Archived"]


def test_a_letter_that_its_first_retry_saves_enters_eight_states() -> None:
    walk, _ = walked({"Classify": [SENDS_BACK, SETTLES]})
    assert walk.entered == [
        *("Classify", "Decide", "BackOff", "Redrive"),
        *("Classify", "Decide", "SettleRecovered", "Recovered"),
    ]


def test_a_letter_that_the_table_holds_already_is_recovered_without_a_redrive() -> None:
    walk, output = walked({"Classify": [SETTLES]})
    assert walk.entered == ["Classify", "Decide", "SettleRecovered", "Recovered"]
    assert output["payload"]["outcome"] == "RECOVERED"


def test_archive_is_told_one_time_and_settle_where_the_letter_now_is() -> None:
    walk, output = walked({"Classify": [GIVES_UP], "Archive": [{"bucket": "b", "key": "k"}]})
    archive = walk.inputs[walk.entered.index("Archive")]
    assert archive["archivedAt"] == "2026-11-23T09:30:02.000Z"
    assert output["payload"]["outcome"] == "ARCHIVED"
    assert output["payload"]["archive"] == {"bucket": "b", "key": "k"}


@pytest.mark.parametrize("failure", ["SnapshotMissing", "Misconfigured", "States.Timeout", "Runtime.HandlerError"])
def test_a_letter_that_cannot_be_classified_is_archived_for_a_person(failure: str) -> None:
    walk, _ = walked({"Classify": [TaskFailed(failure)], "Archive": [{"bucket": "b", "key": "k"}]})
    assert walk.entered == ["Classify", "Archive", "SettleArchived", "Archived"]
    archive = walk.inputs[1]
    assert (archive["verdict"]["category"], archive["verdict"]["evidence"]) == ("UNKNOWN", {"error": failure})
    assert archive["archivedAt"] == "2026-11-23T09:30:01.000Z"


def test_an_action_that_decide_does_not_know_ends_in_the_archive() -> None:
    walk, _ = walked({"Classify": [{**GIVES_UP, "action": "of a later policy"}], "Archive": [{"key": "k"}]})
    assert walk.entered == ["Classify", "Decide", "Archive", "SettleArchived", "Archived"]
    assert walk.inputs[2]["archivedAt"] == "2026-11-23T09:30:02.000Z"


@pytest.mark.parametrize(
    ("failure", "redrive"),
    [
        (
            TaskFailed("DeadLetteredAgain", json.dumps({"eventId": "a", "snapshot": "dead-letters/a/m2.json"})),
            "DEAD_LETTERED_AGAIN",
        ),
        (TaskFailed("States.Timeout"), "SILENT"),
        (TaskFailed("SnapshotMissing"), "NOT_SENT"),
        (TaskFailed("Unavailable"), "NOT_SENT"),
    ],
    ids=["dead again", "silence", "no evidence", "not sent"],
)
def test_whatever_a_redrive_comes_to_classify_is_asked_next(failure: TaskFailed, redrive: str) -> None:
    walk, _ = walked({"Classify": [SENDS_BACK, GIVES_UP], "Redrive": [failure], "Archive": [{"key": "k"}]})
    assert walk.entered[3:5] == ["Redrive", "Classify"]
    assert walk.inputs[4]["redriveOutcome"] == redrive
    assert walk.inputs[4]["redrives"] == 1


def test_a_letter_that_dies_in_every_round_holds_all_its_evidence_and_every_category() -> None:
    deaths = [
        TaskFailed("DeadLetteredAgain", json.dumps({"eventId": "a", "snapshot": f"dead-letters/a/m{n}.json"}))
        for n in range(2, 7)
    ]
    walk, output = walked({"Classify": [*[SENDS_BACK] * 5, GIVES_UP], "Redrive": deaths, "Archive": [{"key": "k"}]})
    case = TriageInput.read(output["payload"])
    assert case.snapshots == tuple(f"dead-letters/a/m{n}.json" for n in range(1, 7))
    assert case.history == ("UNAVAILABLE",) * 5
    assert case.redrives == 5
    assert walk.entered.count("Redrive") == 5


@pytest.mark.parametrize("name", ["Archive", "SettleArchived", "SettleRecovered"])
def test_nothing_swallows_an_error_where_custody_moves(name: str) -> None:
    verdict = SETTLES if name == "SettleRecovered" else GIVES_UP
    with pytest.raises(TaskFailed, match="Misconfigured"):
        walked({"Classify": [verdict], "Archive": [{"key": "k"}], name: [TaskFailed("Misconfigured")]})


def test_no_body_enters_the_machine() -> None:
    for name in MACHINES:
        assert "message" not in set(
            re.findall(r"[\w.]*\.(message|body|messageAttributes)\b", MACHINES[name].read_text())
        )


# ------------------------------------------------------------------ the replay


def test_the_replay_is_bounded_and_one_failing_letter_stops_no_other() -> None:
    letters = machine("replay")["States"]["ReplayLetters"]
    assert 1 <= letters["MaxConcurrency"] <= 40
    assert letters["ToleratedFailurePercentage"] == 100
    assert letters["ItemProcessor"]["ProcessorConfig"] == {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}


def test_a_child_of_the_replay_notes_whatever_came_of_its_letter() -> None:
    inside = machine("replay")["States"]["ReplayLetters"]["ItemProcessor"]["States"]
    for name in ("Prepare", "Triage"):
        assert "States.ALL" in catch_names(inside[name])
    targets = {target for state in inside.values() for target in values(state.get("Catch", []), "Next")}
    assert targets == {"Note"}


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_dry_run_goes_past_the_letters(dry_run: bool) -> None:
    choice = machine("replay")["States"]["DryRun"]
    taken = evaluate(choice["Choices"][0]["Condition"], {"input": {"dryRun": dry_run}})
    assert (choice["Choices"][0]["Next"] if taken else choice["Default"]) == ("Counted" if dry_run else "ReplayLetters")


def test_the_time_out_of_a_replayed_letter_covers_the_longest_that_one_redrive_may_take() -> None:
    child = machine("replay")["States"]["ReplayLetters"]["ItemProcessor"]["States"]["Triage"]
    assert child["TimeoutSeconds"] > template()["Parameters"]["OutcomeTimeoutSeconds"]["MaxValue"]
