"""The enriched bus."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.adapters.aws import mapped, translated
from holdfast.adapters.batches import retry_rest
from holdfast.domain.errors import HoldfastError, Throttled, Unavailable, readable
from holdfast.domain.fan_out import SOURCE, Answers, Publication, in_batches, in_order
from holdfast.domain.ports import Deadline, Parallel

TRIAGE_SOURCE = "holdfast.triage"
#: Codes of an entry that is refused whenever it is sent:
#: https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsResultEntry.html
_INVALID = frozenset({"InvalidArgument", "MalformedDetail"})
#: An entry of an answer has a code and no HTTP status.
_REFUSED_FOR_NOW = 500
_PUBLISH = "publish events"


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
            raise mapped(answer["Entries"][0].get("ErrorCode"), "publish the outcome", _REFUSED_FOR_NOW)


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
            for of_batch in self.parallel(lambda batch: self._publish(batch, deadline), in_batches(part)):
                answers.refused += of_batch.refused
                answers.invalid += of_batch.invalid
                answers.reasons |= of_batch.reasons
        return answers

    def _publish(self, batch: list[Publication], deadline: Deadline) -> Answers:
        answers = Answers(refused=batch)

        def put(rest: list[Publication]) -> list[Publication]:
            answers.refused = rest
            return self._put(rest, answers)

        try:
            answers.refused = retry_rest(put, batch, sleep=self.sleep, deadline=deadline)
        except HoldfastError as error:  # a refused permission, for example: to send it again at once does not help
            answers.reasons |= dict.fromkeys((one.event_id for one in answers.refused), str(error))
        return answers

    def _put(self, batch: list[Publication], answers: Answers) -> list[Publication]:
        entries = [
            {"EventBusName": self.name, "Source": SOURCE, "DetailType": one.detail_type, "Detail": one.detail}
            for one in batch
        ]
        try:
            with translated(_PUBLISH):
                answer = self.client.put_events(Entries=entries)
        except (Throttled, Unavailable) as error:
            answers.reasons |= dict.fromkeys((one.event_id for one in batch), str(error))
            return batch
        codes = [(one, entry.get("ErrorCode")) for one, entry in zip(batch, answer["Entries"], strict=True)]
        answers.reasons |= {one.event_id: f"{_PUBLISH}: {readable(code)}" for one, code in codes if code}
        answers.invalid += [one for one, code in codes if code in _INVALID]
        return [one for one, code in codes if code and code not in _INVALID]
