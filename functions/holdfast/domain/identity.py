"""The identity of an event in keys, names and paths.

The producer chooses an event's id, so the id is never used as a key directly. :func:`to_event_id` returns the only form
that is used in keys, names and paths.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

#: The form of an id of Genesys Cloud: a pattern without groups.
UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TAIL_LIMIT = 20
_EXECUTION_NAME = re.compile(r"-([0-9a-f]{16})-[A-Za-z0-9]{1,32}(?:-g\d+)?$")
#: https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html
EXECUTION_NAME_LIMIT = 80


def producer_id_of(envelope: Any) -> str | None:
    """Return the producer's id: the envelope's ``id``, else ``detail.id``, else ``None``."""
    if not isinstance(envelope, dict):
        return None
    detail = envelope.get("detail")
    inner = detail.get("id") if isinstance(detail, dict) else None
    return next((value for value in (envelope.get("id"), inner) if isinstance(value, str) and value), None)


def to_event_id(producer_id: str) -> str:
    """Return the ``eventId``: the producer's id if it is safe in a key, else a hash of it. A redrive keeps it."""
    return producer_id if _PLAIN_ID.fullmatch(producer_id) else _hashed(producer_id)


def event_id_of_bytes(body: str) -> str:
    """Return the ``eventId`` of a body without an id: a hash of its bytes."""
    return _hashed(body)


def execution_name(detail_type: str, event_id: str, message_id: str, generation: int = 0) -> str:
    """Return the name of a triage execution: ``<end of the topic>-<hash of the event id>-<message id>[-g<n>]``.

    The name is deterministic, so that a second delivery of the same dead letter finds the execution of the first one.
    It has at most 80 characters and contains no personal data.
    """
    suffix = f"-g{generation}" if generation else ""
    return f"{topic_end(detail_type)}-{event_digest(event_id)}-{_compact(message_id)}{suffix}"


def event_digest(event_id: str, length: int = 16) -> str:
    """Return the hash that is part of the names of an event's executions and archive objects."""
    return hashlib.sha256(event_id.encode()).hexdigest()[:length]


def digest_in(execution: str) -> str | None:
    """Return the event's hash in the name of an execution that the intake or the sweep started."""
    found = _EXECUTION_NAME.search(execution)
    return found[1] if found else None


def names_execution_of(execution: str, event_id: str) -> bool:
    """Whether the execution's name contains the hash of this event id. A name that an operator chose may not."""
    return event_digest(event_id) in execution.rpartition(":")[2]


def topic_end(detail_type: str) -> str:
    """Return the last words of a topic, at most 20 characters, as the names of executions contain them.

    It is ``acd-start`` for ``v2.detail.events.conversation.{id}.acd.start``.
    """
    between_ids = (re.findall(r"[A-Za-z0-9]+", part) for part in reversed(detail_type.split("{id}")))
    words = next(filter(None, between_ids), ["letter"])
    while len("-".join(words)) > _TAIL_LIMIT and len(words) > 1:
        words.pop(0)
    return "-".join(words)[-_TAIL_LIMIT:]


def _compact(message_id: str) -> str:
    """Return a message id without dashes (32 characters from SQS). Anything else is hashed to the same length."""
    compact = message_id.replace("-", "")
    if re.fullmatch(r"[A-Za-z0-9]{1,32}", compact):
        return compact
    return hashlib.sha256(message_id.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _hashed(text: str) -> str:
    return "sha256-" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
