"""The failure path at scale: calls at once, and what that must not change."""

from __future__ import annotations

import time
from threading import Barrier, Thread
from typing import Any

import pytest

from benchmarks import capacity, simulations
from holdfast.adapters import aws
from holdfast.adapters.batches import BACKOFF_CAP_SECONDS
from holdfast.adapters.eventbridge import EnrichedBus
from holdfast.adapters.pace import Pace
from holdfast.adapters.parallel import in_parallel
from holdfast.domain.errors import Throttled
from holdfast.domain.fan_out import Answers, Publication
from holdfast.domain.intake import IntakeServices, as_response, take_in
from tests.fakes import FakeDeadline
from tests.unit.samples import body, record
from tests.world import World

# -- fan-out -------------------------------------------------------------------------------------------------------


class BusClient:
    """EventBridge. The answer to an entry is the next of its codes; ``None`` accepts it, and so does an empty list."""

    def __init__(self, codes: dict[str, list[str | None]], together: int = 1) -> None:
        self.codes = codes
        self.accepted: list[str] = []
        self.together = Barrier(together)

    def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - boto3's name
        if self.together.parties > 1:
            self.together.wait(timeout=10)
        answers: list[dict[str, str]] = []
        for entry in Entries:
            codes = self.codes.get(entry["Detail"], [])
            code = codes.pop(0) if codes else None
            answers.append({"ErrorCode": code} if code else {"EventId": "x"})
            self.accepted += [] if code else [entry["Detail"]]
        return {"FailedEntryCount": sum("ErrorCode" in one for one in answers), "Entries": answers}


def publications(count: int) -> list[Publication]:
    return [Publication(str(number), f"event-{number}", "topic", f"{number}") for number in range(count)]


def test_the_requests_of_a_batch_are_sent_at_once() -> None:
    bus = BusClient({}, together=10)
    answers = EnrichedBus(bus, "bus", in_parallel).publish_all(publications(100), FakeDeadline(0))
    assert answers == Answers()
    assert sorted(bus.accepted, key=int) == [str(number) for number in range(100)]


def test_a_refused_entry_is_sent_again_until_the_time_is_up() -> None:
    waits: list[float] = []
    bus = BusClient({"3": ["ThrottlingException"] * 8, "14": ["InternalFailure"] * 1_000})
    deadline = FakeDeadline(*[30.0] * 20, 0.0)
    answers = EnrichedBus(bus, "bus", map, sleep=waits.append).publish_all(publications(20), deadline)
    assert [one.event_id for one in answers.refused] == ["event-14"]
    assert len(bus.accepted) == 19
    assert len(waits) == 20
    assert max(waits) <= BACKOFF_CAP_SECONDS


def test_refused_events_are_reported_in_the_order_of_the_stream() -> None:
    bus = BusClient({"27": ["ThrottlingException"], "5": ["ThrottlingException"]})
    answers = EnrichedBus(bus, "bus", in_parallel).publish_all(publications(40), FakeDeadline(0))
    assert [one.sequence_number for one in answers.refused] == ["5", "27"]


def test_a_second_publication_of_an_event_is_sent_after_the_first_was_accepted() -> None:
    first, second = Publication("1", "event-1", "t", "first"), Publication("2", "event-1", "t", "second")
    bus = BusClient({"first": ["ThrottlingException"] * 3})
    EnrichedBus(bus, "bus", in_parallel, sleep=lambda _: None).publish_all([first, second], FakeDeadline(30))
    assert bus.accepted == ["first", "second"]


# -- sweep ---------------------------------------------------------------------------------------------------------


def test_calls_begin_at_an_even_rate() -> None:
    now = [100.0]
    begun: list[float] = []

    def sleep(seconds: float) -> None:
        now[0] += seconds

    pace = Pace(8, clock=lambda: now[0], sleep=sleep)
    for _ in range(5):
        pace.wait()
        begun.append(now[0] - 100)
    now[0] += 60
    pace.wait()
    assert begun == [0, 0.125, 0.25, 0.375, 0.5]
    assert now[0] == 160.5, "after a pause there is no burst and no wait"


def test_a_day_of_sweeps_stays_within_the_quotas_and_adopts_every_letter() -> None:
    assert simulations.sweep(5_000) == 5_000


# -- replay --------------------------------------------------------------------------------------------------------


def test_a_replay_reports_every_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POWERTOOLS_LOG_LEVEL", "CRITICAL")
    assert simulations.replay(2_500) == 2_500


# -- the capacity model --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stored", "published"), [(100, 1_500), (500, 1_500), (501, 3_000), (5_000, 10_000)])
def test_the_fan_out_grows_with_the_shards_of_the_table_up_to_the_quota(stored: float, published: float) -> None:
    assert capacity.fan_out_per_second(stored) == published


def test_a_million_letters_take_days() -> None:
    assert capacity.sweep_days(1_000_000) == 10
    assert round(capacity.replay_hours(1_000_000)) == 139


# -- intake --------------------------------------------------------------------------------------------------------


def letters(count: int) -> list[dict[str, Any]]:
    return [record(body(f"event-{number}"), f"message-{number}") for number in range(count)]


def parallel_intake(world: World) -> IntakeServices:
    return IntakeServices(world.intake.triage, world.executions, in_parallel)


def test_the_letters_of_a_batch_are_taken_in_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    together = Barrier(10)
    write = world.objects.create

    def wait_and_write(key: str, text: str) -> bool:
        together.wait(timeout=10)
        return write(key, text)

    monkeypatch.setattr(world.objects, "create", wait_and_write)
    taken = take_in(letters(10), parallel_intake(world))
    assert [one.message_id for one in taken] == [f"message-{number}" for number in range(10)]
    assert as_response(taken) == {"batchItemFailures": []}
    assert len(world.executions.running) == 10


def test_every_execution_starts_after_its_own_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    start = world.executions.start

    def start_with_snapshot(name: str, execution_input: Any) -> bool:
        assert execution_input["snapshots"][0] in world.objects.texts
        return start(name, execution_input)

    monkeypatch.setattr(world.executions, "start", start_with_snapshot)
    assert as_response(take_in(letters(10), parallel_intake(world))) == {"batchItemFailures": []}


def test_a_letter_that_is_throttled_in_a_parallel_batch_stays_in_the_queue_alone() -> None:
    world = World()
    world.journal.fail("executions.start", Throttled("too fast"))
    failed = as_response(take_in(letters(10), parallel_intake(world)))["batchItemFailures"]
    assert len(failed) == 1
    assert len(world.executions.running) == 9
    assert len(world.objects.texts) == 10


def test_a_client_is_created_once_by_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    created: list[str] = []
    together = Barrier(8)

    class Created:
        value = 1

    def create(service: str, **_: Any) -> Created:
        time.sleep(0.01)
        created.append(service)
        return Created()

    monkeypatch.setattr("holdfast.adapters.aws.boto3.client", create)
    lazy = aws._Client("s3", aws._CONFIG)

    def use() -> None:
        together.wait(timeout=10)
        assert lazy.value == 1

    threads = [Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert created == ["s3"]
