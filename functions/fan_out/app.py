"""FanOutFunction: from the events table's stream to the enriched bus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from holdfast.adapters.aws import client
from holdfast.adapters.eventbridge import EnrichedBus
from holdfast.adapters.settings import Settings
from holdfast.adapters.telemetry import emit, logger
from holdfast.domain.fan_out import publication


@dataclass(frozen=True, slots=True)
class FanOutSettings(Settings):
    """The environment of FanOutFunction."""

    enriched_bus_name: str


def lambda_handler(event: Mapping[str, Any], _context: Any, *, bus: EnrichedBus | None = None) -> dict[str, Any]:
    """Publish a batch of new items. At least once: the stream comes back to the first item that was refused."""
    made = [publication(record) for record in event["Records"]]
    wanted = [one for one in made if one]
    refused = (bus or production()).publish_all(wanted)
    for one in refused:
        logger().warning("event not published", extra={"letterId": one.event_id})
    emit({"Published": len(wanted) - len(refused), "PublicationsRefused": len(refused)})
    return {"batchItemFailures": [{"itemIdentifier": one.sequence_number} for one in refused]}


@cache
def production() -> EnrichedBus:
    """The bus of this execution environment."""
    return EnrichedBus(client("events"), FanOutSettings.from_env().enriched_bus_name)
