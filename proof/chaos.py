"""``make chaos``: a steady stream of mixed events under random faults, with an audit every 20 seconds.

    make chaos SEED=7 MINUTES=30

The seed determines the events and the fault plan; which call meets which fault depends on the machine. At the end all
faults are removed, and the run waits until every event is stored or archived. It exits with 0 only if no audit missed
an event, every event ended in its place, and every stored event was inserted once.
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
from functools import partial
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from holdfast.domain.envelope import examine
from holdfast.domain.letters import SNAPSHOT_PREFIX
from local.environment import SHORT_WAITS, LocalStack
from local.errors import exit_code
from local.eventually import eventually
from local.genesys import GenesysStandIn
from local.reconciliation import look, messages
from local.sending import Sender
from local.traffic import BusEvent, burst
from ops.audit import Auditor, Place
from ops.deployed import executions, keys
from ops.reconciliation import Expected, reconcile, shortened
from proof.effects import Effects
from proof.fault_injector import FUNCTIONS, WAYS, FaultInjector
from proof.network import FAULTS, SERVICES, Fault
from proof.records import write_records

REPORT = Path(".local/chaos.jsonl")
EVENTS_PER_SECOND = 13.0
#: The stream is planned in pieces of this many deliveries.
PIECE = 500
AUDIT_SECONDS = 20.0
SERVICE_FAULT_SECONDS = 6.0
WORKER_FAULT_SECONDS = 2.0
#: Long enough for events to reach the DLQ.
TABLE_OUTAGE_SECONDS = 20.0
TABLE_OUTAGE_EVERY_SECONDS = 120.0
#: The limit for the time from the removal of all faults until every event is stored or archived.
SETTLE_SECONDS = 900
VISIBILITY_SECONDS = 20
WAIT_SCALE = 0.005
#: A table outage opens the circuit: the minimum is for the stream's rate and the engine's short periods of an alarm.
PARAMETERS = {
    "EnrichmentPolicy": "required",
    "MaxConcurrency": "4",
    "CircuitBreakerMinEvents": "10",
    **SHORT_WAITS,
}
#: Problems that no fault excuses. A fault may excuse that a valid event is archived, or archived as ``UNKNOWN``.
NEVER = (
    "invalid bodies that were stored",
    "dead letters archived with a changed body",
    "events that were never sent",
    "events still",
    "executions still running",
)
FAILED_STREAM = "aws/lambda/"
DENIABLE = {
    "ProcessorRole": ("dynamodb:PartiQLInsert", "sqs:ChangeMessageVisibility", "states:SendTaskSuccess"),
    "DeadLetterIntakeRole": ("s3:PutObject", "states:StartExecution"),
    "RedriveRole": ("sqs:SendMessage", "s3:GetObject"),
    "ArchiveRole": ("s3:PutObject",),
    "SettleRole": ("s3:DeleteObject", "events:PutEvents"),
    "FanOutRole": ("events:PutEvents",),
    "CircuitBreakerRole": ("sqs:ReceiveMessage", "lambda:InvokeFunction", "lambda:GetEventSourceMapping"),
    "CircuitBreakerMachineRole": ("lambda:UpdateEventSourceMapping", "lambda:InvokeFunction"),
}
GENESYS = (
    {"status": 503},
    {"status": 429, "retryAfter": 2},
    {"status": 401, "times": 1},
    {"status": 500, "rate": 0.5},
    {"down": True},
    {"latencySeconds": 1.0, "rate": 0.5},
)

Undo = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Moment:
    """One audit: where the events sent so far were, and how many faults and dead workers there were so far.

    ``queued`` is the number of messages in the queues, ``missing`` are the events found nowhere.
    """

    seconds: float
    sent: int
    stored: int
    archived: int
    in_triage: int
    in_queue: int
    queued: int
    missing: tuple[str, ...]
    faults: int
    dead_workers: int

    def __str__(self) -> str:
        return (
            f"{self.seconds:7.1f} s  sent {self.sent}  stored {self.stored}  archived {self.archived}  "
            f"in triage {self.in_triage}  in a queue {self.in_queue}  missing {len(self.missing)}  "
            f"faults {self.faults}  dead workers {self.dead_workers}"
        )


class Chaos:
    """One run on a deployed stack."""

    def __init__(
        self, local: LocalStack, injector: FaultInjector, effects: Effects, seed: int, say: Callable[[str], None]
    ) -> None:
        self._local, self._stack, self._injector, self._say = local, local.stack, injector, say
        self._effects = effects
        self._seed = seed
        self._sender = Sender(local.stack)
        self._auditor = Auditor(local.stack)
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._table_faults: Collection[Fault] = ()
        self._service_faults: Collection[Fault] = ()
        self._republished = 0
        self._injected: Counter[str] = Counter()
        self.moments: list[Moment] = []

    def run(self, minutes: float) -> None:
        """Send for this long under faults, remove the faults, and wait until every event is stored or archived."""
        self._send_first_event()
        self._began = time.monotonic()
        end = self._began + minutes * 60
        threads = [
            threading.Thread(target=work, args=(end,), daemon=True)
            for work in (self._send, self._fail_services, self._fail_workers, self._fail_table)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            self._audit()
            time.sleep(AUDIT_SECONDS)
        self._remove_faults()
        eventually(self._settled, "every event is stored or archived", SETTLE_SECONDS, every=AUDIT_SECONDS / 4)
        self._effects.read_stream()

    # -- events --------------------------------------------------------------------------------------------------

    def _send_first_event(self) -> None:
        """Wait until the first event is published: before the first worker runs, no fault can hit."""
        first = burst(PIECE, random.Random(f"first {self._seed}"), datetime.now(UTC))
        self._sender.send([item for item in first if isinstance(item, BusEvent)][:1])
        eventually(lambda: self._effects.publications, "the first event is published", SETTLE_SECONDS)

    def _send(self, end: float) -> None:
        rng = random.Random(self._seed)
        while time.monotonic() < end:
            self._sender.send_at_rate(burst(PIECE, rng, datetime.now(UTC)), EVENTS_PER_SECOND, end)

    # -- faults --------------------------------------------------------------------------------------------------

    def _fail_services(self, end: float) -> None:
        """Network, services, permissions, concurrency and Genesys fail, one fault after the other."""
        rng = random.Random(f"services {self._seed}")
        kinds: dict[Callable[[random.Random], Undo], int] = {
            self._few_calls: 4,
            self._many_calls: 3,
            self._service_down: 2,
            self._lost_responses: 2,
            self._genesys_fails: 2,
            self._function_throttled: 1,
            self._permission_denied: 1,
        }
        while time.monotonic() < end:
            kind = rng.choices(list(kinds), list(kinds.values()))[0]
            with self._injecting(kind.__name__), contextlib.ExitStack() as undo:
                undo.callback(kind(rng))
                time.sleep(SERVICE_FAULT_SECONDS)

    def _fail_workers(self, end: float) -> None:
        """Workers crash, executions are aborted, the sweep runs."""
        rng = random.Random(f"workers {self._seed}")
        kinds: dict[Callable[[random.Random], None], int] = {
            self._crash: 6,
            self._kill: 2,
            self._abort_execution: 1,
            self._sweep: 1,
        }
        while time.monotonic() < end:
            kind = rng.choices(list(kinds), list(kinds.values()))[0]
            with self._injecting(kind.__name__):
                kind(rng)
            time.sleep(WORKER_FAULT_SECONDS)

    def _fail_table(self, end: float) -> None:
        """From time to time the events table accepts no item."""
        while time.monotonic() < end:
            with self._injecting("table_outage"):
                self._set_faults(table=[Fault("broken", "dynamodb", "BatchExecuteStatement", "ProcessorFunction")])
                time.sleep(TABLE_OUTAGE_SECONDS)
                self._set_faults(table=())
            time.sleep(max(0.0, min(TABLE_OUTAGE_EVERY_SECONDS - TABLE_OUTAGE_SECONDS, end - time.monotonic())))

    @contextlib.contextmanager
    def _injecting(self, name: str) -> Iterator[None]:
        """Count an injection. One that the engine refuses does not end the run."""
        self._injected[name.strip("_")] += 1
        try:
            yield
        except (ClientError, BotoCoreError, OSError) as err:
            self._say(f"  not injected: {name.strip('_')} ({type(err).__name__})")

    def _set_faults(self, *, table: Collection[Fault] | None = None, services: Collection[Fault] | None = None) -> None:
        """Replace one kind of network faults. Table faults come first, as the first matching rule decides."""
        with self._lock:
            self._table_faults = self._table_faults if table is None else table
            self._service_faults = self._service_faults if services is None else services
            self._injector.network.set_faults([*self._table_faults, *self._service_faults])

    def _network_faults(self, faults: Collection[Fault]) -> Undo:
        self._set_faults(services=faults)
        return partial(self._set_faults, services=())

    def _few_calls(self, rng: random.Random) -> Undo:
        names = rng.sample(("throttled", "broken", "reset", "lost", "slow"), 3)
        return self._network_faults([Fault(name, service, share=0.08) for service in SERVICES for name in names])

    def _many_calls(self, rng: random.Random) -> Undo:
        """Many calls of three services fail, in three ways."""
        hit = rng.sample(SERVICES, 3)
        return self._network_faults(
            [Fault(name, service, share=0.25) for service in hit for name in rng.sample((*FAULTS, "slow"), 3)]
        )

    def _service_down(self, rng: random.Random) -> Undo:
        return self._network_faults([Fault(rng.choice(("broken", "reset", "throttled")), rng.choice(SERVICES))])

    def _lost_responses(self, rng: random.Random) -> Undo:
        """Calls of three services are executed, but half of the responses are lost."""
        return self._network_faults([Fault("lost", service, share=0.5) for service in rng.sample(SERVICES, 3)])

    def _genesys_fails(self, rng: random.Random) -> Undo:
        self._local.genesys.set_faults(dict(rng.choice(GENESYS)))
        return self._local.genesys.set_faults

    def _function_throttled(self, rng: random.Random) -> Undo:
        function = rng.choice(FUNCTIONS)
        self._injector.throttle(function)
        return partial(self._injector.throttle, function, at=None)

    def _permission_denied(self, rng: random.Random) -> Undo:
        role = rng.choice(tuple(DENIABLE))
        self._injector.deny(role, rng.choice(DENIABLE[role]))
        return partial(self._injector.deny, role, None)

    def _crash(self, rng: random.Random) -> None:
        self._injector.cancel_crashes()
        way = rng.choices(WAYS, (4, 4, 2, 1))[0]
        self._injector.plan_crash((rng.choice(FUNCTIONS), "Any", rng.choice(("before", "after")), way))

    def _kill(self, rng: random.Random) -> None:
        self._injector.kill(rng.choice(FUNCTIONS))

    def _abort_execution(self, rng: random.Random) -> None:
        """Abort an execution of triage. One of the circuit breaker rings an alarm and needs a person."""
        running = sorted(one["executionArn"] for one in executions(self._stack, statusFilter="RUNNING"))
        if running:
            self._local.client("stepfunctions").stop_execution(executionArn=rng.choice(running))

    def _sweep(self, _: object = None) -> None:
        self._injector.invoke("EvidenceSweepFunction", {"olderThanHours": 30 / 3600})

    # -- the end -------------------------------------------------------------------------------------------------

    def _remove_faults(self) -> None:
        self._injector.cancel_crashes()
        self._injector.network.set_faults()
        self._local.genesys.set_faults()

    def _settled(self) -> bool:
        """Whether every event is stored or archived. The sweep runs, and failed stream batches are published again.

        An archived event may still have a snapshot: a worker crashed before it deleted it. The sweep must clear it.
        """
        moment = self._audit()
        self._sweep()
        failures = keys(self._stack, FAILED_STREAM)
        for key in failures[self._republished :]:
            self._injector.invoke("FanOutFunction", {"republish": {"failure": key}})
        self._republished = len(failures)
        unpublished = moment.stored - len(self._effects.publications)
        machines = ("Triage", "CircuitBreaker")
        running = any(any(executions(self._stack, machine, statusFilter="RUNNING")) for machine in machines)
        return not (moment.queued or keys(self._stack, SNAPSHOT_PREFIX) or unpublished or running)

    # -- results -------------------------------------------------------------------------------------------------

    def _audit(self) -> Moment:
        """Locate every event. The queues are read first: an event that moves on is then seen in its next place."""
        sent = set(self._sender.sent)
        queues = [self._stack.outputs[name] for name in ("BufferQueueUrl", "DeadLetterQueueUrl")]
        queued = [examine(body).event_id for url in queues for body in messages(self._stack, url)]
        found = self._auditor.locate(sent).values()
        places = Counter(one.place for one in found)
        in_no_store = {one.event_id for one in found if one.place is Place.IN_NO_STORE}
        moment = Moment(
            seconds=round(time.monotonic() - self._began, 1),
            sent=len(sent),
            stored=places[Place.STORED],
            archived=places[Place.ARCHIVED],
            in_triage=places[Place.IN_TRIAGE],
            in_queue=len(in_no_store & set(queued)),
            queued=len(queued),
            missing=tuple(sorted(in_no_store - set(queued))),
            faults=self._injector.network.fired().total(),
            dead_workers=self._injector.dead_workers,
        )
        self.moments.append(moment)
        self._say(str(moment))
        return moment

    def _incidents(self) -> dict[str, int]:
        """How often each outcome of the circuit breaker occurred. An execution without one has its status."""
        describe = self._local.client("stepfunctions").describe_execution
        ended = [describe(executionArn=one["executionArn"]) for one in executions(self._stack, "CircuitBreaker")]
        outcomes = (json.loads(one.get("output") or "{}").get("outcome", one["status"]) for one in ended)
        return dict(sorted(Counter(outcomes).items()))

    def result(self) -> dict[str, Any]:
        """The figures of the run, with everything that must not happen under ``problems``."""
        reconciliation = reconcile(self._sender.sent.values(), look(self._stack))
        effects, fired = self._effects, self._injector.network.fired()
        valid = [one.event_id for one in self._sender.sent.values() if one.expected is Expected.STORED]
        published = effects.publications
        missed = [moment for moment in self.moments if moment.missing]
        unpublished = effects.inserts.keys() - published.keys()
        must_be_empty = {
            "lost events": reconciliation.lost,
            "audits that missed an event": [str(moment) for moment in missed],
            "events with more than one effect": effects.doubled,
            "stored events that were never published": unpublished,
        }
        problems = [f"{what}: {len(found)} ({shortened(found)})" for what, found in must_be_empty.items() if found]
        if effects.changes:
            problems.append(f"stored events that were changed or removed: {effects.changes}")
        by_kind = Counter(action for _, _, action in fired.elements())
        by_call = Counter(f"{service} {operation}" for service, operation, _ in fired.elements())
        return {
            "seed": self._seed,
            "seconds": round(time.monotonic() - self._began),
            "deliveries": self._sender.deliveries,
            "copies": self._sender.copies,
            "events": reconciliation.sent,
            "stored": reconciliation.stored,
            "archived": reconciliation.archived,
            "validArchived": sum(one.place is Place.ARCHIVED for one in self._auditor.locate(valid).values()),
            "lost": len(reconciliation.lost),
            "doubled": len(effects.doubled),
            "audits": len(self.moments),
            "auditsThatMissedAnEvent": len(missed),
            "inserts": effects.inserts.total(),
            "publications": published.total(),
            "publishedAgain": published.total() - len(published),
            "calls": self._injector.network.calls,
            "faults": fired.total(),
            "faultsByKind": dict(sorted(by_kind.items())),
            "faultsByCall": dict(sorted(by_call.items())),
            "deadWorkers": self._injector.dead_workers,
            "crashes": {" ".join(crash): count for crash, count in sorted(self._injector.crashes().items())},
            "injections": dict(sorted(self._injected.items())),
            "executions": dict(sorted(Counter(one["status"] for one in executions(self._stack)).items())),
            "circuitBreaker": self._incidents(),
            "excused": [problem for problem in reconciliation.problems if not problem.startswith(NEVER)],
            "problems": problems + [problem for problem in reconciliation.problems if problem.startswith(NEVER)],
        }


def chaos(
    seed: int, minutes: float, say: Callable[[str], None] = lambda _line: None
) -> tuple[dict[str, Any], list[Moment]]:
    """Deploy and run. Returns the figures of the run and its audits."""
    genesys = GenesysStandIn(requests_per_minute=100_000)
    local = LocalStack(parameters=PARAMETERS, wait_scale=WAIT_SCALE, genesys=genesys, say=say)
    with local, FaultInjector(local, seed=seed) as injector, Effects(local.stack) as effects:
        injector.set_visibility_timeouts(VISIBILITY_SECONDS)
        run = Chaos(local, injector, effects, seed, say)
        run.run(minutes)
        return {"minutes": minutes} | run.result(), run.moments


def main(arguments: list[str] | None = None) -> int:
    """Run, and write the figures and the audits into a file."""
    parser = argparse.ArgumentParser(prog="python -m proof.chaos", description="Send events under random faults.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=3.0, help="how long to send events under faults")
    options = parser.parse_args(arguments)
    result, moments = chaos(options.seed, options.minutes, lambda line: print(line, flush=True))
    write_records(REPORT, [result, *map(asdict, moments)])
    print(json.dumps(result, indent=1))
    print(f"{'FAILED: see problems.' if result['problems'] else 'No event is lost or doubled.'} Report: {REPORT}")
    return 1 if result["problems"] else 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
