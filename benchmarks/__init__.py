"""Benchmarks and capacity forecasts. Every module with a ``main`` is a command: ``python -m benchmarks.NAME``."""

import os

# Lambda's runtime signs requests in Python. A development machine may have botocore's native signer, which would make
# handlers with many requests look faster. botocore reads this variable at import, so it is set before any import of it.
os.environ["BOTO_DISABLE_CRT"] = "true"
