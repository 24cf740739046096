"""Makes the pictures of docs/console.md: ``python -m local.screenshot``, with Chromium on the PATH.

It plays the story of one letter on a stack of its own (failed, redriven, dead again, recovered), serves the console
over it and drives Chromium by its DevTools protocol: https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from local.console import console
from local.engine import HOST, ROOT
from local.environment import SHORT_WAITS, LocalStack
from local.errors import LocalError
from local.send import example
from local.sending import Sender
from local.stack import Stack
from local.traffic import BusEvent
from ops.deployed import executions, history

PICTURES = ROOT / "docs" / "img"
PARAMETERS = {
    "EnrichmentPolicy": "required",
    **SHORT_WAITS,
}
#: Two waits of minutes take some seconds here.
WAIT_SCALE = 0.05
PATIENCE_SECONDS = 180
POLL_SECONDS = 0.3
WIDTH = 1300
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
# Root has no sandbox, and none of the browser's own traffic leaves this machine.
SWITCHES = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--remote-debugging-port=0", f"--window-size={WIDTH},1000"),
)
# The console has no address for an execution, so it is reached by clicks: on the innermost, last thing with a text.
CLICK = """(found => (found?.click(), Boolean(found)))(
    [...document.querySelectorAll("body *")].findLast(it => it.textContent.includes(%s)))"""


def main() -> int:
    """Make the pictures and say where they are."""
    browser = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if browser is None:
        print("Chromium is needed (Debian, Ubuntu: apt-get install chromium)", file=sys.stderr)
        return 1
    try:
        with LocalStack(parameters=PARAMETERS, wait_scale=WAIT_SCALE, say=print) as local:
            execution = play(local)
            print("Taking the pictures ...")
            with console(local.engine.endpoint, local.engine.directory / "console") as url, page(browser) as browsing:
                take(browsing, url, execution)
    except LocalError as err:
        print(err, file=sys.stderr)
        return 1
    return 0


def play(local: LocalStack) -> str:
    """One letter that dies, is redriven into the same outage, dies again, and is recovered; its execution's name."""
    local.genesys.set_faults({"status": 503})
    event = example()
    Sender(local.stack).send([BusEvent(event["detail-type"], event["detail"])])
    print("Genesys answers 503: waiting until the letter has died, was redriven and died again ...")
    _until(lambda: _entered(local.stack, "Classify") > 1)
    local.genesys.set_faults()
    print("Genesys is back: waiting until the letter is recovered ...")
    _until(lambda: next(executions(local.stack))["status"] == "SUCCEEDED")
    name: str = next(executions(local.stack))["name"]
    return name


def _entered(stack: Stack, state: str) -> int:
    return sum(
        event.get("stateEnteredEventDetails", {}).get("name") == state
        for execution in executions(stack)
        for event in history(stack, execution["executionArn"])
    )


def take(browsing: Page, url: str, execution: str) -> None:
    """Picture the execution's path and its timeline."""
    browsing.open(f"{url}/resources/stepfunctions")
    for text in ("TriageStateMachine", execution):
        browsing.click(text)
    time.sleep(2)  # the graph is laid out
    browsing.drag(650, 800, 90)  # the way back from Redrive would be cut off
    browsing.save(PICTURES / "execution-path.png", 1700)
    browsing.click("Timeline")
    browsing.click("BackOff")  # the last wait: its input says why the event failed, how often, and how long it waits
    browsing.save(PICTURES / "execution-timeline.png", 1120)


class Page:
    """A page of Chromium, driven over its DevTools connection."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._ids = itertools.count(1)

    def open(self, url: str) -> None:
        """Go to an address."""
        self._call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression, None where it threw."""
        return self._call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def click(self, text: str) -> None:
        """Click the last thing that holds this text, as soon as it is there."""
        _until(lambda: bool(self.run(CLICK % json.dumps(text))))

    def drag(self, x: int, y: int, right: int) -> None:
        """Take hold of the page at a point and move that this many pixels to the right."""
        for kind, at in (("mousePressed", x), ("mouseMoved", x + right), ("mouseReleased", x + right)):
            self._call("Input.dispatchMouseEvent", type=kind, x=at, y=y, button="left", buttons=1, clickCount=1)

    def save(self, path: Path, height: int) -> None:
        """Write a picture of the page, this many pixels high."""
        self._call("Emulation.setDeviceMetricsOverride", width=WIDTH, height=height, deviceScaleFactor=1, mobile=False)
        time.sleep(2)  # it is drawn anew
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot")["data"]))
        print(f"  {path} ({path.stat().st_size // 1000} kB)")

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (answer := json.loads(self._connection.recv(PATIENCE_SECONDS))).get("id") != number:
            pass
        if "error" in answer:
            raise LocalError(f"Chromium refused {method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result


@contextlib.contextmanager
def page(browser: str) -> Iterator[Page]:
    """An empty page of a Chromium of its own, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="holdfast-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [browser, *SWITCHES, f"--user-data-dir={profile}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            # It tells its port and address there once it listens.
            told = Path(profile, "DevToolsActivePort")
            _until(lambda: told.exists() and told.read_text().count("\n") == 1)
            with connect(_first_page(told), max_size=None) as connection:
                yield Page(connection)
        finally:
            process.terminate()
            process.wait()


def _first_page(told: Path) -> str:
    port = told.read_text().split()[0]
    with urllib.request.urlopen(f"http://{HOST}:{port}/json/list", timeout=10) as answer:
        pages = json.load(answer)
    address: str = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
    return address


def _until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        if time.monotonic() > deadline:
            raise LocalError(f"It did not happen within {PATIENCE_SECONDS} s.")
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
