"""The processor: one batch of the buffer queue, in stages, each stage once per batch.

:func:`process_batch` guarantees that every record gets a result, and that a record is reported as failed unless the
events table holds its event. Processing is at least once and safe to repeat: the table refuses duplicates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from holdfast.domain.attempts import AttemptKey
from holdfast.domain.backoff import visibility_seconds
from holdfast.domain.categories import FOR_NOW
from holdfast.domain.enrichment import Enrichment
from holdfast.domain.envelope import Event, examine
from holdfast.domain.errors import DEFERRED, Failure, TransientError, describe, guarded
from holdfast.domain.history import BatchHistory, Bookkeeping
from holdfast.domain.identity import event_id_of_bytes
from holdfast.domain.letters import Message
from holdfast.domain.ports import (
    AttemptLog,
    Clock,
    Deadline,
    EventStore,
    QueueConsumer,
    Rng,
    StorableEvent,
    Stored,
    TaskTokens,
)


@dataclass(frozen=True, slots=True)
class Record:
    """One message of the batch, with its event or the reason why there is none.

    Attributes:
        message: The message.
        receipt: Its receipt handle.
        attempt: This receive, as the attempt log identifies it.
        event: The event, or the failure to read one.
    """

    message: Message
    receipt: str
    attempt: AttemptKey
    event: Event | Failure

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Record:
        """Read a record of the event source mapping."""
        message = Message.of_record(raw)
        event_id, event = _read(message.body)
        return cls(
            message, raw["receiptHandle"], AttemptKey(event_id, message.message_id, message.receive_count), event
        )

    @property
    def event_id(self) -> str:
        """The identity of the event."""
        return self.attempt.event_id


@dataclass(frozen=True, slots=True)
class RecordResult:
    """The result of one record: the table holds its event, or the record failed."""

    record: Record
    event_result: Stored | Failure

    @property
    def failure(self) -> Failure | None:
        """Why the record failed, if it did."""
        return self.event_result if isinstance(self.event_result, Failure) else None


@dataclass(slots=True)
class BatchReport:
    """The result of a batch, and the counts for its metrics.

    Attributes:
        results: One for every record.
        enriched: Events that name users, all of whom could be looked up.
        enrichment_failures: Why users could not be looked up, once for each event that names one of them.
        bookkeeping_errors: Failures of the attempt log, of visibility timeouts, of deleting finished messages, or of
            answering executions. No event is lost by them.
    """

    results: list[RecordResult] = field(default_factory=list)
    enriched: int = 0
    enrichment_failures: list[Failure] = field(default_factory=list)
    bookkeeping_errors: list[str] = field(default_factory=list)

    def as_response(self) -> dict[str, list[dict[str, str]]]:
        """Lambda's partial batch response."""
        failed = [one.record.message.message_id for one in self.results if one.failure]
        return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}

    @property
    def failed_for_now(self) -> int:
        """How many records failed in a way that can be over later."""
        return sum(one.failure.category in FOR_NOW for one in self.results if one.failure)

    @property
    def failed_for_good(self) -> int:
        """How many records failed permanently."""
        return sum(one.failure.permanent for one in self.results if one.failure)


@dataclass(frozen=True, slots=True)
class ProcessorServices:
    """What the processor needs. ``enrichment`` is ``None`` if it is off."""

    store: EventStore
    attempt_log: AttemptLog
    queue: QueueConsumer
    task_tokens: TaskTokens
    enrichment: Enrichment | None
    backoff_base_seconds: int
    backoff_cap_seconds: int
    clock: Clock
    rng: Rng


def process_batch(
    raw_records: Sequence[Mapping[str, Any]], services: ProcessorServices, deadline: Deadline, request_id: str
) -> BatchReport:
    """Process one batch. At least once: a record is reported as failed unless its event is stored."""
    batch = _Batch(services, deadline, request_id)
    records = [Record.of(raw) for raw in raw_records]
    batch.history.load([record.attempt for record in records])
    since = {record.attempt: batch.history.suspected_since(record.attempt) for record in records}
    batch.work([record for record in records if not since[record.attempt]])
    # A suspect may crash this worker. So suspects come last, one at a time, after the finished messages were deleted.
    # The suspect whose receive started last is the most likely to crash the worker, so it is processed last.
    suspects = sorted((record for record in records if since[record.attempt]), key=lambda one: since[one.attempt])
    for suspect in suspects:
        batch.delete_finished()
        batch.work([suspect])
    return batch.report


class _Batch:
    """The work on one batch, and its report so far."""

    def __init__(self, services: ProcessorServices, deadline: Deadline, request_id: str) -> None:
        self.report = BatchReport()
        self._services = services
        self._deadline = deadline
        self._bookkeeping = Bookkeeping(self.report.bookkeeping_errors)
        self.history = BatchHistory(services.attempt_log, services.clock, request_id, self._bookkeeping)
        self._deleted = 0

    def work(self, records: Sequence[Record]) -> None:
        """Take a group of records through all stages and report on them."""
        if not records:
            return
        if self._deadline.remaining() <= 0:
            self._finish([RecordResult(record, DEFERRED) for record in records])
            return
        events = {record.event_id: record.event for record in records if isinstance(record.event, Event)}
        self.history.mark_started([record.attempt for record in records if isinstance(record.event, Event)])
        # Copies of one event are processed once and share the result: from here on the event id is the key.
        event_results = self._store(self._enrich(events))
        results = [
            RecordResult(record, record.event if isinstance(record.event, Failure) else event_results[record.event_id])
            for record in records
        ]
        self._finish([self._answer_execution(result) for result in results])

    def delete_finished(self) -> None:
        """Delete from the queue the messages whose events are stored."""
        fresh = self.report.results[self._deleted :]
        self._deleted = len(self.report.results)
        receipts = [one.record.receipt for one in fresh if not one.failure]
        if receipts:
            self._bookkeeping.run("delete finished messages", lambda: self._services.queue.delete(receipts))

    # -- stages --------------------------------------------------------------------------------------------------

    def _enrich(self, events: Mapping[str, Event]) -> Mapping[str, Event | Failure]:
        if self._services.enrichment is None:
            return events
        enriched = self._services.enrichment.enrich(events, self._deadline)
        self.report.enriched += enriched.complete
        self.report.enrichment_failures += enriched.failures
        return enriched.events

    def _store(self, events: Mapping[str, Event | Failure]) -> dict[str, Stored | Failure]:
        results: dict[str, Stored | Failure] = {}
        storable: list[StorableEvent] = []
        for event_id, event in events.items():
            if isinstance(event, Failure):
                results[event_id] = event
            else:
                storable.append(self._storable(event))
        if storable:
            results |= self._write(storable)
        return results

    def _write(self, events: Sequence[StorableEvent]) -> Mapping[str, Stored | Failure]:
        if self._deadline.remaining() <= 0:
            return {event.event_id: DEFERRED for event in events}
        stored = guarded(partial(self._services.store.store, events, self._deadline))
        return {event.event_id: stored for event in events} if isinstance(stored, Failure) else stored

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

    def _answer_execution(self, result: RecordResult) -> RecordResult:
        """Report to the execution of a redriven record that its event is stored, before the record leaves the queue.

        After a transient error the record is received again. After any other error it is not: the event is stored, and
        the execution finds it in the events table.
        """
        stamp = result.record.message.triage_stamp
        if result.failure or stamp is None or stamp.event_id != result.record.event_id:
            return result
        if self._deadline.remaining() <= 0:
            return RecordResult(result.record, DEFERRED)
        output = {"outcome": "STORED", "eventId": stamp.event_id, "messageId": result.record.message.message_id}
        try:
            self._services.task_tokens.succeed(stamp.task_token, output)
        except TransientError as error:
            return RecordResult(result.record, Failure.of(error))
        except Exception as error:  # noqa: BLE001 - the event is stored: no error here may fail it or its batch
            self.report.bookkeeping_errors.append(f"answer the execution: {describe(error)}")
        return result

    def _finish(self, results: list[RecordResult]) -> None:
        """Report on a group of records: close their attempts, and set the visibility timeout of those that failed."""
        self.report.results += results
        self.history.close({one.record.attempt: one.failure for one in results})
        seconds = {one.record.receipt: self._backoff(one.record, one.failure) for one in results if one.failure}
        if seconds:
            self._bookkeeping.run("set visibility timeouts", lambda: self._services.queue.set_visibility(seconds))

    def _backoff(self, record: Record, failure: Failure) -> int:
        """Seconds until a failed record is received again.

        It is 0 for a permanent failure: a wait would only delay the dead letter.
        """
        if failure.permanent:
            return 0
        return visibility_seconds(
            record.attempt.receive_count,
            base=self._services.backoff_base_seconds,
            cap=self._services.backoff_cap_seconds,
            rng=self._services.rng,
            retry_after=failure.retry_after,
        )


def _read(body: str) -> tuple[str, Event | Failure]:
    """The event id of a body, and its event or why it has none."""
    examined = guarded(partial(examine, body))
    if isinstance(examined, Failure):
        return event_id_of_bytes(body), examined
    content = examined.content
    return examined.event_id, content if isinstance(content, Event) else Failure.of(content)


def stored_count(results: Iterable[RecordResult], kind: Stored) -> int:
    """How many events were stored as one kind."""
    return sum(one.event_result is kind for one in results)
