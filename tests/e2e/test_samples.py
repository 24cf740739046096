"""The examples of ``make send`` end as it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local.background import State
from local.samples import SAMPLES
from local.send import play
from ops.audit import Auditor

if TYPE_CHECKING:
    from tests.e2e.controls import Controls
    from tests.e2e.pipeline import Pipeline

ENDS = {
    "user": "stored",
    "duplicate": "stored",
    "outage": "stored",
    "malformed": "MALFORMED",
    "invalid": "INVALID",
    "poison": "CRASHED",
}


@pytest.mark.parametrize("name", SAMPLES)
def test_an_example_ends_as_it_says(pipeline: Pipeline, controls: Controls, name: str) -> None:
    controls.configure(ENRICHMENT_POLICY="best-effort")  # as make up deploys it
    local = pipeline.local
    state = State(0, local.engine.endpoint, local.genesys.url, pipeline.stack.name, local.engine.pid)
    event_ids, settled = play(SAMPLES[name], pipeline.stack, state)
    assert settled
    (found,) = Auditor(pipeline.stack).locate(event_ids).values()
    if ENDS[name] == "stored":
        assert pipeline.item(found.event_id)
    else:
        assert pipeline.archived(found.event_id)["verdict"]["category"] == ENDS[name]
