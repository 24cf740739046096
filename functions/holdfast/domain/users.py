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
    """A place in an event that names a user: ``holder`` gets ``<prefix>Name`` and ``<prefix>Email``."""

    user_id: str
    holder: dict[str, Any]
    prefix: str

    def fill(self, user: User) -> None:
        """Write what is known beside the id. A field that the producer sent is never overwritten."""
        for field, value in ((f"{self.prefix}Name", user.name), (f"{self.prefix}Email", user.email)):
            if value is not None:
                self.holder.setdefault(field, value)


def references(event: Event) -> list[UserReference]:
    """Find every user that the event names: in the payload at any depth, and in the topic of ``v2.users.*``.

    Bodies of ``v2.users.{id}.*`` carry no user id; there only ``detail.topicName`` does.
    """
    found = list(_named_in(event.payload))
    topic = event.envelope["detail"].get("topicName")
    match = _USER_TOPIC.match(topic) if isinstance(topic, str) else None
    if match and not any(reference.holder is event.payload for reference in found):
        found.append(UserReference(match.group(1), event.payload, "user"))
    return found


def enrich(places: list[UserReference], users: Mapping[str, User | None]) -> None:
    """Fill in the users that are known; an unknown one (inactive, or outside the division) is left as it is."""
    for place in places:
        user = users.get(place.user_id)
        if user is not None:
            place.fill(user)


def _named_in(value: Any) -> Iterator[UserReference]:
    """Walk without recursion: a body may be nested as deeply as the parser allows."""
    pending = [value]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            for field, prefix in _ID_FIELDS.items():
                user_id = node.get(field)
                if isinstance(user_id, str) and _USER_ID.fullmatch(user_id):
                    yield UserReference(user_id, node, prefix)
            pending.extend(child for child in node.values() if isinstance(child, dict | list))
        elif isinstance(node, list):
            pending.extend(child for child in node if isinstance(child, dict | list))
