"""The hot path: one batch of the buffer queue, in stages, each stage once per batch.

:func:`process_batch` guarantees that a record is reported failed unless the events table holds its event, and that
every record gets a result. It is at least once by nature and safe to run twice: the table refuses duplicates.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from holdfast.domain.attempts import Attempt, AttemptKey, Status, crashed
from holdfast.domain.backoff import visibility_seconds
from holdfast.domain.envelope import Event, decode, format_time, identify
from holdfast.domain.errors import DEFERRED, Failure, TransientError
from holdfast.domain.letters import Message
from holdfast.domain.ports import (
    AttemptLog,
    Clock,
    Deadline,
    EventStore,
    Executions,
    Queue,
    Rng,
    StorableEvent,
    Stored,
    UserDirectory,
)

A = TypeVar("A")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Record:
    """One message of the batch: the event in it or why there is none, and the receipt by which its queue knows it."""

    message: Message
    receipt: str
    #: This receive, as the attempt log knows it.
    attempt: AttemptKey
    event: Event | Failure

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Record:
        """Take over a record of the event source mapping and decode its body."""
        message = Message.of_record(raw)
        event = _guarded(decode, message.body)
        event_id = event.event_id if isinstance(event, Event) else identify(message.body)[0]
        attempt = AttemptKey(event_id, message.message_id, message.receive_count)
        return cls(message, raw["receiptHandle"], attempt, event)

    @property
    def event_id(self) -> str:
        """Who the event is."""
        return self.attempt.event_id

    @property
    def again(self) -> bool:
        """Whether it was received before."""
        return self.attempt.receive_count > 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one record: the table holds its event, or it failed."""

    record: Record
    result: Stored | Failure

    @property
    def failure(self) -> Failure | None:
        """Why it failed, if it did."""
        return self.result if isinstance(self.result, Failure) else None


@dataclass(slots=True)
class BatchReport:
    """The result of a batch, and the figures that the metrics tell."""

    outcomes: list[Outcome] = field(default_factory=list)
    enriched: int = 0
    #: Why users could not be looked up, once for each event that names them.
    enrichment_failures: list[Failure] = field(default_factory=list)
    #: What could not be noted or told, and why; no event is lost by it.
    bookkeeping_errors: list[str] = field(default_factory=list)

    @property
    def failures(self) -> list[Outcome]:
        """The records that have to come again."""
        return [outcome for outcome in self.outcomes if outcome.failure]

    def as_response(self) -> dict[str, list[dict[str, str]]]:
        """Lambda's partial batch response."""
        return {"batchItemFailures": [{"itemIdentifier": o.record.message.message_id} for o in self.failures]}


@dataclass(frozen=True, slots=True)
class Processing:
    """What processing needs of the world, and its settings. ``directory`` is ``None`` where enrichment is off."""

    store: EventStore
    attempt_log: AttemptLog
    queue: Queue
    executions: Executions
    user_directory: UserDirectory | None
    enrichment_required: bool
    backoff_base_seconds: int
    backoff_cap_seconds: int
    clock: Clock
    rng: Rng


def process_batch(
    raw_records: Sequence[Mapping[str, Any]], services: Processing, deadline: Deadline, request_id: str
) -> BatchReport:
    """Work through one batch. At least once: a record is reported failed unless its event is stored."""
    batch = _Batch(services, deadline, request_id)
    records = [Record.of(raw) for raw in raw_records]
    last = batch.last_attempts(records)
    started = {key: attempt.at for key, attempt in last.items() if crashed([attempt])}
    batch.work([record for record in records if record.attempt not in started], last)
    # The one that a worker started on most recently is the likeliest killer and comes last: ahead of its mates it would
    # kill before them at every receive, until all of them are dead letters.
    suspects = [record for record in records if record.attempt in started]
    for suspect in sorted(suspects, key=lambda record: started[record.attempt]):
        # A suspect may kill this worker, so whatever is finished leaves the queue before it is touched.
        batch.release_finished()
        batch.work([suspect], last)
    return batch.report


class _Batch:
    """The work on one batch: its report so far, and the stages."""

    def __init__(self, services: Processing, deadline: Deadline, request_id: str) -> None:
        self.report = BatchReport()
        self._services = services
        self._deadline = deadline
        self._request_id = request_id
        self._released = 0

    def last_attempts(self, records: Sequence[Record]) -> dict[AttemptKey, Attempt]:
        """For every record that comes again: its last attempt that was not just deferred. Happy batches ask nothing."""
        earlier = {record.attempt: record.attempt.earlier() for record in records if record.again}
        if not earlier:
            return {}
        asked = {key for keys in earlier.values() for key in keys}
        found = self._tried("read attempts", lambda: self._services.attempt_log.read(asked)) or {}
        worked = {key: attempt for key, attempt in found.items() if attempt.status is not Status.DEFERRED}
        latest = {own: next((worked[key] for key in keys if key in worked), None) for own, keys in earlier.items()}
        return {own: attempt for own, attempt in latest.items() if attempt}

    def work(self, records: Sequence[Record], last: Mapping[AttemptKey, Attempt]) -> None:
        """Take a group of records through all stages and report on it."""
        if not records:
            return
        if self._deadline.remaining() <= 0:
            self._finish([Outcome(record, DEFERRED) for record in records], frozenset())
            return
        marked = self._mark_started(records, last)
        # Copies of one event are worked on once and share the result: from here on the event id is the key.
        events = {record.event_id: record.event for record in records if isinstance(record.event, Event)}
        results = self._stored(self._enriched(events))
        outcomes = [
            Outcome(record, record.event if isinstance(record.event, Failure) else results[record.event_id])
            for record in records
        ]
        self._finish([self._answered(outcome) for outcome in outcomes], marked)

    def release_finished(self) -> None:
        """Delete from the queue what is stored and not yet deleted."""
        fresh = self.report.outcomes[self._released :]
        self._released = len(self.report.outcomes)
        receipts = [outcome.record.receipt for outcome in fresh if not outcome.failure]
        if receipts:
            self._tried("delete finished messages", lambda: self._services.queue.delete(receipts))

    # -- stages --------------------------------------------------------------------------------------------------

    def _mark_started(self, records: Sequence[Record], last: Mapping[AttemptKey, Attempt]) -> frozenset[AttemptKey]:
        """Mark what comes again, so that a death of this worker can be told from a throttle.

        Not where the last failure was permanent: such a record fails before any work that could kill.
        """
        again = [record for record in records if record.again]
        marks = [self._attempt(r.attempt, Status.STARTED) for r in again if not _failed_for_good(r, last)]
        if marks:
            self._tried("mark attempts", lambda: self._services.attempt_log.write(marks))
        return frozenset(mark.key for mark in marks)

    def _enriched(self, events: Mapping[str, Event]) -> Mapping[str, Event | Failure]:
        """Add what the API knows of the users that the events name, or what the policy wants where it cannot tell."""
        user_directory = self._services.user_directory
        if user_directory is None:
            return events
        places = {key: event.references for key, event in events.items() if event.references}
        if not places:
            return events
        user_ids = {place.user_id for found in places.values() for place in found}
        failure: Failure | None = None
        try:
            users = user_directory.lookup(user_ids, self._deadline)
        except Exception as error:  # noqa: BLE001 - whatever it was, it is the failure of these events
            failure, users = Failure.of(error), user_directory.cached(user_ids)
        for key in places:
            events[key].enrich(users)
        affected = {key for key, found in places.items() if any(place.user_id not in users for place in found)}
        self.report.enriched += len(places) - len(affected)
        return self._without_users(events, affected, failure) if failure else events

    def _without_users(
        self, events: Mapping[str, Event], affected: Collection[str], failure: Failure
    ) -> Mapping[str, Event | Failure]:
        """Users could not be looked up: their events fail with it, or go on and say so, as the policy wants."""
        self.report.enrichment_failures += [failure] * len(affected)
        if self._services.enrichment_required:
            return {**events, **dict.fromkeys(affected, failure)}
        for key in affected:
            self._tried("mark an event", partial(events[key].mark, "enrichmentError", failure.category))
        return events

    def _stored(self, events: Mapping[str, Event | Failure]) -> dict[str, Stored | Failure]:
        results: dict[str, Stored | Failure] = {}
        storable: list[StorableEvent] = []
        for event_id, event in events.items():
            made = _guarded(self._storable, event) if isinstance(event, Event) else event
            if isinstance(made, Failure):
                results[event_id] = made
            else:
                storable.append(made)
        if storable:
            results |= self._write(storable)
        return results

    def _write(self, events: Sequence[StorableEvent]) -> Mapping[str, Stored | Failure]:
        if self._deadline.remaining() <= 0:
            return {event.event_id: DEFERRED for event in events}
        try:
            return self._services.store.store(events, self._deadline)
        except Exception as error:  # noqa: BLE001 - any death of the store is the failure of these events, each reported
            return {event.event_id: Failure.of(error) for event in events}

    def _storable(self, event: Event) -> StorableEvent:
        return StorableEvent(
            event_id=event.event_id,
            source=event.source,
            detail_type=event.detail_type,
            event_time=event.time,
            conversation_id=event.conversation_id,
            received_at=self._services.clock(),
            text=event.text,
        )

    def _answered(self, outcome: Outcome) -> Outcome:
        """Tell the execution behind a redriven record that its event is stored, before the record is let go.

        If that fails for now the record comes again; if it fails for good the record goes, and the table tells.
        """
        stamp = outcome.record.message.triage
        if outcome.failure or stamp is None or stamp.event_id != outcome.record.event_id:
            return outcome
        if self._deadline.remaining() <= 0:
            return Outcome(outcome.record, DEFERRED)
        told = {"outcome": "STORED", "eventId": stamp.event_id, "messageId": outcome.record.message.message_id}
        try:
            self._services.executions.succeed(stamp.task_token, told)
        except TransientError as error:
            return Outcome(outcome.record, Failure.of(error))
        except Exception as error:  # noqa: BLE001 - the event is stored, so neither it nor its mates may fail of this
            self.report.bookkeeping_errors.append(f"answer the execution: {type(error).__name__}")
        return outcome

    def _finish(self, outcomes: list[Outcome], marked: frozenset[AttemptKey]) -> None:
        """Report on a group: an attempt record and a visibility timeout for each failure; close what was marked."""
        self.report.outcomes += outcomes
        lines = [self._line(outcome) for outcome in outcomes if outcome.failure or outcome.record.attempt in marked]
        if lines:
            self._tried("note attempts", lambda: self._services.attempt_log.write(lines))
        seconds = {o.record.receipt: self._backoff(o.record, o.failure) for o in outcomes if o.failure}
        if seconds:
            self._tried("set visibility", lambda: self._services.queue.set_visibility(seconds))

    # -- helpers -------------------------------------------------------------------------------------------------

    def _line(self, outcome: Outcome) -> Attempt:
        failure = outcome.failure
        if failure is None:
            return self._attempt(outcome.record.attempt, Status.STORED)
        status = Status.DEFERRED if failure is DEFERRED else Status.FAILED
        return self._attempt(outcome.record.attempt, status, failure)

    def _attempt(self, key: AttemptKey, status: Status, failure: Failure | None = None) -> Attempt:
        return Attempt(key, status, format_time(self._services.clock()), self._request_id, failure)

    def _backoff(self, record: Record, failure: Failure) -> int:
        """Permanent: at once, so that it reaches the dead-letter queue in seconds. Everything else waits its turn."""
        if failure.permanent:
            return 0
        return visibility_seconds(
            record.attempt.receive_count,
            base=self._services.backoff_base_seconds,
            cap=self._services.backoff_cap_seconds,
            rng=self._services.rng,
            retry_after=failure.retry_after,
        )

    def _tried(self, what: str, call: Callable[[], T]) -> T | None:
        """Bookkeeping must not cost an event: a failure is told as a trouble and the record's own result stands."""
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - the attempt log or the queue being down never changes a record's result
            self.report.bookkeeping_errors.append(f"{what}: {type(error).__name__}")
            return None


def _failed_for_good(record: Record, last: Mapping[AttemptKey, Attempt]) -> bool:
    attempt = last.get(record.attempt)
    return isinstance(record.event, Failure) or (
        attempt is not None and attempt.failure is not None and attempt.failure.permanent
    )


def _guarded(step: Callable[[A], T], value: A) -> T | Failure:
    """One record's own failure, whatever it is, stays its own."""
    try:
        return step(value)
    except Exception as error:  # noqa: BLE001 - a record that trips our code must not take its batch-mates with it
        return Failure.of(error)


def stored_count(outcomes: Iterable[Outcome], kind: Stored) -> int:
    """How many outcomes are of one kind."""
    return sum(outcome.result is kind for outcome in outcomes)
