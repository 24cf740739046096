"""The stream of events under random faults, for a minute; ``make chaos`` takes as long as it is told."""

from __future__ import annotations

from proof.chaos import chaos

SEED = 1
MINUTES = 1.0


def test_a_stream_of_events_under_random_faults_loses_and_doubles_nothing() -> None:
    report = chaos(SEED, MINUTES)
    assert report["wrong"] == []
    assert (report["lost"], report["doubled"], report["auditsThatMissedAnEvent"]) == (0, 0, 0)
    assert report["events"] == report["stored"] + report["archived"]
    # A fault that never hit would prove nothing.
    assert report["fired"] > 0
    assert report["deaths"] > 0
