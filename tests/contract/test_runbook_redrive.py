"""The runbook redrives the executions that ended without settling their letter, and no others."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from holdfast.domain.identity import execution_name
from holdfast.domain.replay import Plan
from local.docs_check import blocks
from local.engine import ROOT

PLAN = Plan.read({"prefix": "archive/", "run": "run", "startedAt": "2026-11-23T10:00:00.000Z"})
#: AWS: the executions newest first, an input whose event has the id of the execution, and the redrives.
AWS = """
resource() { echo "$1"; }
objects() { [ "$1" = dead-letters/released/ ] || echo "2026-11-23 $1key"; }
aws() {
  case "$2" in
    list-executions) cat "$EXECUTIONS" ;;
    describe-execution) printf '{"eventId": "%s"}' "${4%%:*}" ;;
    redrive-execution) echo "$4" ;;
  esac
}
"""


def redriven(folder: Path, *executions: tuple[str, str, str]) -> list[str]:
    """Run the block against executions of (event, name, status), the newest first."""
    lines = [f"{name}\t{status}\t{event}:{name}" for event, name, status in executions]
    (folder / "executions").write_text("\n".join(lines) + "\n")
    (block,) = [one for one in blocks(ROOT / "docs" / "operations.md") if "redrive-execution" in one.text]
    script = f"EXECUTIONS={folder}/executions\n{AWS}\n{block.text}"
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, check=True)  # noqa: S603, S607 - our own block
    return [line.partition(":")[2] for line in done.stdout.split()]


def name(event: str, message: str = "message-1", generation: int = 0) -> str:
    return execution_name("v2.detail.events.conversation.{id}.acd.start", event, message, generation)


@pytest.mark.parametrize("status", ["FAILED", "TIMED_OUT", "ABORTED"])
def test_an_execution_that_did_not_settle_its_letter_is_redriven(tmp_path: Path, status: str) -> None:
    assert redriven(tmp_path, ("a", name("a"), status)) == [name("a")]


@pytest.mark.parametrize("status", ["SUCCEEDED", "RUNNING", "PENDING_REDRIVE"])
def test_any_other_execution_is_not_redriven(tmp_path: Path, status: str) -> None:
    assert redriven(tmp_path, ("a", name("a"), status), ("b", name("b"), "FAILED")) == [name("b")]


@pytest.mark.parametrize("status", ["SUCCEEDED", "RUNNING", "FAILED"])
@pytest.mark.parametrize(
    "newer",
    [name("a", generation=1), name("a", "message-2"), name("a", "message-2", 3), PLAN.execution_name("a", 2)],
    ids=["next generation", "later message", "generation of a later message", "replay"],
)
def test_an_execution_whose_letter_a_newer_one_has_is_not_redriven(tmp_path: Path, newer: str, status: str) -> None:
    found = redriven(tmp_path, ("a", newer, status), ("a", name("a"), "ABORTED"))
    assert found == ([newer] if status == "FAILED" and not newer.startswith("replay-") else [])


def test_an_execution_without_snapshots_is_not_redriven(tmp_path: Path) -> None:
    assert redriven(tmp_path, ("released", name("released"), "FAILED"), ("b", name("b"), "ABORTED")) == [name("b")]


def test_the_executions_of_a_replay_are_left_to_the_replay(tmp_path: Path) -> None:
    assert redriven(tmp_path, ("a", PLAN.execution_name("a"), "ABORTED")) == []
