"""Which users an event names, and what enrichment adds about them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_USER_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_USER_TOPIC = re.compile(r"v2\.users\.([A-Za-z0-9_-]{1,64})\.")
#: The field that holds a user's id → the prefix of the fields that are added beside it.
_ID_FIELDS = {"userId": "user", "answeredUserId": "answeredUser"}


@dataclass(frozen=True, slots=True)
class User:
    """What the Genesys API tells about a user. Both are personal data."""

    name: str | None
    email: str | None


@dataclass(frozen=True, slots=True, repr=False)  # a place can be the whole payload
class UserReference:
    """A place in an event that names a user. What is known of the user becomes ``<prefix>Name`` and ``<prefix>Email``.

    Attributes:
        user_id: The user.
        prefix: Of the fields that are added.
        sent: Which of these fields the producer sent. They are never overwritten.
        place: The words of the event's text behind which the fields belong, or the object that gets them.
    """

    user_id: str
    prefix: str
    sent: Collection[str]
    place: str | dict[str, Any]

    @classmethod
    def of(cls, user_id: str, prefix: str, holder: dict[str, Any], words: str = "") -> UserReference:
        """A reference in an object; ``words`` are its place in the text, if that is certain."""
        sent = [field for field in (f"{prefix}Name", f"{prefix}Email") if field in holder]
        return cls(user_id, prefix, sent, words or holder)

    def additions(self, user: User | None) -> dict[str, str]:
        """The fields to add. An unknown user (inactive, or outside the division) has none."""
        known = {f"{self.prefix}Name": user.name, f"{self.prefix}Email": user.email} if user else {}
        return {field: value for field, value in known.items() if value is not None and field not in self.sent}


def references(topic: Any, payload: dict[str, Any], text: str | None) -> list[UserReference]:
    """Find every user that an event names: in the payload at any depth, and in the topic of ``v2.users.*``.

    Bodies of ``v2.users.{id}.*`` carry no user id; there only ``detail.topicName`` does.

    Args:
        topic: ``detail.topicName``, whatever it is.
        payload: The object with the business data.
        text: The whole event, if its keys stand in it as they are.

    Returns:
        References whose places are all words of the text, if all of them are certain, or all objects.
    """
    mentions = {key: text.count(f'"{key}"') for key in _ID_FIELDS} if text else {}
    # Most events name users at the top of the payload only, and their text proves it without a walk through it all.
    at_the_top = bool(text) and all(number <= (key in payload) for key, number in mentions.items())
    named = list(_named_in([payload] if at_the_top else _objects_in(payload)))
    match = _USER_TOPIC.match(topic) if isinstance(topic, str) else None
    if match and not any(holder is payload for holder, _ in named):
        by_topic = [UserReference.of(match.group(1), "user", payload)]
    elif text and all(mentions[key] == 1 and _words(holder, key) in text for holder, key in named):
        return [UserReference.of(holder[key], _ID_FIELDS[key], holder, _words(holder, key)) for holder, key in named]
    else:
        by_topic = []
    return [UserReference.of(holder[key], _ID_FIELDS[key], holder) for holder, key in named] + by_topic


def _named_in(nodes: Iterable[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], str]]:
    """Each object that names a user, with the field that does."""
    for node in nodes:
        for key in _ID_FIELDS:
            user_id = node.get(key)
            if isinstance(user_id, str) and _USER_ID.fullmatch(user_id):
                yield node, key


def _words(holder: Mapping[str, Any], key: str) -> str:
    return f'"{key}":"{holder[key]}"'


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
