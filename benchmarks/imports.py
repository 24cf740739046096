"""Cold start costs of libraries and of the processor: ``python -m benchmarks.imports``.

Every program runs in fresh processes, in an order that is shuffled from round to round, with bytecode on both sides.
The table shows medians of CPU time, so that other work on the machine matters little, as multiples of the floor, which
is boto3 and one client. Libraries are imported after the floor, so their rows show what they add. The rows of the
processor last until its first request could be sent.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
from dataclasses import fields
from functools import partial

from local.engine import ROOT
from processor.app import ProcessorSettings

ROUNDS = 15
FLOOR = "import boto3; boto3.client('dynamodb')"
LOGGER = "from aws_lambda_powertools import Logger; Logger()"
METRICS = "from aws_lambda_powertools import Metrics; Metrics(namespace='x')"
LIBRARIES = {
    "nothing (A/A control)": "pass",
    "requests": "import requests",
    "cachetools": "import cachetools",
    "Powertools Logger": LOGGER,
    "Powertools Metrics": METRICS,
    "Powertools Logger + Metrics": f"{LOGGER}; {METRICS}",
    "Powertools Parameters": "from aws_lambda_powertools.utilities import parameters",
    "Powertools BatchProcessor": "from aws_lambda_powertools.utilities.batch import BatchProcessor",
    "Powertools Tracer": "from aws_lambda_powertools import Tracer",
}
PROCESSOR = "from processor import app; app.production().store.client.meta"
#: Row → the program and the secret's ARN.
STARTS = {
    "floor": (FLOOR, ""),
    "floor, again (A/A control)": (FLOOR, ""),
    "processor without enrichment": (PROCESSOR, ""),
    "processor with enrichment": (PROCESSOR, "arn:secret"),
}
#: The modules that are blocked can be on a development machine and are not in Lambda's runtime.
PROGRAM = """
import sys, time
sys.modules.update(awscrt=None, OpenSSL=None, simplejson=None)
{before}
began = time.process_time()
{code}
print((time.process_time() - began) * 1000)
"""


def milliseconds(code: str, *, before: str = "", arn: str = "") -> float:
    """The CPU time of a program in a fresh process."""
    variables = {field.name.upper(): "1" for field in fields(ProcessorSettings)}
    variables |= {"ENRICHMENT_POLICY": "best-effort", "GENESYS_CREDENTIALS_SECRET_ARN": arn, "AWS_REGION": "us-east-1"}
    variables |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    variables |= {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "functions")}
    command = [sys.executable, "-c", PROGRAM.format(before=before, code=code)]
    return float(subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Print the table."""
    programs = {name: partial(milliseconds, code, before=FLOOR) for name, code in LIBRARIES.items()}
    programs |= {name: partial(milliseconds, code, arn=arn) for name, (code, arn) in STARTS.items()}
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(ROUNDS + 1):
        for name in random.sample(list(programs), len(programs)):
            times[name].append(programs[name]())
    # The first round writes the bytecode and is not counted.
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:<32} {'+' if name in LIBRARIES else ' '}{median / medians['floor']:.2f}")
    print(f"The floor takes {medians['floor']:.0f} ms of CPU time.")


if __name__ == "__main__":
    main()
