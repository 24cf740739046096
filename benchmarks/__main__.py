"""Run every benchmark: ``make bench``. Prints a table, writes ``benchmarks/results/latest.json`` and draws the picture.

It needs two cores: the handlers run on the first, the servers on the second.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from benchmarks import artifact, cost, measurements
from benchmarks.comparison import CONTROL, FLOOR, OURS, PEERS, RECORDS, Comparison, Samples, growth_exponent
from benchmarks.pictures import draw_performance
from benchmarks.servers import Upstream

HANDLERS_CORE, SERVERS_CORE = 0, 1
API_MS, TABLE_MS, BULK_FACTOR = 50, 5, 3
#: Kilobytes of a body → rounds of a latency measurement and of a CPU measurement.
ROUNDS = {1: (8, 40), 10: (12, 60), 250: (8, 16)}
GROWTH_RECORDS = (1, 3, 10, 30, 100, 300, 1000)
GROWTH_ROUNDS = 7
COLD_START_ROUNDS = 10


def main() -> None:
    """Measure, print and write."""
    os.sched_setaffinity(0, {HANDLERS_CORE})
    with Upstream(SERVERS_CORE) as upstream, artifact.built_artifact() as built:
        comparison = Comparison(upstream)
        cpu = {kb: comparison.cpu(kb, rounds=rounds) for kb, (_, rounds) in ROUNDS.items()}
        show("CPU per event, ms", {f"{kb} KB": samples for kb, samples in cpu.items()}, per=RECORDS)
        latency = latencies(comparison, upstream)
        show("latency of a batch of ten, ms", latency)
        upstream.charge()
        calls = {state: comparison.calls(10, known_users=state == "warm") for state in ("cold", "warm")}
        growth = growth_of(comparison)
        memory = artifact.peak_memory(built, upstream)
        starts = artifact.cold_starts(built, COLD_START_ROUNDS)
        result = {
            "measuredAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **headline(latency, cpu, starts),
            "calls_warm_batch": requests(calls["warm"][OURS]),
            "artifact_mb": round(artifact.megabytes(built), 2),
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
                "cold_start_ms": {name: round(starts.median(name), 1) for name in starts.by_name},
                "cold_start_vs_floor": {name: round(starts.ratio(name, FLOOR), 3) for name in starts.by_name},
                "dollars_per_million_events": bills(calls["warm"], latency["10 KB, known users"]),
                "dollars_per_thousand_letters": {
                    name: with_total(cost.thousand_letters(route)) for name, route in cost.ROUTES.items()
                },
                "transitions_per_letter": {name: cost.transitions(route) for name, route in cost.ROUTES.items()},
                "requests_per_letter": {name: cost.requests_of(route) for name, route in cost.ROUTES.items()},
            },
        }
    write(result)
    draw_performance(result["detail"])


def latencies(comparison: Comparison, upstream: Upstream) -> dict[str, Samples]:
    """A batch of ten at each size, with known and unknown users, and once with slower bulk calls."""
    found = {}
    for kilobytes, (rounds, _) in ROUNDS.items():
        upstream.charge(genesys_ms=API_MS, dynamodb_ms=TABLE_MS)
        found[f"{kilobytes} KB, unknown users"] = comparison.latency(kilobytes, known_users=False, rounds=rounds)
        found[f"{kilobytes} KB, known users"] = comparison.latency(kilobytes, known_users=True, rounds=3 * rounds)
    upstream.charge(genesys_ms=API_MS, dynamodb_ms=TABLE_MS, bulk_factor=BULK_FACTOR)
    for state in ("unknown", "known"):
        samples = comparison.latency(10, known_users=state == "known", rounds=8)
        found[f"10 KB, {state} users, bulk x {BULK_FACTOR}"] = samples
    return found


def growth_of(comparison: Comparison) -> dict[int, float]:
    """CPU time of a batch, in ms, by its number of records (1 KB each)."""
    return {
        records: comparison.cpu(1, records=records, rounds=GROWTH_ROUNDS, names=[OURS]).median(OURS)
        for records in GROWTH_RECORDS
    }


def headline(latency: dict[str, Samples], cpu: dict[int, Samples], starts: Samples) -> dict[str, Any]:
    """The main ratios. A speed-up is the peer's time divided by ours; a cost is ours divided by the other's."""
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
        # The first compares both with bytecode, the second both without. AWS does not document whether its runtime
        # ships boto3 with bytecode; the third is the worst case: ours without, boto3 with.
        "cold_start_vs_floor": starts.ratio("holdfast, with bytecode", FLOOR),
        "cold_start_vs_floor_without_bytecode": starts.ratio("holdfast, without bytecode", "floor, without bytecode"),
        "cold_start_vs_floor_as_shipped": starts.ratio("holdfast, as shipped", FLOOR),
    }
    return {
        "ratios": {name: round(value, 3) for name, value in ratios.items()},
        "control": {
            "latency_cold": round(cold.control, 3),
            "latency_warm": round(warm.control, 3),
            "cpu": round(cpu[10].control, 3),
            "cold_start": round(starts.ratio("floor, again", FLOOR), 3),
        },
    }


def bills(calls: dict[str, Any], latency: Samples) -> dict[str, Any]:
    """Dollars for a million events of 10 KB, by handler and part. What only our pipeline does is listed apart."""
    found = {
        name: with_total(cost.million_events(calls[name], latency.median(name), RECORDS, 10 * 1024))
        for name in (OURS, *PEERS)
    }
    return {**found, f"{OURS}, on top": with_total(cost.publication(10 * 1024))}


def requests(counts: dict[str, int]) -> int:
    """The number of requests; the counts also hold write units."""
    return sum(number for name, number in counts.items() if name != "write units")


def with_bytecode_mb(built: Path) -> float:
    """The size of the artifact with bytecode."""
    with artifact.with_bytecode(built) as compiled:
        return round(artifact.megabytes(compiled), 2)


def medians(samples: Samples, per: int = 1) -> dict[str, float]:
    """The median of each handler."""
    return {name: round(samples.median(name) / per, 4) for name in samples.by_name}


def with_total(bill: cost.Bill) -> cost.Bill:
    """Round to four digits and add the total."""
    return {name: round(dollars, 4) for name, dollars in {**bill, "total": sum(bill.values())}.items()}


def show(title: str, table: dict[str, Samples], per: int = 1) -> None:
    """Print the median of each handler and, in brackets, its ratio to ours."""
    print(f"\n{title}")
    for row, samples in table.items():
        cells = (
            f"{name} {samples.median(name) / per:.3f} ({samples.ratio(name, OURS):.2f})" for name in samples.by_name
        )
        print(f"  {row:<32} {'  '.join(cells)}", flush=True)


def write(result: dict[str, Any]) -> None:
    """Write the results with the last figures of ``make burst`` and the failure path, and print the headline."""
    result = measurements.with_failure_path(measurements.with_burst(result))
    measurements.write(measurements.LATEST, result)
    print()
    for name, value in result.items():
        if name != "detail":
            print(f"{name:<28} {measurements.to_json(value)}")
    print(f"\nDifferences smaller than that of the control ({CONTROL}) mean nothing. Details: {measurements.LATEST}")


if __name__ == "__main__":
    main()
