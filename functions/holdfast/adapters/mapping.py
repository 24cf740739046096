"""The event source mapping between the buffer and the processor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from holdfast.adapters.aws import code_of, translated
from holdfast.domain.circuit_breaker import MappingState

#: https://docs.aws.amazon.com/lambda/latest/api/API_GetEventSourceMapping.html
_PAUSED = frozenset({"Disabled", "Disabling"})
_STARTING = frozenset({"Creating", "Enabling", "Updating"})


@dataclass(frozen=True, slots=True)
class EventSourceMapping:
    """The event source mapping between the buffer and the processor."""

    client: Any
    mapping_id: str

    def read_state(self) -> MappingState:
        """Read whether the processor receives from the buffer."""
        with translated("read the event source mapping"):
            try:
                state = self.client.get_event_source_mapping(UUID=self.mapping_id)["State"]
            except ClientError as error:
                if code_of(error) == "ResourceNotFoundException":
                    return MappingState.MISSING
                raise
        if state == "Deleting":
            return MappingState.MISSING
        if state in _PAUSED:
            return MappingState.PAUSED
        return MappingState.STARTING if state in _STARTING else MappingState.RUNNING
