"""The attempt history of a batch: how earlier receives of its messages ended, and which messages are suspects.

All of it is bookkeeping: if the attempt log fails, the results of the records do not change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from holdfast.domain.attempts import Attempt, AttemptKey, Status
from holdfast.domain.envelope import format_time
from holdfast.domain.errors import Failure, describe
from holdfast.domain.ports import AttemptLog, Clock

T = TypeVar("T")


@dataclass(slots=True)
class Bookkeeping:
    """Runs calls whose failure must not change the result of any record, and keeps their errors."""

    errors: list[str] = field(default_factory=list)

    def run(self, what: str, call: Callable[[], T]) -> T | None:
        """Run one call. Returns ``None`` if it failed."""
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - a failing attempt log or queue never changes a record's result
            self.errors.append(f"{what}: {describe(error)}")
            return None


@dataclass(slots=True)
class BatchHistory:
    """Reads and writes the attempt records of one batch."""

    attempt_log: AttemptLog
    clock: Clock
    request_id: str
    bookkeeping: Bookkeeping
    _last: dict[AttemptKey, Attempt] = field(default_factory=dict)
    _marked: set[AttemptKey] = field(default_factory=set)

    def load(self, keys: Sequence[AttemptKey]) -> None:
        """Read the last attempt of every message that was received before. A batch of new messages needs no call."""
        earlier = {key: key.earlier() for key in keys if key.receive_count > 1}
        if not earlier:
            return
        wanted = {key for before in earlier.values() for key in before}
        found = self.bookkeeping.run("read attempts", lambda: self.attempt_log.read(wanted)) or {}
        for own, before in earlier.items():
            # A deferred attempt did no work, so it says nothing about the event.
            worked = (found[key] for key in before if key in found and found[key].status is not Status.DEFERRED)
            last = next(worked, None)
            if last:
                self._last[own] = last

    def suspected_since(self, key: AttemptKey) -> str:
        """When the last attempt was started, if it was not closed: a crash is possible. Otherwise empty."""
        last = self._last.get(key)
        return last.at if last and last.status is Status.STARTED else ""

    def mark_started(self, keys: Sequence[AttemptKey]) -> None:
        """Record that work on these messages begins, if they were received before.

        A crash of the worker can then be distinguished from a throttled invocation. A message whose last failure was
        permanent fails before any work that could crash, so it is not marked.
        """
        again = [key for key in keys if key.receive_count > 1 and not self._failed_permanently(key)]
        records = [self._record(key, Status.STARTED) for key in again]
        if records:
            self.bookkeeping.run("mark attempts as started", lambda: self.attempt_log.write(records))
        self._marked.update(again)

    def close(self, results: Mapping[AttemptKey, Failure | None]) -> None:
        """Record how attempts ended: every failure, and every success of a message that was marked."""
        records = [
            self._closed(key, failure) for key, failure in results.items() if failure is not None or key in self._marked
        ]
        if records:
            self.bookkeeping.run("write attempts", lambda: self.attempt_log.write(records))

    def _closed(self, key: AttemptKey, failure: Failure | None) -> Attempt:
        if failure is None:
            return self._record(key, Status.STORED)
        return self._record(key, Status.DEFERRED if failure.deferred else Status.FAILED, failure)

    def _record(self, key: AttemptKey, status: Status, failure: Failure | None = None) -> Attempt:
        return Attempt(key, status, format_time(self.clock()), self.request_id, failure)

    def _failed_permanently(self, key: AttemptKey) -> bool:
        last = self._last.get(key)
        return last is not None and last.failure is not None and last.failure.permanent
