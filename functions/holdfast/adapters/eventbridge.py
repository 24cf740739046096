"""The enriched bus."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.adapters.aws import mapped, translated
from holdfast.adapters.batches import retry_rest
from holdfast.domain.errors import HoldfastError, Unavailable
from holdfast.domain.fan_out import SOURCE, Publication, in_batches

TRIAGE_SOURCE = "holdfast.triage"


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

    def publish_all(self, publications: Sequence[Publication]) -> list[Publication]:
        """Publish events in order, in as few requests as the limits allow.

        Returns:
            The events that the bus did not accept, after retries with backoff.
        """
        return [refused for batch in in_batches(publications) for refused in retry_rest(self._put, batch)]

    def _put(self, batch: list[Publication]) -> list[Publication]:
        entries = [
            {"EventBusName": self.name, "Source": SOURCE, "DetailType": one.detail_type, "Detail": one.detail}
            for one in batch
        ]
        try:
            with translated("publish events"):
                answer = self.client.put_events(Entries=entries)
        except HoldfastError:
            return batch
        return [one for one, entry in zip(batch, answer["Entries"], strict=True) if "ErrorCode" in entry]
