"""``holdfast pause`` and ``holdfast resume``: stop and start receiving from the buffer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer
from rich.text import Text

from ops import options, screen
from ops.deployed import AwsStack, DeployedStack
from ops.errors import CommandError

MAPPING_MISSING = (
    "The event source mapping of the buffer does not exist, and a deployment of the same template does not create it "
    "again. Create it as the template has it: aws lambda create-event-source-mapping"
)
#: Lambda needs up to a minute to stop or start its pollers. The circuit breaker starts within seconds.
_POLLS = 120
_POLL_SECONDS = 1.0
Sleep = Callable[[float], None]


class ProcessingState(StrEnum):
    """Whether the processor receives from the buffer, by the state of its event source mapping."""

    RUNNING = "running"
    STARTING = "starting"
    PAUSING = "pausing"
    PAUSED = "paused"


_STATES = {
    "Enabled": ProcessingState.RUNNING,
    "Updating": ProcessingState.RUNNING,
    "Enabling": ProcessingState.STARTING,
    "Creating": ProcessingState.STARTING,
    "Disabling": ProcessingState.PAUSING,
    "Disabled": ProcessingState.PAUSED,
}


@dataclass(frozen=True, slots=True)
class BufferMapping:
    """The event source mapping between the buffer and the processor.

    Attributes:
        uuid: Its identifier.
        processing: What its state means for processing.
        concurrency: The largest number of batches at the same time, if it is limited.
    """

    uuid: str
    processing: ProcessingState
    concurrency: int | None


def mapping_of(stack: DeployedStack) -> BufferMapping | None:
    """The mapping of the buffer; ``None`` if it does not exist. One call."""
    answer = stack.client("lambda").list_event_source_mappings(FunctionName=stack.outputs["ProcessorFunctionName"])
    account, name = stack.outputs["BufferQueueUrl"].split("/")[-2:]
    found = [one for one in answer["EventSourceMappings"] if one["EventSourceArn"].endswith(f":{account}:{name}")]
    if not found:
        return None
    limit = found[0].get("ScalingConfig", {}).get("MaximumConcurrency")
    return BufferMapping(found[0]["UUID"], _STATES.get(found[0]["State"], ProcessingState.STARTING), limit)


def pause_processing(stack: DeployedStack, reason: str, sleep: Sleep = time.sleep) -> str | None:
    """Pause by an execution of the circuit breaker, which records the reason; without one, disable the mapping.

    Returns:
        The name of the execution, if there is one.

    Raises:
        CommandError: Processing did not stop in time, or its mapping does not exist.
    """
    machine, execution = stack.outputs.get("CircuitBreakerStateMachineArn"), None
    if machine:
        data = json.dumps({"manual": True, "reason": reason})
        started = stack.client("stepfunctions").start_execution(stateMachineArn=machine, input=data)
        execution = started["executionArn"].rpartition(":")[2]
    else:
        _set_enabled(stack, enabled=False)
    _await(stack, ProcessingState.PAUSED, sleep)
    return execution


def resume_processing(stack: DeployedStack, sleep: Sleep = time.sleep) -> None:
    """Enable the mapping. An execution that has paused it ends within 15 minutes.

    Raises:
        CommandError: Processing did not start in time, or its mapping does not exist.
    """
    _set_enabled(stack, enabled=True)
    _await(stack, ProcessingState.RUNNING, sleep)


def _set_enabled(stack: DeployedStack, *, enabled: bool) -> None:
    stack.client("lambda").update_event_source_mapping(UUID=_required_mapping(stack).uuid, Enabled=enabled)


def _await(stack: DeployedStack, wanted: ProcessingState, sleep: Sleep) -> None:
    with screen.errors().status(f"Waiting until processing is {wanted} ..."):
        for _ in range(_POLLS):
            if _required_mapping(stack).processing is wanted:
                return
            sleep(_POLL_SECONDS)
    raise CommandError(f"Processing is not {wanted} after two minutes. Look again with: holdfast status")


def _required_mapping(stack: DeployedStack) -> BufferMapping:
    found = mapping_of(stack)
    if found is None:
        raise CommandError(MAPPING_MISSING)
    return found


# -- the commands --------------------------------------------------------------------------------------------------


def pause(
    reason: Annotated[str, typer.Option("--reason", help="Why; recorded with the execution.")],
    stack: options.Stack = options.DEFAULT_STACK,
    profile: options.Profile = None,
    region: options.Region = None,
    yes: options.Yes = False,
) -> None:
    """Pause processing. Events wait in the buffer for up to 14 days; batches in progress finish.

    Example: holdfast pause --reason "the CRM is being migrated"
    """
    with screen.exit_on_error():
        deployed = AwsStack.named(stack, profile=profile, region=region)
        if _required_mapping(deployed).processing is ProcessingState.PAUSED:
            raise CommandError("Processing is paused already. Why: holdfast status")
        screen.confirm(f"Pause processing of {stack}? Events wait in the buffer until it is resumed.", yes=yes)
        execution = pause_processing(deployed, reason)
    by = f" by {execution}" if execution else ""
    screen.console().print(Text.assemble(("paused", "yellow"), f"{by}. Resume with: holdfast resume"))


def resume(
    stack: options.Stack = options.DEFAULT_STACK,
    profile: options.Profile = None,
    region: options.Region = None,
    yes: options.Yes = False,
) -> None:
    """Resume processing, also if a person or the circuit breaker paused it.

    Example: holdfast resume --yes
    """
    with screen.exit_on_error():
        deployed = AwsStack.named(stack, profile=profile, region=region)
        if _required_mapping(deployed).processing is ProcessingState.RUNNING:
            screen.console().print("Processing runs already. Nothing was changed.")
            return
        screen.confirm(f"Resume processing of {stack}? Waiting events are processed at once.", yes=yes)
        resume_processing(deployed)
    screen.console().print(Text.assemble(("running", "green"), f" since {datetime.now(UTC).astimezone():%H:%M:%S}"))
