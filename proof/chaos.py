"""``make chaos``: a steady stream of mixed events under random faults, audited all the time.

    make chaos SEED=7 MINUTES=30

Traffic, weather and strikes are drawn from the seed; what meets what is up to the machine. When the time is over
everything is healed, and the run ends when everything has come to rest. It exits with 0 only if no audit missed an
event, everything ended where it belongs, and every event had exactly one effect.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from holdfast.domain.envelope import identify
from local.audit import Auditor, Place, executions, keys
from local.environment import SHORT_WAITS, LocalStack
from local.errors import LocalError
from local.genesys import GenesysStandIn
from local.reconciliation import Balance, balance, look, messages, shortened
from local.sending import ENTRIES_PER_CALL, Sender
from local.traffic import BusEvent, Expected, burst
from proof.effects import Effects
from proof.fault_injector import FUNCTIONS, WAYS, Saboteur
from proof.network import FAULTS, SERVICES, Fault, actions

EVENTS_PER_SECOND = 13.0
#: One piece of the stream; each has its own nonsense.
PIECE = 500
AUDIT_SECONDS = 20.0
WEATHER_SECONDS = 6.0
STRIKE_SECONDS = 2.0
#: So long that events die of it in the buffer, and triage has to send them back.
OUTAGE_SECONDS = 20.0
OUTAGE_EVERY_SECONDS = 120.0
#: How long everything may take to come to rest once all faults are over.
REST_SECONDS = 900
VISIBILITY_SECONDS = 20
WAIT_SCALE = 0.005
PARAMETERS = {
    "EnrichmentPolicy": "required",
    "MaxConcurrency": "4",
    **SHORT_WAITS,
    "BackoffCapSeconds": "2",
}
#: What no fault excuses. Under faults a valid event may well end in the archive, or a letter as ``UNKNOWN``: it is in
#: custody, and the figures tell how many.
NEVER = (
    "bodies that are no event and were stored",
    "letters archived with another content",
    "identities that nobody sent",
    "identities still",
    "executions that still run",
)
FAILED_STREAM = "aws/lambda/"
DENIABLE = {
    "ProcessorRole": ("dynamodb:PartiQLInsert", "sqs:ChangeMessageVisibility", "states:SendTaskSuccess"),
    "DeadLetterIntakeRole": ("s3:PutObject", "states:StartExecution"),
    "RedriveRole": ("sqs:SendMessage", "s3:GetObject"),
    "ArchiveRole": ("s3:PutObject",),
    "SettleRole": ("s3:DeleteObject", "events:PutEvents"),
    "FanOutRole": ("events:PutEvents",),
}
GENESYS = (
    {"status": 503},
    {"status": 429, "retryAfter": 2},
    {"status": 401, "times": 1},
    {"status": 500, "rate": 0.5},
    {"down": True},
    {"latencySeconds": 1.0, "rate": 0.5},
)


@dataclass(frozen=True, slots=True)
class Moment:
    """One audit: where every event was that had been sent by then, and how many messages the queues held.

    ``unlocated`` are the events found nowhere.
    """

    seconds: float
    sent: int
    stored: int
    archived: int
    in_triage: int
    in_queue: int
    queued: int
    unlocated: tuple[str, ...]
    fired: int
    deaths: int


class Chaos:
    """One run on a deployed stack."""

    def __init__(
        self, local: LocalStack, saboteur: Saboteur, effects: Effects, seed: int, say: Callable[[str], None]
    ) -> None:
        self._local, self._stack, self._saboteur, self._say = local, local.stack, saboteur, say
        self._seed = seed
        self._sender = Sender(local.stack)
        self._auditor = Auditor(local.stack)
        self._began = time.monotonic()
        self._lock = threading.Lock()
        #: The outage comes first: the first rule that matches decides.
        self._current: dict[str, Collection[Fault]] = {"outage": (), "weather": ()}
        self.disturbances: Counter[str] = Counter()
        self.moments: list[Moment] = []
        self.effects = effects

    def run(self, minutes: float) -> None:
        """Send for this long under faults, heal, and wait until everything has come to rest."""
        self._warm_up()
        self._began = time.monotonic()
        until = self._began + minutes * 60
        hands = [
            threading.Thread(target=self._send, args=(until,), daemon=True),
            threading.Thread(target=self._weather, args=(until,), daemon=True),
            threading.Thread(target=self._strike, args=(until,), daemon=True),
            threading.Thread(target=self._long_outages, args=(until,), daemon=True),
        ]
        for hand in hands:
            hand.start()
        while any(hand.is_alive() for hand in hands):
            self._audit()
            time.sleep(AUDIT_SECONDS)
        self._heal()
        self._rest()
        self.effects.read_stream()

    # -- what happens --------------------------------------------------------------------------------------------

    def _warm_up(self) -> None:
        """Wait until the first event is through: a fault that comes before the first worker hits nothing."""
        first = burst(PIECE, random.Random(f"first {self._seed}"), datetime.now(UTC))
        self._sender.send([item for item in first if isinstance(item, BusEvent)][:1])
        deadline = time.monotonic() + REST_SECONDS
        while not self.effects.publications:
            if time.monotonic() > deadline:
                raise LocalError(f"After {REST_SECONDS} s the first event is not published.")
            time.sleep(0.5)

    def _send(self, until: float) -> None:
        rng = random.Random(self._seed)
        due = time.monotonic()
        while time.monotonic() < until:
            piece = burst(PIECE, rng, datetime.now(UTC))
            for first in range(0, len(piece), ENTRIES_PER_CALL):
                items = piece[first : first + ENTRIES_PER_CALL]
                self._sender.send(items)
                due += len(items) / EVENTS_PER_SECOND
                time.sleep(max(0.0, due - time.monotonic()))
                if time.monotonic() > until:
                    return

    def _weather(self, until: float) -> None:
        """What the network and the services are like, for a few seconds each."""
        rng = random.Random(f"weather {self._seed}")
        kinds = {
            self._drizzle: 4,
            self._storm: 3,
            self._outage: 2,
            self._lost_answers: 2,
            self._genesys_fails: 2,
            self._throttled_function: 1,
            self._denied: 1,
        }
        while time.monotonic() < until:
            kind = rng.choices(list(kinds), list(kinds.values()))[0]
            self.disturbances[kind.__name__.strip("_")] += 1
            with self._survived(), kind(rng):
                time.sleep(WEATHER_SECONDS)

    def _strike(self, until: float) -> None:
        """Workers die, executions are stopped, the sweep runs."""
        rng = random.Random(f"strikes {self._seed}")
        kinds = {self._order: 6, self._kill: 2, self._abort: 1, self._sweep: 1}
        while time.monotonic() < until:
            kind = rng.choices(list(kinds), list(kinds.values()))[0]
            self.disturbances[kind.__name__.strip("_")] += 1
            with self._survived():
                kind(rng)
            time.sleep(STRIKE_SECONDS)

    def _long_outages(self, until: float) -> None:
        """Again and again the events table takes nothing for a while, whatever the weather."""
        outage = [Fault("broken", "dynamodb", "BatchExecuteStatement", "ProcessorFunction")]
        while time.monotonic() < until:
            self.disturbances["long_outage"] += 1
            with self._faults(outage, "outage"):
                time.sleep(OUTAGE_SECONDS)
            time.sleep(max(0.0, min(OUTAGE_EVERY_SECONDS - OUTAGE_SECONDS, until - time.monotonic())))

    @contextlib.contextmanager
    def _survived(self) -> Iterator[None]:
        """A disturbance that is refused is none; what it did not do is not counted anywhere."""
        try:
            yield
        except (ClientError, BotoCoreError, OSError) as err:
            self._say(f"  a disturbance did not succeed: {type(err).__name__}")

    # -- weather -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _faults(self, faults: Collection[Fault], source: str = "weather") -> Iterator[None]:
        self._set_faults(source, faults)
        try:
            yield
        finally:
            self._set_faults(source, ())

    def _set_faults(self, source: str, faults: Collection[Fault]) -> None:
        """Weather and outage each have faults of their own, and neither takes the other's away."""
        with self._lock:
            self._current[source] = faults
            self._saboteur.network.set_faults([fault for some in self._current.values() for fault in some])

    def _drizzle(self, rng: random.Random) -> contextlib.AbstractContextManager[None]:
        """A few calls of every service fail."""
        names = rng.sample(("throttled", "broken", "reset", "lost", "slow"), 3)
        return self._faults([Fault(name, service, share=0.08) for service in SERVICES for name in names])

    def _storm(self, rng: random.Random) -> contextlib.AbstractContextManager[None]:
        """Many calls of some services fail, in several ways."""
        hit = rng.sample(SERVICES, 3)
        return self._faults(
            [Fault(name, service, share=0.25) for service in hit for name in rng.sample((*FAULTS, "slow"), 3)]
        )

    def _outage(self, rng: random.Random) -> contextlib.AbstractContextManager[None]:
        """One service is not there at all."""
        return self._faults([Fault(rng.choice(("broken", "reset", "throttled")), rng.choice(SERVICES))])

    def _lost_answers(self, rng: random.Random) -> contextlib.AbstractContextManager[None]:
        """What was asked for is done, and nobody is told."""
        return self._faults([Fault("lost", service, share=0.5) for service in rng.sample(SERVICES, 3)])

    @contextlib.contextmanager
    def _genesys_fails(self, rng: random.Random) -> Iterator[None]:
        self._local.genesys.set_faults(dict(rng.choice(GENESYS)))
        try:
            yield
        finally:
            self._local.genesys.set_faults()

    @contextlib.contextmanager
    def _throttled_function(self, rng: random.Random) -> Iterator[None]:
        function = rng.choice(FUNCTIONS)
        self._saboteur.throttle(function)
        try:
            yield
        finally:
            self._saboteur.throttle(function, at=None)

    @contextlib.contextmanager
    def _denied(self, rng: random.Random) -> Iterator[None]:
        role = rng.choice(tuple(DENIABLE))
        self._saboteur.deny(role, rng.choice(DENIABLE[role]))
        try:
            yield
        finally:
            self._saboteur.deny(role, None)

    # -- strikes -------------------------------------------------------------------------------------------------

    def _order(self, rng: random.Random) -> None:
        self._saboteur.withdraw()
        way = rng.choices(WAYS, (4, 4, 2, 1))[0]
        self._saboteur.order(rng.choice(FUNCTIONS), "Any", rng.choice(("before", "after")), way)

    def _kill(self, rng: random.Random) -> None:
        self._saboteur.kill(rng.choice(FUNCTIONS))

    def _abort(self, rng: random.Random) -> None:
        """Somebody stops an execution by hand."""
        running = sorted(one["executionArn"] for one in executions(self._stack, statusFilter="RUNNING"))
        if running:
            self._local.client("stepfunctions").stop_execution(executionArn=rng.choice(running))

    def _sweep(self, _rng: random.Random) -> None:
        self._saboteur.invoke("EvidenceSweepFunction", {"olderThanHours": 30 / 3600})

    # -- the end -------------------------------------------------------------------------------------------------

    def _heal(self) -> None:
        self._saboteur.withdraw()
        self._saboteur.network.set_faults()
        self._local.genesys.set_faults()

    def _rest(self) -> None:
        """Wait until nothing is on its way; the sweep runs as its schedule would, and what the stream gave up goes out.

        Raises:
            LocalError: Something does not come to rest.
        """
        deadline = time.monotonic() + REST_SECONDS
        told = 0
        while time.monotonic() < deadline:
            moment = self._audit()
            self._saboteur.invoke("EvidenceSweepFunction", {"olderThanHours": 30 / 3600})
            given_up = keys(self._stack, FAILED_STREAM)
            for key in given_up[told:]:
                self._saboteur.invoke("FanOutFunction", {"republish": {"failure": key}})
            told = len(given_up)
            silent = moment.stored - len(self.effects.publications)
            if not (moment.queued or moment.in_triage or silent or self._still_running()):
                return
            time.sleep(AUDIT_SECONDS / 4)
        raise LocalError(f"After {REST_SECONDS} s not everything has come to rest: {self.moments[-1]}")

    def _still_running(self) -> bool:
        return any(executions(self._stack, statusFilter="RUNNING"))

    # -- what is seen --------------------------------------------------------------------------------------------

    def _audit(self) -> Moment:
        """Look where everything is. The queues come first: what moves on meanwhile is seen in its next place."""
        letters = set(self._sender.sent)
        queues = [self._stack.outputs[name] for name in ("BufferQueueUrl", "DeadLetterQueueUrl")]
        queued = [identify(body)[0] for url in queues for body in messages(self._stack, url)]
        found = self._auditor.locate(letters)
        places = Counter(one.place for one in found.values())
        unlocated = {one.event_id for one in found.values() if one.place is Place.UNLOCATED}
        moment = Moment(
            seconds=round(time.monotonic() - self._began, 1),
            sent=len(letters),
            stored=places[Place.STORED],
            archived=places[Place.ARCHIVED],
            in_triage=places[Place.IN_TRIAGE],
            in_queue=len(unlocated & set(queued)),
            queued=len(queued),
            unlocated=tuple(sorted(unlocated - set(queued))),
            fired=sum(self._saboteur.network.fired().values()),
            deaths=sum(self._saboteur.taken().values()) + sum(self._saboteur.killed.values()),
        )
        self.moments.append(moment)
        self._say(told(moment))
        return moment

    def _valid_archived(self) -> int:
        """Valid events that triage gave up under faults; each can be replayed."""
        valid = [one.event_id for one in self._sender.sent.values() if one.expected is Expected.STORED]
        return sum(one.place is Place.ARCHIVED for one in self._auditor.locate(valid).values())

    def verdict(self) -> dict[str, Any]:
        """The run in figures, and everything that is wrong with it."""
        result = balance(self._sender.sent.values(), look(self._stack))
        stored = set(self.effects.inserts)
        fired = self._saboteur.network.fired()
        missed = [moment for moment in self.moments if moment.unlocated]
        doubled = self.effects.doubled
        silent = stored - self.effects.publications.keys()
        faults = list(_wrong(result))
        faults += [f"audits that missed an event: {len(missed)} ({missed[0]})"] if missed else []
        faults += [f"events with more than one effect: {len(doubled)} ({shortened(doubled)})"] if doubled else []
        faults += [f"stored events that were never published: {len(silent)} ({shortened(silent)})"] if silent else []
        faults += (
            [f"stored events that were changed or removed: {self.effects.changes}"] if self.effects.changes else []
        )
        return {
            "seed": self._seed,
            "seconds": round(time.monotonic() - self._began),
            "deliveries": self._sender.deliveries,
            "copies": self._sender.copies,
            "events": result.sent,
            "stored": result.stored,
            "archived": result.archived,
            "validArchived": self._valid_archived(),
            "lost": len(result.lost),
            "doubled": len(doubled),
            "audits": len(self.moments),
            "auditsThatMissedAnEvent": len(missed),
            "inserts": sum(self.effects.inserts.values()),
            "publications": sum(self.effects.publications.values()),
            "publishedAgain": sum(self.effects.publications.values()) - len(self.effects.publications),
            "calls": self._saboteur.network.calls,
            "fired": sum(fired.values()),
            "firedByKind": dict(sorted(actions(fired).items())),
            "firedByCall": {f"{service} {operation}": n for (service, operation), n in sorted(_by_call(fired).items())},
            "otherwise": [fault for fault in result.faults if not fault.startswith(NEVER)],
            "deaths": sum(self._saboteur.taken().values()) + sum(self._saboteur.killed.values()),
            "deathsOnOrder": {" ".join(order): count for order, count in sorted(self._saboteur.taken().items())},
            "disturbances": dict(sorted(self.disturbances.items())),
            "executions": dict(sorted(Counter(one["status"] for one in executions(self._stack)).items())),
            "wrong": faults,
        }


def _wrong(result: Balance) -> Iterator[str]:
    if result.lost:
        yield f"lost: {len(result.lost)} ({shortened(result.lost)})"
    yield from (fault for fault in result.faults if fault.startswith(NEVER))


def _by_call(fired: Counter[tuple[str, str, str]]) -> Counter[tuple[str, str]]:
    counted: Counter[tuple[str, str]] = Counter()
    for (service, operation, _), count in fired.items():
        counted[service, operation] += count
    return counted


def told(moment: Moment) -> str:
    """One audit in one line."""
    return (
        f"{moment.seconds:7.1f} s  sent {moment.sent}  stored {moment.stored}  archived {moment.archived}  "
        f"in triage {moment.in_triage}  in a queue {moment.in_queue}  nowhere {len(moment.unlocated)}  "
        f"faults {moment.fired}  deaths {moment.deaths}"
    )


def chaos(seed: int, minutes: float, say: Callable[[str], None] = lambda _line: None) -> dict[str, Any]:
    """Deploy, run, and report: the figures, what is wrong, and every audit."""
    genesys = GenesysStandIn(requests_per_minute=100_000)
    local = LocalStack(parameters=PARAMETERS, wait_scale=WAIT_SCALE, genesys=genesys, say=say)
    with local, Saboteur(local, seed=seed) as saboteur, Effects(local.stack) as effects:
        saboteur.set_visibility_timeouts(VISIBILITY_SECONDS)
        run = Chaos(local, saboteur, effects, seed, say)
        run.run(minutes)
        return run.verdict() | {"minutes": minutes, "moments": [asdict(one) for one in run.moments]}


def main(arguments: list[str] | None = None) -> int:
    """Run, and write what ``chaos`` reports into a file."""
    parser = argparse.ArgumentParser(
        prog="python -m proof.chaos", description="A stream of events under random faults."
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=3.0, help="how long events are sent under faults")
    parser.add_argument("--report", type=Path, default=Path(".local/chaos.json"), help="where the figures go")
    options = parser.parse_args(arguments)
    report = chaos(options.seed, options.minutes, lambda line: print(line, flush=True))
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps({name: value for name, value in report.items() if name != "moments"}, indent=1))
    print(f"{'WRONG' if report['wrong'] else 'Nothing is lost, and nothing is double.'} All of it: {options.report}")
    return 1 if report["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
