"""The failure path at scale: calls at once, and what that must not change."""

from __future__ import annotations

from threading import Barrier, Thread
from typing import Any

import pytest

from holdfast.adapters import aws
from holdfast.adapters.parallel import in_parallel
from holdfast.domain.errors import Throttled
from holdfast.domain.intake import Intake, as_response, take_in
from tests.unit.samples import body, record
from tests.world import World

# -- intake --------------------------------------------------------------------------------------------------------


def letters(count: int) -> list[dict[str, Any]]:
    return [record(body(f"event-{number}"), f"message-{number}") for number in range(count)]


def parallel_intake(world: World) -> Intake:
    return Intake(world.intake.generations, world.executions, in_parallel)


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
        created.append(service)
        return Created()

    monkeypatch.setattr("holdfast.adapters.aws.boto3.client", create)
    lazy = aws._Client("s3")

    def use() -> None:
        together.wait(timeout=10)
        assert lazy.value == 1

    threads = [Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert created == ["s3"]
