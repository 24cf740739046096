"""The archive of ``make up`` in a file, from ``make down KEEP=1`` to the next ``make up``."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

from local.background import FOLDER

if TYPE_CHECKING:
    from pathlib import Path

KEPT_FILE = FOLDER / "archive.zip"


def keep(s3: Any, bucket: str, file: Path = KEPT_FILE) -> int:
    """Write the objects of a bucket with their tags to a file. Returns their number."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
    unfinished = file.with_suffix(".new")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as kept:
        for key in keys:
            entry = zipfile.ZipInfo(key)
            entry.comment = json.dumps(s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]).encode()
            kept.writestr(entry, s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    unfinished.replace(file)
    return len(keys)


def restore(s3: Any, bucket: str, file: Path = KEPT_FILE) -> int:
    """Write the objects in the file to a bucket, and delete the file. Returns their number, 0 without a file."""
    if not file.exists():
        return 0
    with zipfile.ZipFile(file) as kept:
        for entry in kept.infolist():
            key = entry.filename
            s3.put_object(Bucket=bucket, Key=key, Body=kept.read(entry), ContentType="application/json")
            if tags := json.loads(entry.comment):
                s3.put_object_tagging(Bucket=bucket, Key=key, Tagging={"TagSet": tags})
    file.unlink()
    return len(kept.infolist())
