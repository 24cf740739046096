"""What is measured in processes of its own: cold starts and peak memory, of the artifact as ``sam build`` makes it."""

from __future__ import annotations

import compileall
import json
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from benchmarks import events
from benchmarks.contest import environment
from benchmarks.servers import Upstream
from local.engine import ROOT

#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html: what an invocation may be handed.
PAYLOAD_LIMIT = 6 * 1024 * 1024

#: boto3, and what it needs.
SDK = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3")
FLOOR = "import boto3; boto3.client('dynamodb')"
#: Until the first request could be sent: imports, settings, the one client that a happy batch needs.
OURS = "from processor import app; app.production().store.client.meta"
PEERS = {
    "per_event": "import benchmarks.peers.per_event as p; p.table.meta.client",
    "powertools": "import benchmarks.peers.powertools as p; p.table.meta.client",
    "threaded": "import benchmarks.peers.threaded as p; p.dynamodb.meta",
}
#: A native signer and another TLS, which a development machine may have and Lambda's runtime has not, stay out.
_TIMED = """
import sys, time
sys.modules.update(awscrt=None, OpenSSL=None)
began = time.perf_counter()
{code}
print((time.perf_counter() - began) * 1000)
"""
#: VmHWM and not getrusage, whose maximum starts with that of the process that forked.
_MEMORY = """
import json, sys, types
from processor import app
context = types.SimpleNamespace(aws_request_id="r", get_remaining_time_in_millis=lambda: 30_000)
with open(sys.argv[1], "rb") as payload:
    event = json.load(payload)
assert app.lambda_handler(event, context) == {"batchItemFailures": []}
with open("/proc/self/status") as status:
    print(next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024)
"""


def megabytes(artifact: Path) -> float:
    """Size of a folder unzipped, in MB of a million bytes."""
    return sum(file.stat().st_size for file in artifact.rglob("*") if file.is_file()) / 1e6


@contextmanager
def with_bytecode(artifact: Path) -> Iterator[Path]:
    """A copy of the artifact with its bytecode beside it, as it would have to be shipped."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "artifact"
        shutil.copytree(artifact, copy)
        compileall.compile_dir(copy, quiet=2, workers=1)
        yield copy


@contextmanager
def sdk_without_bytecode() -> Iterator[Path]:
    """A copy of boto3 and what it is made of, to stand on the path before the one that is installed."""
    with tempfile.TemporaryDirectory() as folder:
        for name in SDK:
            origin = Path(str(find_spec(name).origin))  # type: ignore[union-attr]  # it is installed
            if origin.name == "__init__.py":
                shutil.copytree(origin.parent, Path(folder) / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(origin, folder)
        yield Path(folder)


def cold_starts(artifact: Path, rounds: int) -> dict[str, list[float]]:
    """Milliseconds until each could send its first request, in fresh processes and in a rotating order."""
    # An installer may leave the bytecode to the first import, and the environment may forbid that to write any.
    compileall.compile_dir(sysconfig.get_path("purelib"), quiet=2, workers=2)
    with with_bytecode(artifact) as compiled, sdk_without_bytecode() as bare:
        candidates = {
            "floor": (FLOOR, [compiled]),
            "floor, again": (FLOOR, [compiled]),
            "floor, without bytecode": (FLOOR, [bare]),
            "holdfast, with bytecode": (OURS, [compiled]),
            "holdfast, without bytecode": (OURS, [artifact, bare]),
            "holdfast, as shipped": (OURS, [artifact]),
            **{name: (code, [ROOT]) for name, code in PEERS.items()},
        }
        taken: dict[str, list[float]] = {name: [] for name in candidates}
        for number in range(-1, rounds):  # the first round warms the disk's cache and is not counted
            for name in [*candidates][number % len(candidates) :] + [*candidates][: number % len(candidates)]:
                code, path = candidates[name]
                milliseconds = _fresh(_TIMED.format(code=code), path, "http://127.0.0.1:9")
                if number >= 0:
                    taken[name].append(milliseconds)
    return taken


def peak_memory(artifact: Path, upstream: Upstream) -> dict[str, float]:
    """The most resident memory, in MB, of a process that works on one full batch: few large events, or many small."""
    found = {}
    for label, records in (("ten large events", 10), ("a thousand small events", 1000)):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(_full_batch(records), file)
            file.flush()
            found[label] = _fresh(_MEMORY, [artifact], upstream.url, file.name)
    return found


def _full_batch(records: int) -> dict[str, object]:
    """As large as Lambda hands over; its limit counts the escaped bodies."""
    kilobytes = PAYLOAD_LIMIT // 1024 // records
    while len(json.dumps(batch := events.batch(records, kilobytes, events.some_users(10)))) > PAYLOAD_LIMIT:
        kilobytes = kilobytes * 19 // 20
    return batch


def _fresh(program: str, path: Sequence[Path], url: str, *arguments: str) -> float:
    """The number that a program prints in a process of its own, with these folders first on its path."""
    folders = os.pathsep.join(map(str, [*path, ROOT]))
    variables = {**os.environ, **environment(url), "PYTHONPATH": folders, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", program, *arguments]
    answer = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    return float(answer.stdout.splitlines()[-1])


def median_ratio(taken: dict[str, list[float]], name: str, to: str) -> float:
    """The median over the rounds of one candidate's time as a multiple of another's."""
    return statistics.median(one / other for one, other in zip(taken[name], taken[to], strict=True))
