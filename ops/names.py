"""What the names of triage executions and the keys of archive objects contain.

An execution of the intake or of the sweep is named ``<topic>-<digest of the event id>-<message id>[-g<n>]``, one of a
replay ``replay-<replay>-<digest of the event id>[-g<n>]``. An archive object is
``archive/category=<category>/dt=<date>/<fingerprint>/<execution>.json``.
See :mod:`holdfast.domain.identity` and :mod:`holdfast.domain.replay`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from holdfast.domain.identity import event_digest

_NAME = re.compile(
    r"(?:replay-[0-9a-f]{16}-(?P<replayed>[0-9a-f]{32})"
    r"|(?P<topic>.*)-(?P<digest>[0-9a-f]{16})-(?P<message>[0-9A-Za-z]{1,32}))(?:-g\d+)?"
)
_KEY = re.compile(
    r"archive/category=(?P<category>[A-Z_]+)/dt=[0-9-]+/(?P<fingerprint>[^/]+)/(?P<execution>[^/]+)\.json"
)


@dataclass(frozen=True, slots=True)
class ExecutionName:
    """The parts of an execution's name.

    Attributes:
        topic: The end of the event's topic; ``None`` for a replay.
        digest: A part of the digest of the event id.
        message: The message id without dashes; ``None`` for a replay.
    """

    topic: str | None
    digest: str
    message: str | None

    @classmethod
    def read(cls, name: str) -> ExecutionName | None:
        """Read a name, or ``None`` if an operator chose it."""
        match = _NAME.fullmatch(name)
        return cls(match["topic"], match["replayed"] or match["digest"], match["message"]) if match else None


@dataclass(frozen=True, slots=True)
class ArchiveKey:
    """The parts of an archive object's key."""

    category: str
    fingerprint: str
    execution: str

    @classmethod
    def read(cls, key: str) -> ArchiveKey | None:
        """Read a key, or ``None`` if something else is below ``archive/``."""
        match = _KEY.fullmatch(key)
        return cls(match["category"], match["fingerprint"], match["execution"]) if match else None

    @property
    def topic(self) -> str:
        """The end of the event's topic, or ``replayed``."""
        name = ExecutionName.read(self.execution)
        return (name.topic if name else None) or "replayed"


def digests(event_id: str) -> tuple[str, str]:
    """The digests of an event that names contain: the intake's, and a replay's."""
    return event_digest(event_id), event_digest(event_id, 32)


def compact(message_id: str) -> str:
    """A message id without dashes, as names contain it."""
    return message_id.replace("-", "")
