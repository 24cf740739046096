"""The enriched bus."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.adapters.aws import named, translated
from holdfast.domain.errors import HoldfastError, Unavailable
from holdfast.domain.fan_out import SOURCE, Publication, in_batches

TRIAGE_SOURCE = "holdfast.triage"
_TRIES = 3


@dataclass(frozen=True, slots=True)
class EnrichedBus:
    """One event bus."""

    client: Any
    name: str

    def publish(self, detail_type: str, detail: Mapping[str, Any]) -> None:
        """Publish what triage has to tell.

        Raises:
            HoldfastError: The bus did not take it.
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
            raise named(code, "publish the outcome") or Unavailable(f"publish the outcome: {code}")

    def publish_all(self, publications: Sequence[Publication]) -> list[Publication]:
        """Publish events in order, as few requests as the limits allow; answers those that the bus did not take.

        Entries that failed are tried again before they are given up.
        """
        refused: list[Publication] = []
        for batch in in_batches(publications):
            pending = batch
            for _ in range(_TRIES):
                pending = self._put(pending)
                if not pending:
                    break
            refused += pending
        return refused

    def _put(self, batch: Sequence[Publication]) -> list[Publication]:
        entries = [
            {"EventBusName": self.name, "Source": SOURCE, "DetailType": one.detail_type, "Detail": one.detail}
            for one in batch
        ]
        try:
            with translated("publish events"):
                answer = self.client.put_events(Entries=entries)
        except HoldfastError:
            return list(batch)
        return [one for one, entry in zip(batch, answer["Entries"], strict=True) if "ErrorCode" in entry]
