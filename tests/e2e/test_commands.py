"""The commands of ``holdfast`` against the deployed stack."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from local.engine import client_environment
from local.eventually import eventually
from ops.cli import app
from ops.deployed import executions
from tests.e2e.letters import archived_as_unknown, with_topic
from tests.e2e.pipeline import SECONDS, genesys_event, with_user

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.controls import Controls
    from tests.e2e.pipeline import Pipeline

    Run = Callable[..., Result]


@pytest.fixture
def run(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on the stack, with the environment that ``make up`` writes."""
    for name, value in client_environment(pipeline.local.engine.endpoint).items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--stack", pipeline.stack.name])

    return run


def data_of(result: Result) -> Any:
    assert result.exit_code in {0, 1}, result.output
    return json.loads(result.stdout)


def test_an_archived_letter_is_counted_grouped_shown_and_audited(pipeline: Pipeline, run: Run) -> None:
    body = '{"detail-type": "v2.broken'
    (event_id,) = pipeline.enqueue(body)
    document = pipeline.archived(event_id)
    fingerprint, message_id = document["verdict"]["fingerprint"], document["message"]["messageId"]

    (cause,) = data_of(run("letters", "--archived", "--fingerprint", fingerprint, "--json"))
    assert (cause["category"], cause["rule"], cause["archived"] > 0) == ("MALFORMED", "malformed-body", True)
    assert body not in run("letters", "--archived", "--each").stdout
    # the metric and the log line arrive by themselves
    status = eventually(
        lambda: found if (found := data_of(run("status", "--json")))["archived"].get("MALFORMED") else None,
        "the archived letter is counted",
        SECONDS,
    )
    assert fingerprint in {one["fingerprint"] for one in status["failures"]}
    assert status["processing"] == "running"

    shown = data_of(run("show", message_id, "--json"))
    assert (shown["eventId"], shown["place"]) == (event_id, "archived")
    assert [moment["what"] for moment in shown["timeline"]][:6] == [
        *(f"receive {n}" for n in range(1, 6)),
        "dead letter",
    ]
    assert shown["timeline"][-1]["what"] == "Archived"
    assert run("show", event_id, "--message", "--yes").stdout == f"{body}\n"
    assert run("show", "an-id-that-is-nowhere").exit_code == 2


def test_letters_in_triage_are_grouped_by_their_last_verdict(pipeline: Pipeline, controls: Controls, run: Run) -> None:
    controls.scale_waits(1)  # the letter waits while the commands look at it
    controls.set_receives(1)
    pipeline.genesys.set_faults({"status": 503})
    (event_id,) = pipeline.enqueue(with_user())
    execution = pipeline.dead(event_id)
    eventually(lambda: execution.name if "BackOff" in pipeline.dead(event_id).path else None, "it waits", SECONDS)
    (cause,) = data_of(run("letters", "--open", "--json"))
    assert (cause["category"], cause["open"], cause["error"]) == ("UNAVAILABLE", 1, "the Genesys API answered 503")
    (letter,) = data_of(run("letters", "--open", "--each", "--json"))
    assert letter["eventId"] == event_id
    report = run("show", execution.name)
    assert report.exit_code == 1
    assert f"{event_id}  in triage" in report.stdout


def test_a_letter_that_waits_for_hours_is_redriven_at_once(pipeline: Pipeline, controls: Controls, run: Run) -> None:
    controls.scale_waits(1)
    controls.set_receives(1)
    pipeline.genesys.set_faults({"status": 503})
    (event_id,) = pipeline.enqueue(with_user())
    eventually(lambda: "BackOff" in pipeline.dead(event_id).path, "it waits", SECONDS)
    pipeline.genesys.set_faults(None)
    found = eventually(
        lambda: (
            result if (result := run("retry-now", "--reason", "it is back", "--yes", "--json")).exit_code != 2 else None
        ),
        "its token is listed",
        SECONDS,
    )
    retried = data_of(found)  # an item of an earlier test can be left: its wait was scaled
    assert (retried["started"], retried["failed"]) == (1, 0)
    execution = pipeline.settled(event_id)
    assert execution.path == [
        "Classify",
        "Decide",
        "BackOff",
        "Redrive",
        "Classify",
        "Decide",
        "SettleRecovered",
        "Recovered",
    ]
    assert (execution.result["outcome"], execution.result["redrives"]) == ("RECOVERED", 1)
    (attempts,) = [pipeline.attempts(event_id)]
    assert all("#" in one["attempt"] for one in attempts)
    assert "a person started the next redrive: it is back" in run("show", event_id).stdout
    assert run("retry-now", "--reason", "again", "--yes").exit_code == 2


def test_a_replay_stops_at_its_canary_until_the_cause_is_mended(
    pipeline: Pipeline, controls: Controls, run: Run
) -> None:
    topic = "v2.detail.events.conversation.{id}.canary.first"
    keys = archived_as_unknown(pipeline, controls, [with_topic(with_user(), "canary.first") for _ in range(4)])
    selected = ("--category", "UNKNOWN", "--topic", topic, "--reason", "the secret is right again")
    assert data_of(run("replay", *selected, "--dry-run", "--json"))["counts"]["UNKNOWN"] == 4

    pipeline.genesys.set_faults({"status": 503})
    failed = run("replay", *selected, "--canary", "2", "--yes", "--json")
    assert failed.exit_code == 1
    assert data_of(failed) == {"counts": {"UNKNOWN ARCHIVED": 2}, "report": "", "dryRun": False, "canary": True}
    replayed = [one for event_id in keys for one in pipeline.executions(event_id) if "replayOf" in one.input]
    assert len(replayed) == 2

    pipeline.genesys.set_faults(None)
    done = run("replay", *selected, "--canary", "2", "--yes", "--force", "--json")
    assert done.exit_code == 0, done.output
    pipeline.stored(keys)
    again = data_of(run("replay", *selected, "--canary", "0", "--yes", "--force", "--json"))["counts"]
    assert again["UNKNOWN RECOVERED_BEFORE"] == 4


def test_processing_is_paused_with_a_reason_and_resumed(pipeline: Pipeline, controls: Controls, run: Run) -> None:
    assert run("pause", "--reason", "the CRM moves", "--yes").exit_code == 0
    paused = data_of(run("status", "--json"))
    assert (paused["processing"], paused["pause"]["reason"]) == ("paused", "the CRM moves")
    assert paused["command"] == "holdfast resume"
    (event_id,) = pipeline.put(genesys_event())
    eventually(controls.messages, "the event waits in the buffer", SECONDS)
    assert run("pause", "--reason", "again", "--yes").exit_code == 2
    assert run("resume", "--yes").exit_code == 0
    pipeline.stored([event_id])
    assert data_of(run("status", "--json"))["processing"] == "running"
    # Until the execution has noticed, it would own a circuit that another test opens, and would not probe.
    eventually(
        lambda: not list(executions(pipeline.stack, "CircuitBreaker", statusFilter="RUNNING")),
        "the execution of the pause has ended",
        SECONDS,
    )


def test_events_are_published_again_and_audited(pipeline: Pipeline, run: Run, tmp_path: Any) -> None:
    event_ids = pipeline.put(*(genesys_event() for _ in range(3)))
    pipeline.stored(event_ids)
    published = data_of(run("republish", "--from", "2026-01-01", "--yes", "--json"))
    assert published["published"] >= 3
    assert published["refused"] == []
    (tmp_path / "ids.txt").write_text("\n".join(event_ids))
    audited = data_of(run("audit", "--ids", str(tmp_path / "ids.txt"), "--json"))
    assert {one["eventId"]: one["place"] for one in audited["events"]} == dict.fromkeys(event_ids, "stored")


@pytest.mark.usefixtures("run")  # its environment
def test_a_stack_that_does_not_exist_is_one_sentence() -> None:
    result = CliRunner().invoke(app, ["status", "--stack", "nowhere"])
    assert result.exit_code == 2
    assert "There is no stack 'nowhere'" in result.stderr
