"""Enrichment: adds the users' names and e-mail addresses to the events of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from holdfast.domain.envelope import Event
from holdfast.domain.errors import Failure, guarded
from holdfast.domain.ports import Deadline, UserDirectory
from holdfast.domain.users import User


@dataclass(slots=True)
class Enriched:
    """The result for a batch.

    Attributes:
        events: An entry for every event that was given: the event, or its failure.
        complete: How many events name users, all of whom could be looked up.
        failures: Why users could not be looked up, once for each event that names one of them.
    """

    events: dict[str, Event | Failure]
    complete: int = 0
    failures: list[Failure] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Enrichment:
    """What enrichment needs. With ``required``, an event whose users cannot be looked up fails."""

    user_directory: UserDirectory
    required: bool

    def enrich(self, events: Mapping[str, Event], deadline: Deadline) -> Enriched:
        """Look up all users of a batch in one call and add them to the events. It never raises."""
        result = Enriched(dict(events))
        named = {key: {one.user_id for one in event.references} for key, event in events.items() if event.references}
        if not named:
            return result
        users, failure = self._look_up(set().union(*named.values()), deadline)
        for key, user_ids in named.items():
            own_failure = None if user_ids <= users.keys() else failure
            if own_failure:
                result.failures.append(own_failure)
            else:
                result.complete += 1
            if own_failure and self.required:
                result.events[key] = own_failure
            else:
                result.events[key] = guarded(partial(_completed, events[key], users, own_failure))
        return result

    def _look_up(self, user_ids: set[str], deadline: Deadline) -> tuple[Mapping[str, User | None], Failure | None]:
        try:
            return self.user_directory.lookup(user_ids, deadline), None
        except Exception as error:  # noqa: BLE001 - whatever the error is, it is the failure of these events
            return self.user_directory.cached(user_ids), Failure.of(error)


def _completed(event: Event, users: Mapping[str, User | None], failure: Failure | None) -> Event:
    event.enrich(users)
    if failure:
        event.mark("enrichmentError", failure.category)
    return event
