"""The enriched bus."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from holdfast.adapters.aws import mapped, translated
from holdfast.adapters.batches import retry_rest
from holdfast.domain.errors import HoldfastError, Throttled, Unavailable
from holdfast.domain.fan_out import SOURCE, Answers, Publication, in_batches, in_order
from holdfast.domain.ports import Deadline, Parallel

TRIAGE_SOURCE = "holdfast.triage"
#: Codes of an entry that is refused whenever it is sent:
#: https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsResultEntry.html
_INVALID = frozenset({"InvalidArgument", "MalformedDetail"})


@dataclass(frozen=True, slots=True)
class TriageEventBus:
    """The enriched bus, for the events of triage."""

    client: Any
    name: str

    def publish(self, detail_type: str, detail: Mapping[str, Any]) -> None:
        """Publish one event.

        Raises:
            HoldfastError: The bus did not accept it.
        """
        entry = {
            "EventBusName": self.name,
            "Source": TRIAGE_SOURCE,
            "DetailType": detail_type,
            "Detail": json.dumps(detail),
        }
        with translated("publish the outcome"):
            answer = self.client.put_events(Entries=[entry])
        if answer["FailedEntryCount"]:
            code = answer["Entries"][0].get("ErrorCode", "")
            raise mapped(code, "publish the outcome") or Unavailable(f"publish the outcome: {code}")


@dataclass(frozen=True, slots=True)
class EnrichedBus:
    """The enriched bus, for the events of the events table."""

    client: Any
    name: str
    parallel: Parallel
    sleep: Callable[[float], None] = time.sleep

    def publish_all(self, publications: Sequence[Publication], deadline: Deadline) -> Answers:
        """Publish events, several requests at once. Refused entries are sent again while there is time."""
        answers = Answers()
        for part in in_order(publications):
            for refused, invalid in self.parallel(lambda batch: self._publish(batch, deadline), in_batches(part)):
                answers.refused += refused
                answers.invalid += invalid
        return answers

    def _publish(self, batch: list[Publication], deadline: Deadline) -> tuple[list[Publication], list[Publication]]:
        invalid: list[Publication] = []
        left = batch

        def put(rest: list[Publication]) -> list[Publication]:
            nonlocal left
            left = rest
            return self._put(rest, invalid)

        with suppress(HoldfastError):  # a refused permission, for example: to send it again at once does not help
            left = retry_rest(put, batch, sleep=self.sleep, deadline=deadline)
        return left, invalid

    def _put(self, batch: list[Publication], invalid: list[Publication]) -> list[Publication]:
        entries = [
            {"EventBusName": self.name, "Source": SOURCE, "DetailType": one.detail_type, "Detail": one.detail}
            for one in batch
        ]
        try:
            with translated("publish events"):
                answer = self.client.put_events(Entries=entries)
        except (Throttled, Unavailable):
            return batch
        codes = [(one, entry.get("ErrorCode")) for one, entry in zip(batch, answer["Entries"], strict=True)]
        invalid += [one for one, code in codes if code in _INVALID]
        return [one for one, code in codes if code and code not in _INVALID]
