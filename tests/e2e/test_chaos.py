"""A stream of events under random faults for a minute; ``make chaos`` sets the time."""

from __future__ import annotations

from proof.chaos import chaos

SEED = 1
MINUTES = 1.0


def test_a_stream_of_events_under_random_faults_loses_and_duplicates_nothing() -> None:
    report, _ = chaos(SEED, MINUTES)
    assert report["problems"] == []
    assert (report["lost"], report["doubled"], report["auditsThatMissedAnEvent"]) == (0, 0, 0)
    assert report["events"] == report["stored"] + report["archived"]
    # The run proves something only if faults were injected.
    assert report["faults"] > 0
    assert report["deadWorkers"] > 0
    assert report["circuitBreaker"].get("CLOSED"), "an outage opened the circuit, and a probe closed it"
