"""Measurements that the documentation tells of; each is a command of its own."""

import os

# Lambda's runtime signs in Python; a native signer, which a development machine may have, would flatter many signers.
# botocore decides at its import, so this stands before every import of it.
os.environ["BOTO_DISABLE_CRT"] = "true"
