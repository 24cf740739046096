"""Run every measurement: ``make bench``. Prints a table, writes ``benchmarks/results/latest.json`` and the picture.

Two cores are enough and two are needed: the handlers run on the first, the servers on the second.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import cost, fresh, picture
from benchmarks.burst import with_figures
from benchmarks.contest import CONTROL, FLOOR, OURS, PEERS, RECORDS, Contest, Samples, growth_exponent
from benchmarks.servers import Upstream
from local.engine import ROOT
from local.stack import build

RESULTS = ROOT / "benchmarks" / "results" / "latest.json"
PICTURE = ROOT / "docs" / "img" / "performance.svg"
HANDLERS_CORE, SERVERS_CORE = 0, 1
API_MS, TABLE_MS, BULK_FACTOR = 50, 5, 3
#: Kilobytes of a body → rounds of a latency, and of a CPU measurement.
ROUNDS = {1: (8, 40), 10: (12, 60), 250: (8, 16)}
GROWTH_RECORDS = (1, 3, 10, 30, 100, 300, 1000)
GROWTH_ROUNDS = 7
COLD_START_ROUNDS = 10


def main() -> None:
    """Measure, print, write."""
    os.sched_setaffinity(0, {HANDLERS_CORE})
    with Upstream(SERVERS_CORE) as upstream, artifact() as built:
        contest = Contest(upstream)
        cpu = {kb: contest.cpu(kb, rounds=rounds) for kb, (_, rounds) in ROUNDS.items()}
        show("CPU per event, ms", {f"{kb} KB": samples for kb, samples in cpu.items()}, per=RECORDS)
        latency = latencies(contest, upstream)
        show("latency of a batch of ten, ms", latency)
        upstream.charge()
        calls = {state: contest.calls(10, known_users=state == "warm") for state in ("cold", "warm")}
        growth = growth_of(contest)
        memory = fresh.peak_memory(built, upstream)
        starts = fresh.cold_starts(built, COLD_START_ROUNDS)
        result = {
            "measuredAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **headline(latency, cpu, starts),
            "calls_warm_batch": requests(calls["warm"][OURS]),
            "artifact_mb": round(fresh.megabytes(built), 2),
            "artifact_with_bytecode_mb": with_bytecode_mb(built),
            "growth_exponent": round(growth_exponent(growth), 3),
            "peak_memory_mb": round(max(memory.values()), 1),
            "detail": {
                "latency_ms": {title: medians(samples) for title, samples in latency.items()},
                "latency_control": {title: round(samples.control, 3) for title, samples in latency.items()},
                "cpu_ms_per_event": {f"{kb} KB": medians(samples, RECORDS) for kb, samples in cpu.items()},
                "cpu_control": {f"{kb} KB": round(samples.control, 3) for kb, samples in cpu.items()},
                "requests_per_batch": {
                    state: {name: requests(counts) for name, counts in found.items()} for state, found in calls.items()
                },
                "growth_cpu_ms": {str(records): round(value, 2) for records, value in growth.items()},
                "memory_mb": {name: round(value, 1) for name, value in memory.items()},
                "cold_start_ms": {name: round(sorted(taken)[len(taken) // 2], 1) for name, taken in starts.items()},
                "cold_start_vs_floor": {n: round(fresh.median_ratio(starts, n, "floor"), 3) for n in starts},
                "dollars_per_million_events": bills(calls["warm"], latency["10 KB, known users"]),
                "dollars_per_thousand_letters": {
                    name: rounded(cost.thousand_letters(route)) for name, route in cost.ROUTES.items()
                },
                "transitions_per_letter": {name: cost.transitions(route) for name, route in cost.ROUTES.items()},
                "requests_per_letter": {name: cost.requests_of(route) for name, route in cost.ROUTES.items()},
            },
        }
    write(result)
    picture.draw(result["detail"], PICTURE)


@contextmanager
def artifact() -> Iterator[Path]:
    """The functions' artifact, built for this run: they share one."""
    with tempfile.TemporaryDirectory() as folder:
        yield next(build(ROOT, Path(folder)).parent.glob("ProcessorFunction*"))


def latencies(contest: Contest, upstream: Upstream) -> dict[str, Samples]:
    """A batch of ten at each size, with known and with unknown users; once more with dearer bulk calls."""
    found = {}
    for kilobytes, (rounds, _) in ROUNDS.items():
        upstream.charge(genesys_ms=API_MS, dynamodb_ms=TABLE_MS)
        found[f"{kilobytes} KB, unknown users"] = contest.latency(kilobytes, known_users=False, rounds=rounds)
        found[f"{kilobytes} KB, known users"] = contest.latency(kilobytes, known_users=True, rounds=3 * rounds)
    upstream.charge(genesys_ms=API_MS, dynamodb_ms=TABLE_MS, bulk_factor=BULK_FACTOR)
    for state in ("unknown", "known"):
        samples = contest.latency(10, known_users=state == "known", rounds=8)
        found[f"10 KB, {state} users, bulk x {BULK_FACTOR}"] = samples
    return found


def growth_of(contest: Contest) -> dict[int, float]:
    """CPU of a batch, in ms, by its number of records (1 KB each)."""
    return {
        records: contest.cpu(1, records=records, rounds=GROWTH_ROUNDS, names=[OURS]).median(OURS)
        for records in GROWTH_RECORDS
    }


def headline(latency: dict[str, Samples], cpu: dict[int, Samples], starts: dict[str, list[float]]) -> dict[str, Any]:
    """The ratios that are promised. A speed-up is the peer's time over ours; a cost is ours over the other's."""
    cold, warm = latency["10 KB, unknown users"], latency["10 KB, known users"]
    ratios = {
        "cold_vs_per_event": cold.ratio("per_event", OURS),
        "cold_vs_powertools": cold.ratio("powertools", OURS),
        "cold_vs_threaded": cold.ratio("threaded", OURS),
        "warm_vs_per_event": warm.ratio("per_event", OURS),
        "warm_vs_powertools": warm.ratio("powertools", OURS),
        "warm_vs_threaded": warm.ratio("threaded", OURS),
        "cold_vs_per_event_250kb": latency["250 KB, unknown users"].ratio("per_event", OURS),
        "cold_vs_powertools_250kb": latency["250 KB, unknown users"].ratio("powertools", OURS),
        "warm_vs_per_event_250kb": latency["250 KB, known users"].ratio("per_event", OURS),
        "warm_vs_powertools_250kb": latency["250 KB, known users"].ratio("powertools", OURS),
        "cpu_vs_powertools": cpu[10].ratio(OURS, "powertools"),
        "cpu_vs_threaded": cpu[10].ratio(OURS, "threaded"),
        "cpu_vs_floor_10kb": cpu[10].ratio(OURS, FLOOR),
        # Like with like: both with bytecode, both without. How AWS's runtime ships boto3 is not ours to say, so the
        # third is the worst case: ours without, boto3 with.
        "cold_start_vs_floor": fresh.median_ratio(starts, "holdfast, with bytecode", "floor"),
        "cold_start_vs_floor_without_bytecode": fresh.median_ratio(
            starts, "holdfast, without bytecode", "floor, without bytecode"
        ),
        "cold_start_vs_floor_as_shipped": fresh.median_ratio(starts, "holdfast, as shipped", "floor"),
    }
    return {
        "ratios": {name: round(value, 3) for name, value in ratios.items()},
        "control": {
            "latency_cold": round(cold.control, 3),
            "latency_warm": round(warm.control, 3),
            "cpu": round(cpu[10].control, 3),
            "cold_start": round(fresh.median_ratio(starts, "floor, again", "floor"), 3),
        },
    }


def bills(calls: dict[str, Any], latency: Samples) -> dict[str, Any]:
    """Dollars for a million events of 10 KB, by handler and part; ours tells apart what the others do not do at all."""
    found = {
        name: rounded(cost.million_events(calls[name], latency.median(name), RECORDS, 10 * 1024))
        for name in (OURS, *PEERS)
    }
    return {**found, f"{OURS}, on top": rounded(cost.publication(10 * 1024))}


def requests(counts: dict[str, int]) -> int:
    """Requests among what was counted."""
    return sum(number for name, number in counts.items() if name != "write units")


def with_bytecode_mb(built: Path) -> float:
    """The artifact's size with bytecode."""
    with fresh.with_bytecode(built) as compiled:
        return round(fresh.megabytes(compiled), 2)


def medians(samples: Samples, per: int = 1) -> dict[str, float]:
    """The median of each handler."""
    return {name: round(samples.median(name) / per, 4) for name in samples.by_name}


def rounded(bill: cost.Bill) -> cost.Bill:
    """With a total, to a tenth of a cent."""
    return {name: round(dollars, 4) for name, dollars in {**bill, "total": sum(bill.values())}.items()}


def show(title: str, table: dict[str, Samples], per: int = 1) -> None:
    """Print medians, and in brackets how many times ours each takes."""
    print(f"\n{title}")
    for row, samples in table.items():
        cells = (
            f"{name} {samples.median(name) / per:.3f} ({samples.ratio(name, OURS):.2f})" for name in samples.by_name
        )
        print(f"  {row:<32} {'  '.join(cells)}", flush=True)


def write(result: dict[str, Any]) -> None:
    """Write the results with what the last burst told (``make burst``), and print the headline."""
    result = with_figures(result)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print()
    for name, value in result.items():
        if name != "detail":
            print(f"{name:<28} {json.dumps(value, indent=2) if isinstance(value, dict) else value}")
    print(f"\nA difference within the control ({CONTROL}) is no difference. Details: {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
