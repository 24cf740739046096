"""Put in place what a fixture needs: ``python -m local.fixture_setup events/executions/triage.json``.

Beside a fixture ``events/<folder>/<case>.json`` stands ``events/<folder>/expected/<case>.json``: what the function
answers, what it leaves behind, and under ``given`` what has to be there first::

    "given": {
      "snapshots":   keys of evidence; each holds the message of events/dead_letter_intake/exhausted.json
      "archive":     where that letter is archived, as events/archive/exhausted.json does it: true, or "replayed" if
                     a replay has stored its event
      "noted":       whether its replay has been noted for the report, as events/replay/note.json does it
      "stored":      whether the events table holds its event
      "attempts":    lines of the attempt log
      "genesys":     faults of the Genesys stand-in, see local/genesys.py
      "environment": variables of the function that differ from the deployed ones
    }
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.adapters.dynamodb import AttemptsTable
from holdfast.adapters.s3 import ArchiveBucket
from holdfast.domain.attempts import Attempt, AttemptKey, Status
from holdfast.domain.errors import Failure
from holdfast.domain.letters import DeadLetter, Message
from holdfast.domain.triage import REPLAYED_TAG
from local.background import demand
from local.engine import ROOT
from local.errors import LocalError, exit_code
from local.stack import describe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local.stack import Stack

EVENTS = ROOT / "events"
LETTER = EVENTS / "dead_letter_intake" / "exhausted.json"
ARCHIVED = EVENTS / "archive" / "exhausted.json"
NOTED = EVENTS / "replay" / "note.json"
AT = "2026-11-23T09:31:00.000Z"


def read_event(path: Path) -> bytes:
    """A file with one event.

    Raises:
        LocalError: It is not there, or not JSON.
    """
    try:
        content = path.read_bytes()
        json.loads(content)
    except OSError as err:
        raise LocalError(f"The event {path} cannot be read ({err.strerror}): name a file with one event.") from err
    except ValueError as err:
        raise LocalError(f"The event {path} is not JSON: {err}") from err
    return content


def expected(fixture: Path) -> dict[str, Any]:
    """The file beside a fixture; empty for an event of your own."""
    path = fixture.parent / "expected" / fixture.name
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


@dataclass(frozen=True, slots=True)
class Givens:
    """Puts things where the steps before would have left them."""

    stack: Stack

    def put(self, given: Mapping[str, Any]) -> None:
        """Put there what the fixture needs; what is there already stays."""
        self._ledger().write([_attempt(line) for line in given.get("attempts", [])])
        for key in given.get("snapshots", []):
            self._bucket().create(key, _letter(key).as_json())
        if given.get("stored"):
            self._step("ProcessorFunction", LETTER)  # it reads a dead letter like any other record
        if given.get("archive"):
            self._archive({"replayed": REPLAYED_TAG}.get(given["archive"], {}))
        if given.get("noted"):
            self._step("ReplayFunction", NOTED)

    def _archive(self, tags: Mapping[str, str]) -> None:
        """The evidence that is archived is released again."""
        evidence = json.loads(ARCHIVED.read_text())["snapshots"][-1]
        self._bucket().create(evidence, _letter(evidence).as_json())
        self._bucket().tag(self._step("ArchiveFunction", ARCHIVED)["key"], tags)
        self._bucket().delete([evidence])

    def _step(self, logical_id: str, fixture: Path) -> Any:
        """What the deployed function of an earlier step answers to its own fixture."""
        name, event = self.stack.resources[logical_id], fixture.read_bytes()
        answer = self.stack.client("lambda").invoke(FunctionName=name, Payload=event)
        payload = json.load(answer["Payload"])
        if "FunctionError" in answer:
            raise LocalError(f"{logical_id} could not prepare this with {fixture.relative_to(ROOT)}: {payload}")
        return payload

    def _bucket(self) -> ArchiveBucket:
        return ArchiveBucket(self.stack.client("s3"), self.stack.outputs["ArchiveBucketName"])

    def _ledger(self) -> AttemptsTable:
        return AttemptsTable(self.stack.client("dynamodb"), self.stack.outputs["AttemptsTableName"], 30)


def _letter(key: str) -> DeadLetter:
    """The letter of the fixtures, in the message that an evidence key names."""
    message = json.loads(LETTER.read_text())["Records"][0] | {"messageId": Path(key).stem}
    return DeadLetter.of(Message.of_record(message))


def _attempt(line: Mapping[str, Any]) -> Attempt:
    failure = line.get("failure")
    return Attempt(
        key=AttemptKey(line["eventId"], line["messageId"], line["receiveCount"]),
        status=Status(line["status"]),
        at=AT,
        request_id="given",
        failure=Failure(**failure) if failure else None,
    )


def main() -> int:
    """Put what a fixture needs into the stack in the background."""
    parser = argparse.ArgumentParser(prog="python -m local.fixture_setup", description=main.__doc__)
    parser.add_argument("fixture", type=Path, help="for example events/executions/triage.json")
    given = expected(parser.parse_args().fixture).get("given", {})
    state = demand()
    Givens(describe(state.endpoint, state.stack)).put(given)
    print("It is there: " + ", ".join(given) if given else "This event needs nothing to be there.")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
