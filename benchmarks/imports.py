"""What each library costs at a cold start: ``python -m benchmarks.imports``.

Each import runs in fresh processes, after boto3 (which the runtime loads in any case) and in an order that is shuffled
from round to round; the median of the differences to an empty run is told, with an A/A control.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys

ROUNDS = 15
FLOOR = "import boto3; boto3.client('sqs', region_name='us-east-1', aws_access_key_id='x', aws_secret_access_key='x')"
LOGGER = "from aws_lambda_powertools import Logger; Logger()"
METRICS = "from aws_lambda_powertools import Metrics; Metrics(namespace='x')"
CANDIDATES = {
    "nothing (A/A control)": "pass",
    "requests": "import requests",
    "cachetools": "import cachetools",
    "Powertools Logger": LOGGER,
    "Powertools Metrics": METRICS,
    "Powertools Logger + Metrics": f"{LOGGER}; {METRICS}",
    "Powertools Parameters": "from aws_lambda_powertools.utilities import parameters",
    "Powertools BatchProcessor": "from aws_lambda_powertools.utilities.batch import BatchProcessor",
    "Powertools Tracer": "from aws_lambda_powertools import Tracer",
    "the processor": "import sys; sys.path.insert(0, 'functions'); import processor.app",
}
PROGRAM = "import time\n{floor}\nbegan = time.perf_counter()\n{code}\nprint((time.perf_counter() - began) * 1000)"


def milliseconds(code: str) -> float:
    """One import in a fresh process."""
    program = PROGRAM.format(floor=FLOOR, code=code)
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    return float(answer.stdout) if answer.returncode == 0 else float("nan")


def floor_milliseconds() -> float:
    """boto3 and one client in a fresh process."""
    program = f"import time; began = time.perf_counter(); {FLOOR}; print((time.perf_counter() - began) * 1000)"
    return float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Print the table."""
    times: dict[str, list[float]] = {name: [] for name in CANDIDATES}
    floors = []
    for _ in range(ROUNDS):
        floors.append(floor_milliseconds())
        for name in random.sample(sorted(CANDIDATES), len(CANDIDATES)):
            times[name].append(milliseconds(CANDIDATES[name]))
    floor = statistics.median(floors)
    print(f"{'floor: boto3 and one client':<32} 1.00")
    for name, values in times.items():
        print(f"{name:<32} +{statistics.median(values) / floor:.2f}")


if __name__ == "__main__":
    main()
