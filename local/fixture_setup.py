"""Prepares a stack for a fixture: ``python -m local.fixture_setup events/executions/triage.json``.

``events/<folder>/expected/<case>.json`` belongs to the fixture ``events/<folder>/<case>.json``. It contains the
function's answer, what the function leaves behind, and under ``setup`` what must exist before the call::

    "setup": {
      "snapshots":   keys of snapshots; each holds the message of events/dead_letter_intake/exhausted.json
      "archive":     whether this dead letter is archived, as by events/archive/exhausted.json: true, or "replayed" if
                     a replay has stored its event
      "noted":       whether its replay is recorded for the report, as by events/replay/note.json
      "stored":      whether the events table holds its event
      "attempts":    attempt records
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

from holdfast.adapters.dynamodb import AttemptsTableWriter
from holdfast.adapters.s3 import ArchiveBucket
from holdfast.domain.attempts import Attempt, AttemptKey, Status
from holdfast.domain.errors import Failure
from holdfast.domain.letters import DeadLetter, Message
from holdfast.domain.triage import REPLAYED_TAG
from local.background import demand
from local.engine import ROOT
from local.errors import LocalError, exit_code
from local.renewal import Renew, renewal, renewed_event, unchanged
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
    """The content of a file with one event.

    Raises:
        LocalError: The file cannot be read, or it is not JSON.
    """
    try:
        content = path.read_bytes()
        json.loads(content)
    except OSError as err:
        raise LocalError(
            f"The event file {path} cannot be read ({err.strerror}). Give the path of a JSON file."
        ) from err
    except ValueError as err:
        raise LocalError(f"The event file {path} is not JSON: {err}") from err
    return content


def expected(fixture: Path, renew: Renew = unchanged) -> dict[str, Any]:
    """The expected results of a fixture; empty for any other event."""
    path = fixture.parent / "expected" / fixture.name
    found: dict[str, Any] = json.loads(renew(path.read_text())) if path.exists() else {}
    return found


def renewal_of(fixture: Path) -> Renew:
    """A function that gives the events of a fixture new ids, also in what it needs and in what it is compared with."""
    results = fixture.parent / "expected" / fixture.name
    if not results.exists():
        return unchanged
    return renewal(path.read_text() for path in (fixture, results, LETTER, ARCHIVED, NOTED))


@dataclass(frozen=True, slots=True)
class FixtureSetup:
    """Puts into a stack what the steps before a fixture would have left there.

    Attributes:
        stack: The stack.
        renew: Gives the events of the fixture new ids.
    """

    stack: Stack
    renew: Renew = unchanged

    def apply(self, setup: Mapping[str, Any]) -> None:
        """Add what the fixture needs. Nothing is removed."""
        self._attempt_log().write([_attempt(record) for record in setup.get("attempts", [])])
        for key in setup.get("snapshots", []):
            self._bucket().create(key, self._letter(key).as_json())
        if setup.get("archive"):  # before the event is stored, because Archive does not archive a stored event
            self._archive({"replayed": REPLAYED_TAG}.get(setup["archive"], {}))
        if setup.get("stored"):
            self._step("ProcessorFunction", LETTER)
        if setup.get("noted"):
            self._step("ReplayFunction", NOTED)

    def _archive(self, tags: Mapping[str, str]) -> None:
        """Archive the dead letter and delete its snapshot."""
        snapshot = json.loads(self.renew(ARCHIVED.read_text()))["snapshots"][-1]
        self._bucket().create(snapshot, self._letter(snapshot).as_json())
        self._bucket().tag(self._step("ArchiveFunction", ARCHIVED)["key"], tags)
        self._bucket().delete([snapshot])

    def _step(self, logical_id: str, fixture: Path) -> Any:
        """Invoke the function of an earlier step with its own fixture. Returns its answer."""
        name, event = self.stack.resources[logical_id], renewed_event(fixture.read_text(), self.renew)
        answer = self.stack.client("lambda").invoke(FunctionName=name, Payload=event)
        payload = json.load(answer["Payload"])
        if "FunctionError" in answer:
            raise LocalError(f"The setup failed: {logical_id} with {fixture.relative_to(ROOT)} answered {payload}")
        return payload

    def _letter(self, key: str) -> DeadLetter:
        """The dead letter of the fixtures, with the message id of a snapshot's key."""
        event = json.loads(renewed_event(LETTER.read_text(), self.renew))
        return DeadLetter.of(Message.of_record(event["Records"][0] | {"messageId": Path(key).stem}))

    def _bucket(self) -> ArchiveBucket:
        return ArchiveBucket(self.stack.client("s3"), self.stack.outputs["ArchiveBucketName"])

    def _attempt_log(self) -> AttemptsTableWriter:
        return AttemptsTableWriter(self.stack.client("dynamodb"), self.stack.outputs["AttemptsTableName"], 30)


def _attempt(record: Mapping[str, Any]) -> Attempt:
    failure = record.get("failure")
    return Attempt(
        key=AttemptKey(record["eventId"], record["messageId"], record["receiveCount"]),
        status=Status(record["status"]),
        at=AT,
        request_id="setup",
        failure=Failure(**failure) if failure else None,
    )


def main() -> int:
    """Prepare the stack of ``make up`` for a fixture."""
    parser = argparse.ArgumentParser(prog="python -m local.fixture_setup", description=main.__doc__)
    parser.add_argument("fixture", type=Path, help="for example events/executions/triage.json")
    setup = expected(parser.parse_args().fixture).get("setup", {})
    state = demand()
    FixtureSetup(describe(state.endpoint, state.stack)).apply(setup)
    print("Prepared: " + ", ".join(setup) if setup else "This event needs no setup.")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
