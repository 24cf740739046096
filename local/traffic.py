"""Synthetic traffic: events in the shapes of Genesys Cloud, second copies, and invalid bodies.

No data was captured: ids are random, names come from a list, and phone numbers are from the range reserved for fiction.
:func:`burst` plans the traffic, ``local.sending`` sends it.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from holdfast.domain.envelope import format_time
from ops.reconciliation import Expected

CONVERSATION = "v2.detail.events.conversation.{id}"
#: The share of the burst that is sent before the outage of Genesys, and before its end.
OUTAGE_FROM = 0.4
OUTAGE_TO = 0.7

_WORDS = ("hello", "my", "order", "has", "not", "arrived", "could", "you", "look", "please", "señor", "東京", "café")
_FIRST = ("Ada", "Björn", "Chiara", "Dmitri", "Élodie", "Femi", "Grace", "Haruki")
_TOO_DEEP = 50_000
#: During the outage one in this many events names an agent who was not seen before.
NEW_AGENT_EVERY = 15

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class BusEvent:
    """An event for the bus. EventBridge adds the envelope and the id."""

    detail_type: str
    detail: Json
    expected: Expected = Expected.STORED
    source: str = "genesys.cloud"

    @property
    def names_user(self) -> bool:
        """Whether enrichment has to look up a user."""
        text = json.dumps(self.detail)
        return '"userId"' in text or '"answeredUserId"' in text or self.detail_type.startswith("v2.users.")


@dataclass(frozen=True, slots=True)
class QueueBody:
    """A body that EventBridge would not produce. It goes straight into the buffer queue."""

    text: str
    expected: Expected


@dataclass(frozen=True, slots=True)
class SecondCopy:
    """A second delivery of the valid event that was sent ``back`` events before."""

    back: int


Item = BusEvent | QueueBody | SecondCopy


def burst(count: int, rng: random.Random, now: datetime, *, new_agent_every: int = NEW_AGENT_EVERY) -> list[Item]:
    """Plan a burst of ``count`` deliveries.

    During the outage some events name new agents. Only these events fail: the processor caches the other agents.

    Args:
        count: How many deliveries, second copies and invalid bodies included.
        rng: The only source of randomness.
        now: The time of the first event.
        new_agent_every: During the outage one in this many events names a new agent.
    """
    invalid: list[Item] = [*_bodies(rng), *_invalid_events(rng, now)]
    copies = count // 18
    valid = count - len(invalid) - copies
    maker = _Maker(rng, now, new_agent_every)
    plan: list[Item] = [maker.event(number / valid) for number in range(valid)]
    for item in invalid:
        plan.insert(rng.randrange(len(plan) + 1), item)
    for _ in range(copies):
        plan.insert(rng.randrange(len(plan) // 10, len(plan) + 1), SecondCopy(rng.randrange(1, 30)))
    return plan


class _Maker:
    """Makes events, each a few milliseconds after the one before."""

    def __init__(self, rng: random.Random, now: datetime, new_agent_every: int) -> None:
        self._rng = rng
        self._now = now
        self._new_agent_every = new_agent_every
        self._number = 0
        self._early_shift = [self._id() for _ in range(12)]
        self._late_shift = [self._id() for _ in range(24)]
        self._agents = self._early_shift
        self._organisation = self._id()
        self._makers: dict[Callable[[], BusEvent], int] = {
            self._customer: 20,
            self._acd_start: 17,
            self._acd_end: 5,
            self._user: 12,
            self._transcription: 12,
            self._audit: 5,
            self._presence: 9,
            self._operation: 8,
            self._plain: 12,
        }

    def event(self, progress: float) -> BusEvent:
        """The next event; ``progress`` is the share of the burst that is over."""
        self._now += timedelta(milliseconds=self._rng.randrange(1, 12))
        self._number += 1
        new_agent = OUTAGE_FROM <= progress < OUTAGE_TO and self._number % self._new_agent_every == 0
        self._agents = self._late_shift if new_agent or progress >= OUTAGE_TO else self._early_shift
        maker = self._rng.choices(list(self._makers), list(self._makers.values()))[0]
        return self._user() if new_agent else maker()

    # -- topics ------------------------------------------------------------------------------------------------

    def _customer(self) -> BusEvent:
        contacts = {
            "externalContactId": self._id(),
            "externalOrganizationId": self._id(),
            "conversationExternalContactIds": [self._id()],
        }
        return self._start_or_end("customer", self._conversation() | contacts)

    def _acd_start(self) -> BusEvent:
        return self._detail_event("acd.start", self._queued())

    def _acd_end(self) -> BusEvent:
        ended = {
            "disconnectType": "TRANSFER",
            "acdOutcome": "ANSWERED",
            "answeredUserId": self._agent(),
            "usedRouting": "STANDARD",
            "connectedDurationMs": self._rng.randrange(60_000),
            "flowType": "INBOUNDCALL",
        }
        return self._detail_event("acd.end", self._queued() | ended)

    def _user(self) -> BusEvent:
        body = self._conversation() | {"userId": self._agent(), "queueId": self._id(), "divisionId": self._id()}
        return self._start_or_end("user", body)

    def _transcription(self) -> BusEvent:
        conversation = self._id()
        body = {
            "eventTime": self._iso(),
            "organizationId": self._organisation,
            "conversationId": conversation,
            "communicationId": self._id(),
            "sessionStartTimeMs": self._milliseconds(),
            "transcripts": [self._utterance() for _ in range(self._rng.randrange(1, 4))],
            "status": {"offsetMs": self._rng.randrange(90_000), "status": "SESSION_ONGOING"},
        }
        return self._genesys("v2.conversations.{id}.transcription", conversation, body)

    def _audit(self) -> BusEvent:
        entity = self._id()
        body = {
            "id": self._id(),
            "userId": self._agent(),
            "username": {"name": self._rng.choice(_FIRST)},
            "clientId": {},
            "serviceName": "Routing",
            "eventTime": self._iso(),
            "action": "Update",
            "entityType": "Queue",
            "entity": {"id": entity, "name": "Orders"},
            "propertyChanges": [{"property": "acwTimeoutMs", "oldValues": ["10000"], "newValues": ["15000"]}],
        }
        return self._genesys("v2.audits.entitytype.{id}.entityid.{id}", f"queue.entityid.{entity}", body)

    def _presence(self) -> BusEvent:
        body = {
            "source": "PURECLOUD",
            "presenceDefinition": {"id": self._id(), "systemPresence": self._rng.choice(("ON_QUEUE", "AWAY"))},
            "primary": True,
            "message": "",
            "modifiedDate": self._iso(),
        }
        return self._genesys("v2.users.{id}.presence", self._agent(), body)

    def _operation(self) -> BusEvent:
        body = {
            "eventEntity": "TRUNK",
            "entityId": self._id(),
            "entityName": "trunk-2",
            "previousValue": "IN_SERVICE",
            "currentValue": "DEGRADED",
            "errorCode": "sip.503",
            "conversationId": self._id(),
            "phoneNumber": self._phone(),
            "timestamp": self._iso(),
        }
        return self._genesys("v2.operations.events.{operationalEventId}", self._id(), body)

    def _plain(self) -> BusEvent:
        attributes = {"conversationId": self._id(), "status": "closed", "score": self._rng.randrange(11)}
        if self._rng.random() < 0.3:  # noqa: PLR2004 - a share of made-up traffic
            attributes["userId"] = self._agent()
        return BusEvent("Conversation Survey", {"id": self._id(), "attributes": attributes})

    # -- parts -------------------------------------------------------------------------------------------------

    def _detail_event(self, name: str, body: Json) -> BusEvent:
        return self._genesys(f"{CONVERSATION}.{name}", body["conversationId"], body)

    def _start_or_end(self, name: str, body: Json) -> BusEvent:
        if self._rng.choice((True, False)):
            return self._detail_event(f"{name}.start", body)
        ended = {"disconnectType": "PEER", "interactingDurationMs": self._rng.randrange(1, 600_000)}
        return self._detail_event(f"{name}.end", body | ended)

    def _genesys(self, topic: str, entity: str, body: Json) -> BusEvent:
        head, _, tail = topic.partition("{")
        name = head + entity + tail.rpartition("}")[2]
        detail = {"topicName": name, "version": "2", "timestamp": self._iso(), "eventBody": body}
        return BusEvent(topic, detail | {"metadata": {"CorrelationId": self._id()}})

    def _conversation(self) -> Json:
        return {
            "eventTime": self._milliseconds(),
            "conversationId": self._id(),
            "participantId": self._id(),
            "sessionId": self._id(),
            "mediaType": self._rng.choice(("VOICE", "VOICE", "CHAT", "EMAIL")),
            "provider": "Edge",
            "direction": self._rng.choice(("INBOUND", "OUTBOUND")),
        }

    def _queued(self) -> Json:
        return self._conversation() | {
            "ani": self._phone(),
            "dnis": self._phone(),
            "queueId": self._id(),
            "divisionId": self._id(),
            "requestedRoutings": ["STANDARD"],
            "routingPriority": 0,
        }

    def _utterance(self) -> Json:
        """One object per word, and every word twice: these are the largest events."""
        words = self._rng.choices(_WORDS, k=self._rng.randrange(4, 20))
        timed = [
            {"confidence": 0.93, "offsetMs": 210 * number, "durationMs": 190, "word": word}
            for number, word in enumerate(words)
        ]
        alternative = {"confidence": 0.91, "transcript": " ".join(words), "words": timed}
        shown = {"decoratedTranscript": " ".join(words).capitalize(), "decoratedWords": timed}
        return {
            "utteranceId": self._id(),
            "isFinal": True,
            "channel": self._rng.choice(("EXTERNAL", "INTERNAL")),
            "alternatives": [alternative | shown],
            "dialect": "en-US",
        }

    def _agent(self) -> str:
        return self._rng.choice(self._agents)

    def _id(self) -> str:
        return new_id(self._rng)

    def _phone(self) -> str:
        return f"tel:+1317555{self._rng.randrange(100, 200):04}"

    def _iso(self) -> str:
        return format_time(self._now)

    def _milliseconds(self) -> int:
        return int(self._now.timestamp() * 1000)


def _invalid_events(rng: random.Random, now: datetime) -> list[Item]:
    """JSON that the rule routes to the buffer but that is not a valid event."""
    details: list[Json] = [
        {},
        {"nothing": new_id(rng)},
        {"topicName": f"v2.users.{new_id(rng)}.presence", "version": "2", "timestamp": format_time(now)},
        {"eventBody": None},
        {"eventBody": [new_id(rng)]},
        {"id": new_id(rng), "attributes": "status=closed"},
        {"eventbody": {"conversationId": new_id(rng)}},
        {"attributes": 7},
    ]
    return [BusEvent(f"{CONVERSATION}.user.start", detail, Expected.INVALID) for detail in details]


def _bodies(rng: random.Random) -> list[Item]:
    """Bodies that EventBridge would not produce. Each is different, so each has its own event id."""
    broken = (
        " ",
        "this is not JSON",
        '{"id": "cut off in the mid',
        _envelope(rng).replace('"detail":', '"source": "genesys.cloud", "detail":'),  # a duplicate key
        _envelope(rng).replace('"score": 7', '"score": 1e400'),
        _envelope(rng).replace('"score": 7', '"score": NaN'),
        _envelope(rng).replace('"score": 7', '"score": "\\ud800"'),  # half of a surrogate pair
        "[" * _TOO_DEEP + "]" * _TOO_DEEP,
    )
    strange = ("null", "[]", '"an event"', "42", json.dumps({"id": new_id(rng), "source": "genesys.cloud"}))
    items: list[Item] = [QueueBody(text, Expected.MALFORMED) for text in broken]
    return items + [QueueBody(text, Expected.INVALID) for text in strange]


def _envelope(rng: random.Random) -> str:
    """A valid envelope, into which one error is put."""
    detail = {"id": new_id(rng), "attributes": {"conversationId": new_id(rng), "score": 7}}
    return json.dumps(envelope(new_id(rng), "Conversation Survey", detail, datetime.fromtimestamp(0, UTC)))


def envelope(event_id: str, detail_type: str, detail: Json, time: datetime) -> Json:
    """The envelope that EventBridge puts around a detail."""
    return {
        "version": "0",
        "id": event_id,
        "detail-type": detail_type,
        "source": "genesys.cloud",
        "account": "000000000000",
        "time": time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "region": "us-east-1",
        "resources": [],
        "detail": detail,
    }


def new_id(rng: random.Random) -> str:
    """A random UUID."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
