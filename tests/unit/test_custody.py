"""The custody rule holds in any order of events (:mod:`tests.custody`), and what checks it finds what breaks it."""

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

SHORT = settings(max_examples=50, stateful_step_count=40, derandomize=True, deadline=None, database=None)
HUNT = settings(SHORT, max_examples=200, phases=[Phase.generate], report_multiple_bugs=False)
Break = Callable[[pytest.MonkeyPatch], None]


def test_whatever_happens_in_whatever_order_every_event_has_an_owner_and_comes_to_its_end() -> None:
    run_state_machine_as_test(Custody, settings=SHORT)


def forgiving(call: Callable[..., Any], answer: Any = None) -> Callable[..., Any]:
    """The call, with its failures swallowed."""

    def forgiven(*args: Any, **kwargs: Any) -> Any:
        with suppress(Exception):
            return call(*args, **kwargs)
        return answer

    return forgiven


def lets_go_before_the_evidence_is_written(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(intake, "_write_snapshot", forgiving(intake._write_snapshot))


def lets_go_without_an_execution(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(intake, "start_generation", forgiving(intake.start_generation, "started"))


def answers_the_queue_before_the_event_is_stored(patch: pytest.MonkeyPatch) -> None:
    def response(report: BatchReport) -> dict[str, list[dict[str, str]]]:
        kept = [o.record.message.message_id for o in report.outcomes if o.failure and o.failure.permanent]
        return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in kept]}

    patch.setattr(BatchReport, "as_response", response)


def settles_without_an_archive(patch: pytest.MonkeyPatch) -> None:
    original = Archiver.archive

    def archive(self: Archiver, case: Any, verdict: Any, arn: str, at: str) -> Any:
        answer = {"bucket": "archive-bucket", "key": archive_key(str(verdict["category"]), at, arn)}
        return forgiving(original, answer)(self, case, verdict, arn, at)

    patch.setattr(Archiver, "archive", archive)


def sweeps_away_what_nobody_archived(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sweep._ArchiveListing, "holds", lambda *_: True)


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        (lets_go_before_the_evidence_is_written, Fault("is down", "objects.create")),
        (lets_go_without_an_execution, Fault("is down", "executions.start")),
        (answers_the_queue_before_the_event_is_stored, Fault("fails", "eventstore.store")),
        (settles_without_an_archive, None),
        (sweeps_away_what_nobody_archived, None),
    ],
    ids=lambda value: value.__name__ if callable(value) else f"{value and value.call}",
)
def test_the_machine_finds_a_product_that(broken: Break, fault: Fault | None, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch)
    monkeypatch.setattr(Custody, "only", fault)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Custody, settings=HUNT)
