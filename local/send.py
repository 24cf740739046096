"""``make send``: sends an event to the stack of ``make up``, and shows what happened to it."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from local.background import State, demand
from local.errors import LocalError, exit_code
from local.fixture_setup import read_event
from local.genesys import faults, stats
from local.samples import SAMPLES, Sample
from local.sending import Sender
from local.stack import Stack, describe
from local.traffic import BusEvent
from local.workers import kill_workers
from ops import screen
from ops.audit import Auditor, Place
from ops.show import read, render

#: The rule of the template selects events whose source begins with one of these.
SOURCES = ("aws.partner/genesys.com", "genesys.cloud")
_SETTLED = {Place.STORED, Place.ARCHIVED}
#: A dead letter is received five times first, which takes up to seven minutes with the default backoff.
_SECONDS = 600
_POLL_SECONDS = 2.0
_KILL_SECONDS = 0.2
_KILLED_VISIBILITY_SECONDS = "2"


def main() -> int:
    """Send, wait until the event is stored or archived, and print its history."""
    options = _parser().parse_args()
    sample = SAMPLES.get(options.event) or _of_file(Path(options.event))
    state = demand()
    stack = describe(state.endpoint, state.stack)
    if options.no_wait:
        print("\n".join(f"holdfast show {event_id}" for event_id in _sent(sample, stack)))
        return 0
    event_ids, settled = play(sample, stack, state)
    for event_id in event_ids:
        now = datetime.now(UTC)
        screen.console().print(render(read(stack, event_id, now), now) if settled else f"{event_id}: not settled yet")
        print(f"\nLook again: holdfast show {event_id}")
    return 0 if settled else 1


def play(sample: Sample, stack: Stack, state: State) -> tuple[list[str], bool]:
    """Send an example, and wait until its events are stored or archived.

    Returns:
        The ids of the events, and whether all are.
    """
    killing = _killed_workers(stack, state) if sample.kills_workers else contextlib.nullcontext()
    with faults(state.genesys, dict(sample.faults)), killing:
        event_ids = _sent(sample, stack)
        return event_ids, _settled(stack, event_ids)


def _sent(sample: Sample, stack: Stack) -> list[str]:
    """Send an example, and print what has to follow. Returns the ids of its events."""
    sender = Sender(stack)
    for item in sample.items():
        sender.send([item])
    print(f"Sent: {sample.what}. {sample.follows}")
    return list(sender.sent)


@contextlib.contextmanager
def _killed_workers(stack: Stack, state: State) -> Iterator[None]:
    """Kill the processor's workers while they look up users, and let their messages be visible again soon."""
    sqs, queue = stack.client("sqs"), stack.outputs["BufferQueueUrl"]
    name = "VisibilityTimeout"
    before = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=[name])["Attributes"]
    ended = threading.Event()

    def kill() -> None:
        while not ended.wait(_KILL_SECONDS):
            if stats(state.genesys)["unanswered"]:
                kill_workers(state.engine_pid, stack.outputs["ProcessorFunctionName"])

    thread = threading.Thread(target=kill, daemon=True)
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={name: _KILLED_VISIBILITY_SECONDS})
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        sqs.set_queue_attributes(QueueUrl=queue, Attributes=before)


def _parser() -> argparse.ArgumentParser:
    examples = "\n".join(f"  {name:<10} {sample.what}" for name, sample in SAMPLES.items())
    parser = argparse.ArgumentParser(
        prog="make send",
        description=__doc__,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("event", nargs="?", default="user", help="an example, or a file with an EventBridge envelope")
    parser.add_argument("--no-wait", action="store_true", help="do not wait until the event is stored or archived")
    return parser


def _of_file(path: Path) -> Sample:
    """The event in a file.

    Raises:
        LocalError: It is no envelope, or the rule of the stack does not select it.
    """
    if not path.exists():
        raise LocalError(f"There is no file {path} and no example of that name. Examples: {', '.join(SAMPLES)}.")
    event = json.loads(read_event(path))
    if not isinstance(event, dict) or not {"source", "detail-type", "detail"} <= event.keys():
        raise LocalError(
            "The event has no source, detail-type or detail. Send an EventBridge envelope; the fixtures of events/ "
            "are for make invoke."
        )
    if not str(event["source"]).startswith(SOURCES):
        raise LocalError(
            f"The rule of the stack selects sources that begin with {' or '.join(SOURCES)}, so this event would not "
            "arrive. Change its source to genesys.cloud."
        )
    return Sample(
        f"the event in {path}", "", lambda: [BusEvent(event["detail-type"], event["detail"], source=event["source"])]
    )


def _settled(stack: Stack, event_ids: Sequence[str]) -> bool:
    """Wait until all events are stored or archived."""
    auditor, end = Auditor(stack), time.monotonic() + _SECONDS
    with screen.errors().status("Waiting until it is stored or archived ..."):
        while time.monotonic() < end:
            if all(one.place in _SETTLED for one in auditor.locate(event_ids).values()):
                return True
            time.sleep(_POLL_SECONDS)
    return False


if __name__ == "__main__":
    sys.exit(exit_code(main))
