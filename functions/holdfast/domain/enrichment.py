"""Enrichment: adds names and e-mail addresses to the events of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

from holdfast.domain.envelope import Event
from holdfast.domain.errors import Failure, guarded
from holdfast.domain.ports import Deadline, UserDirectory
from holdfast.domain.users import USERS_ONLY, EntitiesByKind, Entity, Kind, Reference


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
    kinds: frozenset[Kind] = USERS_ONLY

    def enrich(self, events: Mapping[str, Event], deadline: Deadline) -> Enriched:
        """Look up everything that a batch names, one lookup for each kind, and add it. It never raises."""
        result = Enriched(dict(events))
        named = {key: own for key, event in events.items() if (own := event.references(self.kinds))}
        wanted: dict[Kind, set[str]] = {}
        for one in chain.from_iterable(named.values()):
            wanted.setdefault(one.kind, set()).add(one.id)
        found: dict[Kind, Mapping[str, Entity | None]] = {}
        failures: dict[Kind, Failure] = {}
        for kind in (kind for kind in Kind if kind in wanted):
            found[kind], failure = self._look_up(kind, wanted[kind], deadline)
            if failure:
                failures[kind] = failure
        for key, own in named.items():
            own_failure = _failure_of(own, found, failures) if failures else None
            if own_failure:
                result.failures.append(own_failure)
            else:
                result.complete += 1
            if own_failure and self.required:
                result.events[key] = own_failure
            else:
                result.events[key] = guarded(partial(_completed, events[key], own, found, own_failure))
        return result

    def _look_up(
        self, kind: Kind, ids: set[str], deadline: Deadline
    ) -> tuple[Mapping[str, Entity | None], Failure | None]:
        try:
            return self.user_directory.lookup(ids, deadline, kind), None
        except Exception as error:  # noqa: BLE001 - whatever the error is, it is the failure of these events
            return self.user_directory.cached(ids, kind), Failure.of(error)


def _failure_of(named: Sequence[Reference], found: EntitiesByKind, failures: Mapping[Kind, Failure]) -> Failure | None:
    """Why an id of an event could not be looked up; ``None`` if all of them could."""
    return next((failures[one.kind] for one in named if one.kind in failures and one.id not in found[one.kind]), None)


def _completed(event: Event, named: Sequence[Reference], found: EntitiesByKind, failure: Failure | None) -> Event:
    event.enrich(named, found)
    if failure:
        event.mark("enrichmentError", failure.category)
    return event
