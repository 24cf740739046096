"""One batch: a record is reported as failed unless its event is stored, and no record changes the result of another."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.attempts import Attempt, AttemptKey, Status
from holdfast.domain.enrichment import Enrichment
from holdfast.domain.errors import (
    DEFERRED,
    Failure,
    HoldfastError,
    Misconfigured,
    Rejected,
    Throttled,
    Unavailable,
)
from holdfast.domain.identity import event_id_of_bytes
from holdfast.domain.ports import Stored
from holdfast.domain.processing import BatchReport, ProcessorServices, process_batch, stored_count
from holdfast.domain.users import Entity
from tests.fakes import (
    NOW,
    FakeAttemptLog,
    FakeDeadline,
    FakeEventStore,
    FakeExecutions,
    FakeQueue,
    FakeUserDirectory,
    Journal,
    WorkerCrashed,
)
from tests.unit.samples import OTHER_USER_ID, PERSONAL, USER_ID, body, quiet_body, record, stamped
from tests.unit.test_envelope import BODIES


@dataclass
class World:
    """The fakes of one test, and the processing on top of them."""

    user_directory: bool = True
    required: bool = False
    journal: Journal = field(default_factory=Journal)

    def __post_init__(self) -> None:
        self.store = FakeEventStore(self.journal)
        self.attempt_log = FakeAttemptLog(self.journal)
        self.queue = FakeQueue(self.journal)
        self.executions = FakeExecutions(self.journal)
        self.people = FakeUserDirectory(self.journal, {USER_ID: Entity("Anna Ito", "anna@example.com")})

    def process(self, *records: dict[str, Any], deadline: FakeDeadline | None = None) -> BatchReport:
        services = ProcessorServices(
            store=self.store,
            attempt_log=self.attempt_log,
            queue=self.queue,
            task_tokens=self.executions,
            enrichment=Enrichment(self.people, self.required) if self.user_directory else None,
            backoff_base_seconds=10,
            backoff_cap_seconds=100,
            clock=lambda: NOW,
            rng=lambda: 0.5,
        )
        return process_batch(records, services, deadline or FakeDeadline(), "request-1")

    def note(
        self, event_id: str, message_id: str, receives: int, status: Status, failure: Failure | None = None
    ) -> None:
        """Put an earlier attempt into the attempt log."""
        key = AttemptKey(event_id, message_id, receives)
        at = f"2026-11-23T11:{receives:02}:00.000Z"
        self.attempt_log.attempts[key] = Attempt(key, status, at, "request-0", failure)


@pytest.fixture
def world() -> World:
    return World()


def failed_ids(report: BatchReport) -> list[str]:
    return [failure["itemIdentifier"] for failure in report.as_response()["batchItemFailures"]]


def failures(report: BatchReport) -> list[Failure]:
    return [one.failure for one in report.results if one.failure]


def ten(bad: int | None = None) -> list[dict[str, Any]]:
    return [record("bad" if n == bad else body(f"event-{n}"), f"message-{n}") for n in range(10)]


# -- a batch without failures -------------------------------------------------------------------------------------------------


def test_a_valid_event_is_stored_and_enriched_with_two_calls(world: World) -> None:
    report = world.process(record(body()))
    assert failed_ids(report) == []
    stored = world.store.items["event-1"]
    assert stored.source.startswith("aws.partner")
    assert (stored.event_time, stored.received_at) == ("2026-11-23T10:00:00.123Z", NOW)
    assert world.store.envelope("event-1")["detail"]["eventBody"]["userEmail"] == "anna@example.com"
    assert world.journal.calls == ["userdirectory.lookup", "eventstore.store"], "the first receive is not recorded"


def test_ten_events_cost_one_lookup_and_one_write(world: World) -> None:
    report = world.process(*ten())
    assert world.journal.calls == ["userdirectory.lookup", "eventstore.store"]
    assert stored_count(report.results, Stored.NEW) == report.enriched == 10
    assert world.people.lookups == [{USER_ID}]


def test_neither_an_empty_batch_nor_an_event_without_users_needs_a_lookup(world: World) -> None:
    assert world.process().as_response() == {"batchItemFailures": []}
    assert failed_ids(world.process(record(quiet_body()))) == []
    assert world.people.lookups == []


# -- partial and total failure -------------------------------------------------------------------------------------


def test_only_a_bad_record_and_an_event_that_the_table_refuses_are_reported(world: World) -> None:
    world.store.refusals["event-7"] = Failure.of(Rejected("too large"))
    assert failed_ids(world.process(*ten(bad=4))) == ["message-4", "message-7"]
    assert len(world.store.items) == 8
    assert world.queue.visibility == {"receipt-message-4": 0, "receipt-message-7": 0}


@pytest.mark.parametrize("error", [Unavailable("down"), Throttled("slow"), RuntimeError(PERSONAL)])
def test_when_all_ten_fail_each_is_reported_by_its_id(world: World, error: Exception) -> None:
    world.journal.fail_always("eventstore.store", error)
    assert failed_ids(world.process(*ten())) == [f"message-{n}" for n in range(10)]
    assert len(world.attempt_log.attempts) == len(world.queue.visibility) == 10
    assert all(PERSONAL not in str(line.as_json()) for line in world.attempt_log.records)


def test_a_failure_is_noted_with_its_reason(world: World) -> None:
    world.store.refusals["event-1"] = Failure.of(Throttled("store events: ThrottlingError", retry_after=7.0))
    world.process(record(body()))
    (line,) = world.attempt_log.records
    assert line.key == AttemptKey("event-1", "message-1", 1)
    assert line.as_json() == {
        "at": "2026-11-23T12:00:00.000Z",
        "status": "failed",
        "errorType": "Throttled",
        "errorMessage": "store events: ThrottlingError",
        "messageId": "message-1",
        "receiveCount": 1,
        "requestId": "request-1",
    }


# -- duplicates ----------------------------------------------------------------------------------------------------


def test_copies_of_one_event_in_a_batch_are_worked_on_once_and_share_the_result(world: World) -> None:
    report = world.process(record(body(), "m-1"), record(body(), "m-2"))
    assert failed_ids(report) == []
    assert list(world.store.items) == ["event-1"]

    world.store.refusals["event-2"] = Failure.of(Unavailable("down"))
    assert failed_ids(world.process(record(body("event-2"), "m-3"), record(body("event-2"), "m-4"))) == ["m-3", "m-4"]


def test_a_redelivery_after_a_lost_answer_is_a_silent_success(world: World) -> None:
    world.journal.lose_response("eventstore.store", Unavailable("the answer was lost"))
    assert failed_ids(world.process(record(body()))) == ["message-1"]
    again = world.process(record(body(), receives=2))
    assert failed_ids(again) == []
    assert stored_count(again.results, Stored.DUPLICATE) == 1


@pytest.mark.parametrize("step", range(1, 5))
def test_a_worker_that_dies_after_any_step_leaves_nothing_that_a_redelivery_does_not_mend(
    world: World, step: int
) -> None:
    records = [record(body("event-1"), "m-1", receives=2), record("bad", "m-2")]
    world.journal.crash_after(step)
    with pytest.raises(WorkerCrashed):
        world.process(*records)
    world.journal.reset()
    assert failed_ids(world.process(record(body("event-1"), "m-1", receives=3), record("bad", "m-2", receives=2))) == [
        "m-2"
    ]
    assert list(world.store.items) == ["event-1"]


def test_an_invalid_body_that_claims_a_stored_event_s_id_does_not_pass_for_it(world: World) -> None:
    world.process(record(body("event-1"), "m-1"))
    claiming = record(json.dumps({"id": "event-1", "detail": "nothing"}), "m-2")
    assert failed_ids(world.process(claiming)) == ["m-2"]
    assert failed_ids(world.process(record(body("event-1"), "m-3"), claiming)) == ["m-2"]


# -- what a record may be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("oops", "MALFORMED"),
        ("null", "INVALID"),
        (body(detail=None), "INVALID"),
    ],
)
def test_a_permanent_failure_goes_to_the_dead_letter_queue_without_a_wait(
    world: World, text: str, category: str
) -> None:
    report = world.process(record(text))
    (result,) = [one for one in report.results if one.failure]
    assert result.failure
    assert (result.failure.category, result.failure.permanent) == (category, True)
    assert world.queue.visibility == {"receipt-message-1": 0}
    assert world.store.items == {}


@given(st.lists(BODIES, max_size=5), st.integers(1, 3))
def test_every_record_has_exactly_one_result_whatever_it_holds(texts: list[str], receives: int) -> None:
    world = World()
    records = [record(text, f"m-{n}", receives=receives) for n, text in enumerate(texts)]
    report = world.process(*records)
    assert sorted(o.record.message.message_id for o in report.results) == [f"m-{n}" for n in range(len(texts))]
    for result in report.results:
        assert result.failure or result.record.event_id in world.store.items
        assert result.failure is None or result.failure.category in {"MALFORMED", "INVALID"}


# -- enrichment ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("error", "code"), [(Unavailable("down"), "UNAVAILABLE"), (RuntimeError(PERSONAL), "UNKNOWN")])
def test_with_best_effort_a_failed_lookup_marks_every_event_after_one_call(
    world: World, error: Exception, code: str
) -> None:
    world.journal.fail_always("userdirectory.lookup", error)
    report = world.process(*ten())
    assert failed_ids(report) == []
    assert len(report.enrichment_failures) == 10
    assert world.store.envelope("event-3")["detail"]["enrichmentError"] == code
    assert world.journal.calls.count("userdirectory.lookup") == 1


def test_with_required_a_failed_lookup_fails_the_events_that_name_users() -> None:
    world = World(required=True)
    world.journal.fail_always("userdirectory.lookup", Throttled("slow down", retry_after=120.0))
    assert failed_ids(world.process(record(body("event-1"), "m-1"), record(quiet_body("event-2"), "m-2"))) == ["m-1"]
    assert list(world.store.items) == ["event-2"]
    assert world.queue.visibility["receipt-m-1"] >= 120, "no retry of that event before that"
    assert world.attempt_log.records[0].failure == Failure("THROTTLED_UPSTREAM", "Throttled", "slow down", False, 120.0)


def test_an_event_whose_users_are_cached_is_stored_although_the_lookup_fails() -> None:
    world = World(required=True)
    world.people.cached_ids.add(USER_ID)
    world.journal.fail_always("userdirectory.lookup", Unavailable("down"))
    stranger = body("event-2", detail={"topicName": "v2.x", "eventBody": {"userId": OTHER_USER_ID}})
    report = world.process(record(body("event-1"), "m-1"), record(stranger, "m-2"))
    assert failed_ids(report) == ["m-2"]
    assert "Anna Ito" in world.store.items["event-1"].text
    assert (report.enriched, len(report.enrichment_failures)) == (1, 1)


def test_without_enrichment_the_event_is_stored_unchanged() -> None:
    world = World(user_directory=False)
    world.process(record(body()))
    assert world.people.lookups == []
    assert world.store.envelope("event-1") == json.loads(body())


def test_an_unforeseen_error_of_the_lookup_affects_only_the_events_with_users() -> None:
    world = World(required=True)
    world.journal.fail_always("userdirectory.lookup", RuntimeError(PERSONAL))
    report = world.process(record(body("event-1"), "m-1"), record(quiet_body("event-2"), "m-2"), record("bad", "m-3"))
    assert failed_ids(report) == ["m-1", "m-3"]


def test_an_unknown_user_is_not_a_failure(world: World) -> None:
    world.people.users.clear()
    assert failed_ids(world.process(record(body()))) == []
    assert "userName" not in world.store.items["event-1"].text


# -- backoff -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("receives", "seconds"), [(1, 8), (2, 30), (3, 75), (4, 75), (50, 75)])
@pytest.mark.parametrize("retry_after", [None, 3_600.0])
def test_a_transient_failure_waits_longer_each_time_and_retry_after_is_the_minimum(
    world: World, receives: int, seconds: int, retry_after: float | None
) -> None:
    world.journal.fail_always("eventstore.store", Throttled("slow", retry_after=retry_after))
    world.process(record(body(), receives=receives))
    # A third of each wait is jitter here, which is added to a Retry-After.
    expected = seconds if retry_after is None else math.ceil(retry_after + min(10 * 4 ** (receives - 1), 100) / 4)
    assert world.queue.visibility == {"receipt-message-1": expected}


# -- time ----------------------------------------------------------------------------------------------------------


def test_without_time_left_all_records_are_deferred_with_ordinary_backoff(world: World) -> None:
    report = world.process(*ten(), deadline=FakeDeadline(0))
    assert failures(report) == [DEFERRED] * 10
    assert {line.status for line in world.attempt_log.records} == {Status.DEFERRED}
    assert set(world.queue.visibility.values()) == {8}
    assert world.store.items == {}


def test_time_that_runs_out_during_enrichment_defers_the_write_and_closes_the_started_attempt(world: World) -> None:
    report = world.process(record(body(), receives=2), deadline=FakeDeadline(1, 0))
    assert failures(report) == [DEFERRED]
    assert world.store.items == {}
    assert [line.status for line in world.attempt_log.records] == [Status.STARTED, Status.DEFERRED]
    assert {line.key for line in world.attempt_log.records} == {AttemptKey("event-1", "message-1", 2)}


# -- started attempts ---------------------------------------------------------------------------------------------------------


def test_a_later_receive_is_marked_as_started_and_closed_after_the_work(world: World) -> None:
    world.process(record(body(), receives=2))
    assert [line.status for line in world.attempt_log.records] == [Status.STARTED, Status.STORED]


def test_a_permanent_failure_is_not_marked_again(world: World) -> None:
    world.note("event-1", "message-1", 1, Status.FAILED, Failure.of(Rejected("too large")))
    world.store.refusals["event-1"] = Failure.of(Rejected("too large"))
    world.process(record(body(), receives=2))
    assert [line.status for line in world.attempt_log.records] == [Status.FAILED]


def test_an_unreadable_body_is_not_marked_as_started_and_is_noted_under_the_hash_of_its_bytes(world: World) -> None:
    world.process(record("oops", receives=2))
    (line,) = world.attempt_log.records
    assert (line.status, line.key.event_id) == (Status.FAILED, event_id_of_bytes("oops"))


# -- suspects ------------------------------------------------------------------------------------------------------


def test_suspects_come_last_one_at_a_time_after_the_finished_messages_are_deleted(world: World) -> None:
    for number in (1, 2):
        world.note(f"event-{number}", f"message-{number}", 1, Status.STARTED)

    def batch(receives: int) -> list[dict[str, Any]]:
        suspects = [record(body(f"event-{n}"), f"message-{n}", receives=receives) for n in (1, 2)]
        return [*suspects, record(body("event-3"), "message-3")]

    world.journal.fail("eventstore.store", None, WorkerCrashed())
    with pytest.raises(WorkerCrashed):
        world.process(*batch(2))
    assert (list(world.store.items), world.queue.deleted) == (["event-3"], ["receipt-message-3"])
    world.journal.reset()
    assert failed_ids(world.process(*batch(3))) == []
    assert list(world.store.items) == ["event-3", "event-2", "event-1"], "the one that was started last comes last"
    assert world.queue.deleted == ["receipt-message-3"] * 2 + ["receipt-message-2"]


def test_a_poison_message_does_not_affect_its_batch_records(world: World) -> None:
    """Receive 2 crashes with all ten. At receive 3 the others are stored before the poison message is processed."""

    def receive(number: int) -> list[dict[str, Any]]:
        return [record(body(f"event-{n}"), f"message-{n}", receives=number) for n in range(10)]

    world.journal.crash_after(2)  # marked as started, then crashed
    with pytest.raises(WorkerCrashed):
        world.process(*receive(2))
    world.journal.reset()
    world.process(*receive(3)[1:], deadline=FakeDeadline())
    assert sorted(world.store.items) == [f"event-{n}" for n in range(1, 10)]
    world.journal.reset()
    world.journal.crash_after(2)
    with pytest.raises(WorkerCrashed):
        world.process(receive(3)[0])
    poison = world.attempt_log.attempts[AttemptKey("event-0", "message-0", 3)]
    assert poison.status is Status.STARTED, "started and never closed is the evidence for triage"


def test_a_failed_record_is_not_deleted_with_the_finished_ones(world: World) -> None:
    world.note("event-1", "message-1", 1, Status.STARTED)
    world.store.refusals["event-2"] = Failure.of(Unavailable("down"))
    others = [record(body(f"event-{n}"), f"message-{n}") for n in (2, 3)]
    world.process(record(body("event-1"), receives=2), *others)
    assert world.queue.deleted == ["receipt-message-3"]


def test_a_suspect_is_deferred_without_time_left(world: World) -> None:
    world.note("event-1", "message-1", 1, Status.STARTED)
    report = world.process(record(body(), receives=2), deadline=FakeDeadline(0))
    assert failures(report) == [DEFERRED]


def test_a_suspect_that_was_deferred_is_still_a_suspect(world: World) -> None:
    world.note("event-1", "message-1", 1, Status.STARTED)
    world.note("event-1", "message-1", 2, Status.DEFERRED, DEFERRED)
    world.process(record(body("event-1"), receives=3), record(body("event-2"), "message-2"))
    assert world.journal.calls.count("eventstore.store") == 2, "it is processed alone"


def test_a_closed_attempt_does_not_make_a_suspect(world: World) -> None:
    world.note("event-1", "message-1", 1, Status.FAILED, Failure.of(Unavailable("down")))
    world.process(record(body("event-1"), receives=2), record(body("event-2"), "message-2"))
    assert world.journal.calls.count("eventstore.store") == 1


# -- bookkeeping ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [Unavailable("down"), RuntimeError(PERSONAL)])
def test_a_failing_attempt_log_changes_no_result(world: World, error: Exception) -> None:
    records = [record(body("event-1"), "m-1", receives=2), record("bad", "m-2", receives=2)]
    healthy = failed_ids(World().process(*records))
    for call in ("attemptlog.read", "attemptlog.write"):
        world.journal.fail_always(call, error)
    report = world.process(*records)
    assert failed_ids(report) == healthy == ["m-2"]
    assert [error.partition(":")[0] for error in report.bookkeeping_errors] == [
        "read attempts",
        "mark attempts as started",
        "write attempts",
    ]
    assert PERSONAL not in "".join(report.bookkeeping_errors)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("queue.set_visibility", "set visibility timeouts: Unavailable: down"),
        ("queue.delete", "delete finished messages: Unavailable: down"),
    ],
)
def test_a_failing_queue_changes_no_result(world: World, call: str, error: str) -> None:
    world.note("event-1", "m-1", 1, Status.STARTED)
    world.journal.fail_always(call, Unavailable("down"))
    report = world.process(record(body(), "m-1", receives=2), record(body("event-2"), "m-2"), record("bad", "m-3"))
    assert failed_ids(report) == ["m-3"]
    assert list(world.store.items) == ["event-2", "event-1"]
    assert report.bookkeeping_errors == [error]


# -- the answer to an execution ------------------------------------------------------------------------------------


def test_the_execution_of_a_redriven_record_gets_its_answer_also_for_a_duplicate(world: World) -> None:
    for message_id in ("m-1", "m-2"):
        world.executions.waiting.add("token-1")
        assert failed_ids(world.process(record(body(), message_id, attributes=stamped()))) == []
        answer = {"outcome": "STORED", "eventId": "event-1", "messageId": message_id}
        assert world.executions.answered[-1] == ("token-1", answer)
    assert list(world.store.items) == ["event-1"]


def test_without_time_for_the_answer_the_record_comes_again(world: World) -> None:
    world.executions.waiting.add("token-1")
    report = world.process(record(body(), attributes=stamped()), deadline=FakeDeadline(60, 60, 0))
    assert failures(report) == [DEFERRED]
    assert list(world.store.items) == ["event-1"]
    assert world.executions.answered == []


def test_neither_a_failed_record_nor_the_stamp_of_another_event_sends_an_answer(world: World) -> None:
    world.executions.waiting.add("token-1")
    world.store.refusals["event-1"] = Failure.of(Unavailable("down"))
    world.process(record(body(), attributes=stamped()), record(body("event-2"), "m-2", attributes=stamped()))
    assert list(world.store.items) == ["event-2"]
    assert world.executions.answered == []


@pytest.mark.parametrize("error", [Unavailable("down"), Throttled("slow"), Misconfigured("denied")])
def test_after_a_transient_error_of_the_answer_the_record_comes_again(world: World, error: HoldfastError) -> None:
    world.executions.waiting.add("token-1")
    world.journal.fail("executions.succeed", error)
    assert failed_ids(world.process(record(body(), attributes=stamped()))) == ["message-1"]
    again = world.process(record(body(), attributes=stamped(), receives=2))
    assert failed_ids(again) == []
    assert len(world.executions.answered) == 1
    assert list(world.store.items) == ["event-1"]


@pytest.mark.parametrize("error", [Rejected("token"), RuntimeError(PERSONAL)])
def test_after_a_permanent_error_of_the_answer_the_batch_is_processed(world: World, error: Exception) -> None:
    world.journal.fail_always("executions.succeed", error)
    report = world.process(record(body(), attributes=stamped()), record(body("event-2"), "m-2"))
    assert failed_ids(report) == []
    (line,) = report.bookkeeping_errors
    assert line.startswith(f"answer the execution: {type(error).__name__}")
    assert PERSONAL not in line


def test_an_execution_that_no_longer_waits_is_not_a_failure(world: World) -> None:
    report = world.process(record(body(), attributes=stamped()))
    assert (failed_ids(report), report.bookkeeping_errors) == ([], [])
