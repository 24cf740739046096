"""Example events for ``make send``: what is sent, and what has to follow."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from local.genesys import USERS_PATH
from local.traffic import CONVERSATION, BusEvent, Item, QueueBody, SecondCopy
from ops.reconciliation import Expected


@dataclass(frozen=True, slots=True)
class Sample:
    """An example.

    Attributes:
        what: What is sent, in a few words.
        follows: What the stack does with it, with the parameters that ``make up`` sets.
        items: Makes the deliveries, with new ids.
        faults: Faults of the Genesys stand-in until the event is stored or archived.
        kills_workers: Whether the worker that processes it is killed, until the event is stored or archived.
    """

    what: str
    follows: str
    items: Callable[[], Sequence[Item]]
    faults: Mapping[str, Any] = field(default_factory=dict)
    kills_workers: bool = False


def user_event() -> BusEvent:
    """An event that names a user, with new ids."""
    now = datetime.now(UTC)
    conversation = str(uuid.uuid4())
    return BusEvent(
        f"{CONVERSATION}.user.start",
        {
            "topicName": f"v2.detail.events.conversation.{conversation}.user.start",
            "version": "2",
            "timestamp": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "eventBody": {
                "eventTime": int(now.timestamp() * 1000),
                "conversationId": conversation,
                "participantId": str(uuid.uuid4()),
                "sessionId": str(uuid.uuid4()),
                "mediaType": "VOICE",
                "provider": "Edge",
                "direction": "INBOUND",
                "userId": str(uuid.uuid4()),
            },
            "metadata": {"CorrelationId": str(uuid.uuid4())},
        },
    )


def _malformed() -> QueueBody:
    return QueueBody(f'{{"id": "{uuid.uuid4()}", "detail": {{"cut off', Expected.MALFORMED)


def _invalid() -> BusEvent:
    return BusEvent(f"{CONVERSATION}.user.start", {"note": f"no eventBody {uuid.uuid4()}"}, Expected.INVALID)


SAMPLES: Mapping[str, Sample] = {
    "user": Sample(
        "an event that names a user", "It is stored with the user's name, and published.", lambda: [user_event()]
    ),
    "duplicate": Sample(
        "the same event twice",
        "It is stored and published once. The second copy changes nothing.",
        lambda: [user_event(), SecondCopy(1)],
    ),
    "outage": Sample(
        "an event that names a user, while Genesys Cloud does not answer",
        "It is stored without the name, because EnrichmentPolicy is best-effort.",
        lambda: [user_event()],
        {"down": True},
    ),
    "malformed": Sample(
        "a body that is not JSON", "It becomes a dead letter and is archived as MALFORMED.", lambda: [_malformed()]
    ),
    "invalid": Sample(
        "an event without a body", "It becomes a dead letter and is archived as INVALID.", lambda: [_invalid()]
    ),
    "poison": Sample(
        "an event whose worker is killed at every receive",
        "It is received five times, becomes a dead letter and is archived as CRASHED. Until then the visibility "
        "timeout of the buffer queue is 2 s instead of 8 minutes.",
        lambda: [user_event()],
        {"latencySeconds": 2, "path": USERS_PATH},
        kills_workers=True,
    ),
}
