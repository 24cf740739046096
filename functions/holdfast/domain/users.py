"""Which users an event names, and what enrichment adds about them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_USER_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_USER_TOPIC = re.compile(r"v2\.users\.([A-Za-z0-9_-]{1,64})\.")
#: The field that holds a user id → the prefix of the fields that are added beside it.
_ID_FIELDS = {"userId": "user", "answeredUserId": "answeredUser"}


@dataclass(frozen=True, slots=True)
class User:
    """A user of Genesys Cloud. Both fields are personal data."""

    name: str | None
    email: str | None


@dataclass(frozen=True, slots=True, repr=False)  # the holder can be the whole payload
class UserReference:
    """A place in an event that names a user.

    Attributes:
        user_id: The user.
        field: The field that contains the id; empty if only the topic names the user.
        prefix: Prefix of the fields to add: ``<prefix>Name`` and ``<prefix>Email``.
        holder: The object that receives these fields.
        once: Whether the name of the field occurs once in the text of the event.
    """

    user_id: str
    field: str
    prefix: str
    holder: dict[str, Any]
    once: bool

    @property
    def member(self) -> str:
        """The field as it stands in compact JSON."""
        return f'"{self.field}":"{self.user_id}"'

    @property
    def added_fields(self) -> tuple[str, ...]:
        """The names of the fields that enrichment can add beside the id."""
        return f"{self.prefix}Name", f"{self.prefix}Email"

    def additions(self, user: User | None) -> dict[str, str]:
        """The fields to add.

        Fields that the producer sent are never overwritten. For an unknown user (inactive, or outside the division)
        there are none.
        """
        values = (user.name, user.email) if user else ()
        known = zip(self.added_fields, values, strict=False)
        return {field: value for field, value in known if value is not None and field not in self.holder}


def references(topic: Any, payload: dict[str, Any], text: str) -> list[UserReference]:
    """Find every user that an event names: in the payload at any depth, and in the topic of ``v2.users.*``.

    Bodies of ``v2.users.{id}.*`` contain no user id; only ``detail.topicName`` does.

    Args:
        topic: ``detail.topicName``, of any type.
        payload: The object with the business data.
        text: The whole event as JSON, in which no letter is escaped.
    """
    # Most events name users at the top of the payload only: then no field name is left for the objects below.
    counts = {field: text.count(f'"{field}"') for field in _ID_FIELDS}
    at_the_top = all(count <= (field in payload) for field, count in counts.items())
    found = [
        reference
        for holder in ([payload] if at_the_top else _objects_in(payload))
        for reference in _named(holder, counts)
    ]
    match = _USER_TOPIC.match(topic) if isinstance(topic, str) else None
    if match and not any(reference.holder is payload for reference in found):
        found.append(UserReference(match.group(1), "", "user", payload, once=False))
    return found


def _named(holder: dict[str, Any], counts: Mapping[str, int]) -> Iterator[UserReference]:
    """The users that one object names."""
    for field, prefix in _ID_FIELDS.items():
        user_id = holder.get(field)
        if isinstance(user_id, str) and _USER_ID.fullmatch(user_id):
            yield UserReference(user_id, field, prefix, holder, once=counts[field] == 1)


def _objects_in(value: Any) -> Iterator[dict[str, Any]]:
    """Walk through all objects without recursion: a body may be nested as deeply as the parser allows."""
    pending = [value]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            yield node
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)
