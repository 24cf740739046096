"""ReplayFunction: the steps of a replay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from holdfast.adapters.aws import client
from holdfast.adapters.invocation import InvocationDeadline
from holdfast.adapters.parallel import in_parallel
from holdfast.adapters.s3 import ArchiveBucket
from holdfast.adapters.settings import Settings
from holdfast.adapters.stepfunctions import TriageExecutions
from holdfast.adapters.telemetry import logger
from holdfast.domain.errors import InvalidInput
from holdfast.domain.ports import Deadline
from holdfast.domain.replay import Plan, Replayer

#: Time of a dry run that is reserved to list a million letters without a look at their tags: a thousand pages.
RESERVED_FOR_LISTING_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class ReplaySettings(Settings):
    """The environment of ReplayFunction."""

    archive_bucket_name: str
    triage_state_machine_arn: str


def lambda_handler(event: Mapping[str, Any], context: Any, *, services: Replayer | None = None) -> dict[str, Any]:
    """Run the step that the event names.

    Args:
        event: ``{"step": "plan", "input", "run", "startedAt"}``, ``{"step": "prepare", "plan", "key"}``,
            ``{"step": "note", "plan", "key", "result"}`` or ``{"step": "report", "plan"}``.
        context: The Lambda context.
        services: Replaces the production services in tests.

    Raises:
        InvalidInput: The input of the replay cannot be used.
    """
    step = _STEPS.get(event.get("step", ""))
    if step is None:
        raise InvalidInput(f"step must be one of {', '.join(_STEPS)}")
    return step(event, services or production(), InvocationDeadline(context, RESERVED_FOR_LISTING_SECONDS))


def _plan(event: Mapping[str, Any], services: Replayer, deadline: Deadline) -> dict[str, Any]:
    requested = event["input"]
    if not isinstance(requested, dict):
        raise InvalidInput("the input must be an object with a prefix")
    plan = Plan.read({**requested, "run": event["run"], "startedAt": event["startedAt"]})
    plan = replace(plan, empty=services.is_empty(plan))
    logger().info("replay", extra={"run": plan.run, "prefix": plan.prefix, "dryRun": plan.dry_run})
    return plan.as_json() | ({"counts": services.count(plan, deadline)} if plan.dry_run else {})


def _prepare(event: Mapping[str, Any], services: Replayer, _deadline: Deadline) -> dict[str, Any]:
    return services.prepare(Plan.read(event["plan"]), event["key"])


def _note(event: Mapping[str, Any], services: Replayer, _deadline: Deadline) -> dict[str, Any]:
    services.note(Plan.read(event["plan"]), event["key"], event["result"])
    return {}


def _report(event: Mapping[str, Any], services: Replayer, _deadline: Deadline) -> dict[str, Any]:
    return services.report(Plan.read(event["plan"]))


_STEPS = {"plan": _plan, "prepare": _prepare, "note": _note, "report": _report}


@cache
def production() -> Replayer:
    """The services of this execution environment."""
    settings = ReplaySettings.from_env()
    return Replayer(
        archive_store=ArchiveBucket(client("s3"), settings.archive_bucket_name),
        executions=TriageExecutions(client("stepfunctions"), settings.triage_state_machine_arn),
        parallel=in_parallel,
    )
