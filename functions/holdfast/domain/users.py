"""Which users an event names, and what enrichment adds about them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from holdfast.domain.envelope import Event

_USER_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_USER_TOPIC = re.compile(r"v2\.users\.([A-Za-z0-9_-]{1,64})\.")
#: The field that holds a user's id → the prefix of the fields that are added beside it.
_ID_FIELDS = {"userId": "user", "answeredUserId": "answeredUser"}


@dataclass(frozen=True, slots=True)
class User:
    """What the Genesys API tells about a user. Both are personal data."""

    name: str | None
    email: str | None


@dataclass(frozen=True, slots=True)
class UserReference:
    """A place in an event that names a user: ``holder`` gets ``<prefix>Name`` and ``<prefix>Email``.

    ``key`` is the field of the holder that holds the id, empty where only the topic names the user.
    """

    user_id: str
    holder: dict[str, Any]
    prefix: str
    key: str = ""


def references(event: Event) -> list[UserReference]:
    """Find every user that the event names: in the payload at any depth, and in the topic of ``v2.users.*``.

    Bodies of ``v2.users.{id}.*`` carry no user id; there only ``detail.topicName`` does.
    """
    payload = event.payload
    # Most events name users at the top of the payload only, and their text proves it without a walk through it all.
    at_the_top = all(event.names_only_in(payload, key) for key in _ID_FIELDS)
    found = [place for node in ([payload] if at_the_top else _objects_in(payload)) for place in _named_in(node)]
    topic = event.envelope["detail"].get("topicName")
    match = _USER_TOPIC.match(topic) if isinstance(topic, str) else None
    if match and not any(reference.holder is payload for reference in found):
        found.append(UserReference(match.group(1), payload, "user"))
    return found


def enrich(event: Event, places: list[UserReference], users: Mapping[str, User | None]) -> None:
    """Write what is known beside the ids. An unknown user (inactive, or outside the division) is left as it is.

    A field that the producer sent is never overwritten.
    """
    for place in places:
        user = users.get(place.user_id)
        known = {f"{place.prefix}Name": user.name, f"{place.prefix}Email": user.email} if user else {}
        fields = {field: value for field, value in known.items() if value is not None and field not in place.holder}
        if fields:
            event.add(place.holder, fields, beside=place.key)


def _named_in(node: dict[str, Any]) -> Iterator[UserReference]:
    for key, prefix in _ID_FIELDS.items():
        user_id = node.get(key)
        if isinstance(user_id, str) and _USER_ID.fullmatch(user_id):
            yield UserReference(user_id, node, prefix, key)


def _objects_in(value: Any) -> Iterator[dict[str, Any]]:
    """Walk without recursion: a body may be nested as deeply as the parser allows."""
    pending = [value]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            yield node
        pending.extend(
            child for child in (node.values() if isinstance(node, dict) else node) if isinstance(child, (dict, list))
        )
