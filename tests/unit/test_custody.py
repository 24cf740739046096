"""The custody rule holds in any order of steps (:mod:`tests.custody`), and the check finds defects that break it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from holdfast.domain import intake, sweep
from holdfast.domain.processing import BatchReport
from holdfast.domain.triage import Archiver, archive_key
from tests.custody import Custody, Fault
from tests.fakes import FakeObjects

SHORT = settings(max_examples=50, stateful_step_count=40, derandomize=True, deadline=None, database=None)
SEARCH = settings(SHORT, max_examples=200, phases=[Phase.generate], report_multiple_bugs=False)
Defect = Callable[[pytest.MonkeyPatch], None]


def test_every_event_stays_in_custody_until_it_is_stored_or_archived() -> None:
    run_state_machine_as_test(Custody, settings=SHORT)


def ignoring_errors(call: Callable[..., Any], answer: Any = None) -> Callable[..., Any]:
    """Make a call return ``answer`` instead of raising an error."""

    def call_and_ignore(*args: Any, **kwargs: Any) -> Any:
        with suppress(Exception):
            return call(*args, **kwargs)
        return answer

    return call_and_ignore


def ignores_errors_of_snapshot_writes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(FakeObjects, "create", ignoring_errors(FakeObjects.create, answer=True))


def ignores_errors_of_execution_starts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(intake, "start_generation", ignoring_errors(intake.start_generation, "started"))


def reports_transient_failures_as_processed(patch: pytest.MonkeyPatch) -> None:
    def response(report: BatchReport) -> dict[str, list[dict[str, str]]]:
        kept = [o.record.message.message_id for o in report.results if o.failure and o.failure.permanent]
        return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in kept]}

    patch.setattr(BatchReport, "as_response", response)


def ignores_errors_of_archive_writes(patch: pytest.MonkeyPatch) -> None:
    original = Archiver.archive

    def archive(self: Archiver, triage_input: Any, verdict: Any, arn: str, at: str) -> Any:
        answer = {"bucket": "archive-bucket", "key": archive_key(verdict, at, arn)}
        return ignoring_errors(original, answer)(self, triage_input, verdict, arn, at)

    patch.setattr(Archiver, "archive", archive)


def sweeps_snapshots_of_events_that_are_not_stored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sweep, "is_stored", lambda *_: True)


def ignores_redrive_records(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(intake, "stamp_of", lambda letter, _: letter.stamp)


@pytest.mark.parametrize(
    ("defect", "fault"),
    [
        (ignores_errors_of_snapshot_writes, Fault("outage", "objects.create")),
        (ignores_errors_of_execution_starts, Fault("outage", "executions.start")),
        (reports_transient_failures_as_processed, Fault("error", "eventstore.store")),
        (ignores_errors_of_archive_writes, None),
        (sweeps_snapshots_of_events_that_are_not_stored, None),
        (ignores_redrive_records, None),
    ],
    ids=lambda value: value.__name__ if callable(value) else f"{value and value.call}",
)
def test_the_check_finds_a_pipeline_that(defect: Defect, fault: Fault | None, monkeypatch: pytest.MonkeyPatch) -> None:
    defect(monkeypatch)
    monkeypatch.setattr(Custody, "only", fault)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Custody, settings=SEARCH)
