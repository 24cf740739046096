"""Size, cold start and peak memory of the artifact that ``sam build`` makes, measured in new processes."""

from __future__ import annotations

import compileall
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from benchmarks import events
from benchmarks.comparison import Samples, processor_environment
from benchmarks.servers import Upstream
from local.engine import ROOT
from local.stack import build

#: The most that an invocation may receive: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
PAYLOAD_LIMIT = 6 * 1024 * 1024

#: boto3 and its dependencies.
SDK = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3")
#: Each program runs until it could send its first request: imports, settings and the one client that it needs for that.
FLOOR = "import boto3; boto3.client('dynamodb')"
OURS = "from holdfast.adapters.aws import client; from processor import app; app.production(); client('dynamodb').meta"
PEERS = {
    "per_event": "import benchmarks.peers.per_event as p; p.table.meta.client",
    "powertools": "import benchmarks.peers.powertools as p; p.table.meta.client",
    "threaded": "import benchmarks.peers.threaded as p; p.dynamodb.meta",
}
#: Lambda's runtime has neither the native signer nor pyOpenSSL; a development machine may have them.
_TIMED = """
import sys, time
sys.modules.update(awscrt=None, OpenSSL=None)
began = time.perf_counter()
{code}
print((time.perf_counter() - began) * 1000)
"""
#: getrusage would start with the maximum of the process that forked; VmHWM does not.
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


@contextmanager
def built_artifact() -> Iterator[Path]:
    """Build the artifact that all functions share."""
    with tempfile.TemporaryDirectory() as folder:
        yield next(build(ROOT, Path(folder)).parent.glob("ProcessorFunction*"))


def megabytes(artifact: Path) -> float:
    """The unzipped size of a folder in MB (a million bytes)."""
    return sum(file.stat().st_size for file in artifact.rglob("*") if file.is_file()) / 1e6


@contextmanager
def with_bytecode(artifact: Path) -> Iterator[Path]:
    """A copy of the artifact that includes its bytecode."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "artifact"
        shutil.copytree(artifact, copy)
        compileall.compile_dir(copy, quiet=2, workers=1)
        yield copy


@contextmanager
def sdk_without_bytecode() -> Iterator[Path]:
    """A copy of boto3 and its dependencies without bytecode, to put on the path before the installed ones."""
    with tempfile.TemporaryDirectory() as folder:
        for name in SDK:
            origin = Path(str(find_spec(name).origin))  # type: ignore[union-attr]  # it is installed
            if origin.name == "__init__.py":
                shutil.copytree(origin.parent, Path(folder) / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(origin, folder)
        yield Path(folder)


def cold_starts(artifact: Path, rounds: int) -> Samples:
    """The time of each candidate until it could send its first request, in new processes and a rotating order."""
    # Some installers write no bytecode, and PYTHONDONTWRITEBYTECODE would keep the first import from writing it.
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
        names = list(candidates)
        taken: dict[str, list[float]] = {name: [] for name in names}
        for number in range(-1, rounds):  # the first round fills the disk cache and is not counted
            start = number % len(names)
            for name in names[start:] + names[:start]:
                code, path = candidates[name]
                milliseconds = _run(_TIMED.format(code=code), path, "http://127.0.0.1:9")
                if number >= 0:
                    taken[name].append(milliseconds)
    return Samples(taken)


def peak_memory(artifact: Path, upstream: Upstream) -> dict[str, float]:
    """Peak resident memory, in MB, of a process that handles one batch of the maximum size."""
    found = {}
    for label, records in (("ten large events", 10), ("a thousand small events", 1000)):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(_full_batch(records), file)
            file.flush()
            found[label] = _run(_MEMORY, [artifact], upstream.url, file.name)
    return found


def _full_batch(records: int) -> dict[str, object]:
    """A batch just below Lambda's limit, which counts the bodies with their JSON escapes."""
    kilobytes = PAYLOAD_LIMIT // 1024 // records
    while len(json.dumps(batch := events.batch(records, kilobytes, events.new_users(10)))) > PAYLOAD_LIMIT:
        kilobytes = kilobytes * 19 // 20
    return batch


def _run(program: str, path: Sequence[Path], url: str, *arguments: str) -> float:
    """Run a program in a new process with these folders first on its path. Returns the number that it prints."""
    folders = os.pathsep.join(map(str, [*path, ROOT]))
    variables = processor_environment(url, url) | {"PYTHONPATH": folders, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", program, *arguments]
    answer = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=True)
    return float(answer.stdout.splitlines()[-1])
