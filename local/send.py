"""``make send``: sends an event to the stack of ``make up``, and shows what happened to it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from local.background import demand
from local.errors import LocalError, exit_code
from local.fixture_setup import read_event
from local.genesys import faults
from local.samples import SAMPLES, Sample
from local.sending import Sender
from local.stack import Stack, describe
from local.traffic import BusEvent
from ops import screen
from ops.audit import Auditor, Place
from ops.show import read, render

#: The rule of the template selects events whose source begins with one of these.
SOURCES = ("aws.partner/genesys.com", "genesys.cloud")
_SETTLED = {Place.STORED, Place.ARCHIVED}
#: A dead letter is received five times first, which takes up to seven minutes with the default backoff.
_SECONDS = 600
_POLL_SECONDS = 2.0


def main() -> int:
    """Send, wait until the event is stored or archived, and print its history."""
    options = _parser().parse_args()
    sample = SAMPLES.get(options.event) or _of_file(Path(options.event))
    state = demand()
    stack = describe(state.endpoint, state.stack)
    sender = Sender(stack)
    with faults(state.genesys, dict(sample.faults)):
        for item in sample.items():
            sender.send([item])
        print(f"Sent: {sample.what}. {sample.follows}")
        if options.no_wait:
            print("\n".join(f"holdfast show {event_id}" for event_id in sender.sent))
            return 0
        settled = _settled(stack, list(sender.sent))
    for event_id in sender.sent:
        now = datetime.now(UTC)
        screen.console().print(render(read(stack, event_id, now), now) if settled else f"{event_id}: not settled yet")
        print(f"\nLook again: holdfast show {event_id}")
    return 0 if settled else 1


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
