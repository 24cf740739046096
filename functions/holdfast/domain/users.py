"""Which users, queues and wrap-up codes an event names, and what enrichment adds about them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

from holdfast.domain.identity import UUID


class Kind(StrEnum):
    """What can be looked up, by the names that ``EnrichWith`` takes."""

    USERS = "users"
    QUEUES = "queues"
    WRAP_UP_CODES = "wrapupcodes"

    __hash__ = str.__hash__  # Enum's own is written in Python, and every reference is looked up by its kind


ALL_KINDS = frozenset(Kind)
USERS_ONLY = frozenset({Kind.USERS})
#: The fields that hold an id, or an object with an ``id``.
_FIELDS: dict[Kind, tuple[str, ...]] = {
    Kind.USERS: (
        "userId",
        "answeredUserId",
        "targetUserId",
        "sourceUserId",
        "user",
        "agent",
        "createdBy",
        "evaluator",
        "assignee",
    ),
    Kind.QUEUES: ("queueId", "queue"),
    Kind.WRAP_UP_CODES: ("wrapupCode", "wrapUpCode"),
}
#: Objects with keys of the customer's own making. An id in them is whatever a flow or a script wrote there.
_FREE = frozenset(
    {
        "additionalProperties",
        "attributes",
        "context",
        "customAttributes",
        "customData",
        "customFields",
        "participantData",
        "variables",
    }
)
_ID = re.compile(UUID)
_USER_TOPIC = re.compile(rf"v2\.users\.({UUID})\.")
#: Topics whose ``eventBody.id`` is a user.
_MEMBER_TOPIC = re.compile(rf"v2\.routing\.queues\.{UUID}\.users$")


@dataclass(frozen=True, slots=True)
class Entity:
    """A user, a queue or a wrap-up code of Genesys Cloud. Only a user has an ``email``; both are personal data."""

    name: str | None
    email: str | None = None


#: What was looked up: by kind, then by id. ``None`` for an id that the API does not return.
EntitiesByKind = Mapping[Kind, Mapping[str, Entity | None]]


@dataclass(slots=True, repr=False)  # the holder can be the whole payload
class Reference:
    """A place in an event that names a user, a queue or a wrap-up code.

    Attributes:
        kind: What it names.
        id: The id in lower case: Genesys may answer ids in another case than an event has them.
        prefix: Prefix of the fields to add. ``user`` gives ``userName`` and ``userEmail``, an empty one ``name``.
        holder: The object that receives these fields.
        member: The text of the event after which they are inserted, or the beginning of the holder: ``"eventBody":{"``.
        key: A field in ``member``. If it occurs once in the text of the event, so does ``member``.
    """

    kind: Kind
    id: str
    prefix: str
    holder: dict[str, Any]
    member: str
    key: str

    def with_fields(self, fields: str) -> str:
        """``member`` with these fields, both as JSON."""
        return f'{self.member[:-1]}{fields},"' if self.member.endswith('{"') else f"{self.member},{fields}"

    @property
    def added_fields(self) -> tuple[str, str]:
        """The names of the fields that enrichment can add."""
        return _names(self.prefix)

    def additions(self, found: Entity | None) -> dict[str, str]:
        """The fields to add.

        Fields that the producer sent are never overwritten. For what the API does not return there are none.
        """
        if found is None:
            return {}
        named = zip(self.added_fields, (found.name, found.email), strict=True)
        return {field: value for field, value in named if value is not None and field not in self.holder}


@cache
def _names(prefix: str) -> tuple[str, str]:
    return (f"{prefix}Name", f"{prefix}Email") if prefix else ("name", "email")


def references(topic: Any, payload: dict[str, Any], text: str, kinds: Collection[Kind] = USERS_ONLY) -> list[Reference]:
    """Find what an event names, in the topic and at any depth of the payload.

    Objects whose keys a customer chose, such as ``attributes``, are left out.

    Bodies of ``v2.users.{id}.*`` contain no user id; only ``detail.topicName`` does.

    Args:
        topic: ``detail.topicName``, of any type.
        payload: The object with the business data.
        text: The whole event as JSON, without escaped characters.
        kinds: What to find.
    """
    fields = _fields(frozenset(kinds))
    # Most payloads are flat, or name users in their own fields only.
    walk = _is_nested(payload) and _names_below(payload, text, fields)
    holders = _objects_in(payload) if walk else [payload]
    found = [reference for holder in holders for reference in _named(holder, fields)]
    if isinstance(topic, str) and Kind.USERS in kinds:
        found += _named_by_topic(topic, payload, found)
    return found


@cache
def _fields(kinds: frozenset[Kind]) -> dict[str, Kind]:
    return {field: kind for kind in Kind if kind in kinds for field in _FIELDS[kind]}


def _named(holder: dict[str, Any], fields: Mapping[str, Kind]) -> Iterator[Reference]:
    """What one object names."""
    for field, kind in fields.items():
        if field not in holder:
            continue
        value = holder[field]
        if isinstance(value, str):
            if _ID.fullmatch(value):
                prefix = field.removesuffix("Id")
                yield Reference(kind, value.lower(), prefix, holder, f'"{field}":"{value}"', field)
        elif isinstance(value, dict):
            identity = value.get("id")
            if isinstance(identity, str) and _ID.fullmatch(identity):
                yield Reference(kind, identity.lower(), "", value, f'"{field}":{{"id":"{identity}"', field)


def _named_by_topic(topic: str, payload: dict[str, Any], found: list[Reference]) -> Iterator[Reference]:
    identity = payload.get("id")
    if isinstance(identity, str) and _ID.fullmatch(identity) and _MEMBER_TOPIC.match(topic):
        member = f'"eventBody":{{"id":"{identity}"'
        yield Reference(Kind.USERS, identity.lower(), "user", payload, member, "eventBody")
        return
    match = _USER_TOPIC.match(topic)
    if match and not any(one.kind is Kind.USERS and one.holder is payload for one in found):
        yield Reference(Kind.USERS, match.group(1).lower(), "user", payload, '"eventBody":{"', "eventBody")


def _is_nested(payload: dict[str, Any]) -> bool:
    """Whether an object is inside the payload. Lists of texts are not."""
    for value in payload.values():
        kind = type(value)
        if kind is dict or (kind is list and any(type(inner) in (dict, list) for inner in value)):
            return True
    return False


def _names_below(payload: dict[str, Any], text: str, fields: Collection[str]) -> bool:
    """Whether an object below the payload may have one of these fields."""
    for field in fields:  # noqa: SIM110 - a generator takes a third longer, and every nested event comes here
        if text.count(f'"{field}"') > (field in payload):
            return True
    return False


def _objects_in(value: Any) -> Iterator[dict[str, Any]]:
    """Walk through all objects but those of :data:`_FREE`, without recursion: a body may be nested deeply."""
    pending = [value]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            yield node
            pending.extend(inner for field, inner in node.items() if field not in _FREE)
        elif isinstance(node, list):
            pending.extend(node)
