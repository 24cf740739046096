"""Archived letters that a replay can recover."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.e2e.controls import Controls
    from tests.e2e.pipeline import Pipeline


def archived_as_unknown(pipeline: Pipeline, controls: Controls, events: list[dict[str, Any]]) -> dict[str, str]:
    """Send events that cannot be classified. Returns their archive keys by event id."""
    with controls.changed(pipeline.stack.resources["ClassifyFunction"], MAX_RETRIES="not a number"):
        ended = pipeline.all_settled([pipeline.bury(event) for event in events])
    return {event_id: found[0].result["archive"]["key"] for event_id, found in ended.items()}


def with_topic(event: dict[str, Any], name: str) -> dict[str, Any]:
    """The event with a detail-type of one test: the names of archive objects begin with its last words."""
    return event | {"detail-type": f"v2.detail.events.conversation.{{id}}.{name}"}
