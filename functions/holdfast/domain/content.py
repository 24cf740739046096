"""What an event says, apart from how it was delivered.

Genesys Cloud sends an event again if EventBridge did not confirm it. The second envelope has another id, so it is
another event for the events table. Its content is the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from holdfast.domain.users import ALL_KINDS, references

#: A longer correlation id is left out: it must not make a pointer too large for EventBridge.
_CORRELATION_LIMIT = 256


def content_fields(text: str) -> dict[str, str]:
    """Return ``contentId`` and ``correlationId`` of an enriched event, as far as it has them.

    ``contentId`` is a digest of ``source``, ``detail-type`` and of these parts of ``detail``: ``id``, ``topicName``,
    ``eventBody`` or ``attributes`` without the fields that enrichment adds, and ``metadata.CorrelationId``. Everything
    else can differ between two deliveries. The order of keys does not matter.

    Args:
        text: The event as JSON.
    """
    try:
        envelope = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(envelope, dict) or not isinstance(detail := envelope.get("detail"), dict):
        return {}
    correlation_id = _correlation_of(detail)
    for payload in (detail.get("eventBody"), detail.get("attributes")):
        if isinstance(payload, dict):
            _remove_additions(detail.get("topicName"), payload, text)
    content = [envelope.get("source"), envelope.get("detail-type"), *map(detail.get, _PARTS), correlation_id]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    found = {"contentId": digest}
    if isinstance(correlation_id, str) and 0 < len(correlation_id) <= _CORRELATION_LIMIT:
        found["correlationId"] = correlation_id
    return found


_PARTS = ("id", "topicName", "eventBody", "attributes")


def _correlation_of(detail: Mapping[str, Any]) -> Any:
    metadata = detail.get("metadata")
    return metadata.get("CorrelationId") if isinstance(metadata, dict) else None


def _remove_additions(topic: Any, payload: dict[str, Any], text: str) -> None:
    """Remove what enrichment may have added. A user can be renamed or unavailable between two deliveries."""
    for reference in references(topic, payload, text, ALL_KINDS):
        for field in reference.added_fields:
            reference.holder.pop(field, None)
