"""Makes the pictures of docs/operations.md and docs/circuit-breaker.md.

It needs chromium and chromedriver on the PATH, and selenium::

    uv pip install selenium==4.46.0
    python -m local.screenshot

It deploys a stack, sends one event that is dead-lettered twice and then recovered, and pictures its execution in the
console. Then it causes an outage, and pictures the execution of the circuit breaker.
"""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING

from local.console import console
from local.engine import ROOT
from local.environment import SHORT_WAITS, LocalStack
from local.errors import LocalError, exit_code
from local.eventually import eventually
from local.samples import user_event
from local.sending import Sender
from ops.deployed import executions, history

if TYPE_CHECKING:
    from local.stack import Stack

PICTURES = ROOT / "docs" / "img"
PARAMETERS = {"EnrichmentPolicy": "required", **SHORT_WAITS, "CircuitBreakerMinEvents": "5"}
#: Two waits of minutes take some seconds here.
WAIT_SCALE = 0.05
WAIT_SECONDS = 180
WIDTH = 1300
#: Enough for the circuit breaker, several times in a period of its alarm.
EVENTS_AT_ONCE = 10


def main() -> int:
    """Make the pictures and print their paths."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        raise LocalError("The pictures need Chromium. Debian, Ubuntu: apt-get install chromium chromium-driver")
    with LocalStack(parameters=PARAMETERS, wait_scale=WAIT_SCALE, say=print) as local:
        triage = recovered_execution(local)
        breaker = closed_circuit(local)
        print("Taking the pictures ...")
        with console(local.engine.endpoint, local.engine.directory / "console") as url:
            take(url, triage, breaker)
    return 0


def recovered_execution(local: LocalStack) -> str:
    """The name of an execution whose event was dead-lettered, redriven, dead-lettered again and recovered."""
    local.genesys.set_faults({"status": 503})
    Sender(local.stack).send([user_event()])
    print("Genesys answers 503: waiting until the event is dead-lettered for the second time ...")
    eventually(lambda: _entered(local.stack, "Classify") > 1, "the second dead letter", WAIT_SECONDS)
    local.genesys.set_faults()
    print("Genesys works again: waiting until the event is recovered ...")
    eventually(lambda: next(executions(local.stack))["status"] == "SUCCEEDED", "the recovery", WAIT_SECONDS)
    name: str = next(executions(local.stack))["name"]
    return name


def closed_circuit(local: LocalStack) -> str:
    """The name of an execution that paused processing, probed in vain, and closed the circuit after the outage."""

    def opened() -> bool:
        Sender(local.stack).send([user_event() for _ in range(EVENTS_AT_ONCE)])
        return _entered(local.stack, "Wait", "CircuitBreaker") > 1

    local.genesys.set_faults({"status": 503})
    print("Genesys answers 503: waiting until a probe has failed ...")
    eventually(opened, "a probe that is not healthy", WAIT_SECONDS, every=0.5)
    local.genesys.set_faults()
    print("Genesys works again: waiting until the circuit is closed ...")

    def closed() -> str | None:
        # An execution beside the one that owns the circuit ends at once, so the longest one is that.
        ended = list(executions(local.stack, "CircuitBreaker", statusFilter="SUCCEEDED"))
        running = list(executions(local.stack, "CircuitBreaker", statusFilter="RUNNING"))
        return None if running else str(max(ended, key=lambda one: one["stopDate"] - one["startDate"])["name"])

    return eventually(closed, "the circuit is closed", WAIT_SECONDS)


def _entered(stack: Stack, state: str, machine: str = "Triage") -> int:
    return sum(
        event.get("stateEnteredEventDetails", {}).get("name") == state
        for execution in executions(stack, machine)
        for event in history(stack, execution["executionArn"])
    )


def take(url: str, triage: str, breaker: str) -> None:
    """Picture the path and the timeline of a triage execution, and the path of one of the circuit breaker."""
    from selenium import webdriver  # type: ignore[import-not-found]  # noqa: PLC0415 - only this tool needs it
    from selenium.webdriver.common.by import By  # type: ignore[import-not-found]  # noqa: PLC0415 - as above

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for switch in ("--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={WIDTH},1000"):
        options.add_argument(switch)
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver"))) as browser:
        browser.implicitly_wait(WAIT_SECONDS)

        def click(text: str) -> None:
            """Click the innermost, last element with this text, also where another element covers it."""
            found = browser.find_elements(By.XPATH, f"//body//*[contains(., '{text}')]")[-1]
            browser.execute_script("arguments[0].click()", found)

        def save(name: str, height: int) -> None:
            size = {"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            time.sleep(2)  # the page is drawn again
            browser.save_screenshot(str(PICTURES / name))
            print(f"  {PICTURES / name}")

        browser.get(f"{url}/resources/stepfunctions")  # no URL leads to an execution
        click("CircuitBreakerStateMachine")
        click(breaker)
        save("circuit-breaker-path.png", 2000)
        browser.get(f"{url}/resources/stepfunctions")
        click("TriageStateMachine")
        click(triage)
        save("execution-path.png", 1700)
        click("Timeline")
        click("BackOff")  # the last wait: its input has the reason of the failure and the delay
        save("execution-timeline.png", 1120)


if __name__ == "__main__":
    sys.exit(exit_code(main))
