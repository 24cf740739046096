"""Redrive records: the stamps of redriven messages that have no room for one.

A message with ten attributes or with a body near 1 MiB goes back to the buffer without the ``Triage`` attribute. Its
stamp is kept in the archive bucket instead, so that the intake finds the waiting execution when the message reaches the
dead-letter queue again. One folder for each event, body and task token::

    redrives/<eventId>/<hash of the body>/<hash of the task token>/sending.json    written before the message is sent
    redrives/<eventId>/<hash of the body>/<hash of the task token>/<messageId>.json    written after it was sent

Both objects hold the stamp and nothing of the message. They are never changed. A lifecycle rule of the bucket deletes
them after SQS has deleted the message.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from holdfast.domain.letters import DeadLetter, TriageStamp
from holdfast.domain.ports import DeadLetterStore, ObjectCreator, StoredObject

REDRIVE_PREFIX = "redrives/"
_SENDING = "sending"
#: S3 and SQS do not share a clock.
_CLOCK_SKEW_MS = 60_000


def note_sending(store: ObjectCreator, letter: DeadLetter, stamp: TriageStamp) -> None:
    """Record that a message without a stamp is about to be sent."""
    store.create(_key(letter, stamp, _SENDING), stamp.write())


def note_sent(store: ObjectCreator, letter: DeadLetter, stamp: TriageStamp, message_id: str) -> None:
    """Record the id of the message that was sent."""
    store.create(_key(letter, stamp, message_id), stamp.write())


def stamp_of(letter: DeadLetter, store: DeadLetterStore) -> TriageStamp | None:
    """Return the stamp of the redrive that sent this message: from the message, or from a redrive record.

    If no record has this message id, the latest redrive of the same body without a recorded message id counts:
    RedriveFunction crashed after sending, or has not written the id yet.
    """
    if letter.stamp or letter.message.has_room_for_stamp:
        return letter.stamp
    found = list(store.list(_folder(letter)))
    own = [one.key for one in found if one.key.endswith(f"/{letter.message.message_id}.json")]
    keys = own or [one.key for one in _unconfirmed(found) if _may_have_sent(one, letter)]
    stamp = TriageStamp.read(store.read(keys[-1]) or "") if keys else None
    return stamp if stamp and stamp.event_id == letter.event_id else None


def _unconfirmed(found: Iterable[StoredObject]) -> list[StoredObject]:
    """The redrives whose message id was not recorded, the latest last."""
    by_redrive: dict[str, list[StoredObject]] = {}
    for one in found:
        by_redrive.setdefault(one.key.rpartition("/")[0], []).append(one)
    alone = [records[0] for records in by_redrive.values() if len(records) == 1]
    return sorted((one for one in alone if one.key.endswith(f"/{_SENDING}.json")), key=lambda one: one.modified)


def _may_have_sent(record: StoredObject, letter: DeadLetter) -> bool:
    """Whether the message was sent after the record was written. A producer's copy was usually sent before."""
    sent_at = letter.message.sent_at_ms
    return not sent_at or sent_at + _CLOCK_SKEW_MS >= record.modified.timestamp() * 1000


def _key(letter: DeadLetter, stamp: TriageStamp, name: str) -> str:
    return f"{_folder(letter)}{_hash(stamp.task_token)}/{name}.json"


def _folder(letter: DeadLetter) -> str:
    return f"{REDRIVE_PREFIX}{letter.event_id}/{_hash(letter.message.body)}/"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
