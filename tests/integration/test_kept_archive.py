"""The archive of the local stack survives until the next one, if the user asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from local.kept_archive import keep, restore

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.cloud import Cloud

TAGS = [{"Key": "replayed", "Value": "true"}]


@pytest.fixture
def s3(patched: Cloud) -> Any:
    return patched.client("s3")


def test_the_objects_and_their_tags_move_to_another_bucket(patched: Cloud, s3: Any, tmp_path: Path) -> None:
    old, new, file = patched.name("old"), patched.name("new"), tmp_path / "archive.zip"
    for bucket in (old, new):
        s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=old, Key="archive/2026/a=b c.json", Body=b'{"text":"\xc3\xa9"}')
    s3.put_object(Bucket=old, Key="dead-letters/1.json", Body=b"{}")
    s3.put_object_tagging(Bucket=old, Key="dead-letters/1.json", Tagging={"TagSet": TAGS})

    assert keep(s3, old, file) == 2
    assert restore(s3, new, file) == 2

    assert s3.get_object(Bucket=new, Key="archive/2026/a=b c.json")["Body"].read() == b'{"text":"\xc3\xa9"}'
    assert s3.get_object_tagging(Bucket=new, Key="dead-letters/1.json")["TagSet"] == TAGS
    assert restore(s3, new, file) == 0, "the file is used once"


def test_a_file_that_could_not_be_restored_is_not_deleted(s3: Any, patched: Cloud, tmp_path: Path) -> None:
    old, file = patched.name("old"), tmp_path / "archive.zip"
    s3.create_bucket(Bucket=old)
    s3.put_object(Bucket=old, Key="archive/1.json", Body=b"{}")
    keep(s3, old, file)
    with pytest.raises(s3.exceptions.NoSuchBucket):
        restore(s3, patched.name("missing"), file)
    assert file.exists()
