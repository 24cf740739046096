"""The archive bucket: snapshots, archive objects, replay reports, and events too large for the table."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from holdfast.adapters.aws import code_of, translated
from holdfast.adapters.batches import send_all
from holdfast.domain.errors import Unavailable, readable
from holdfast.domain.ports import StoredObject

#: https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
DELETES_PER_CALL = 1_000
_EXISTS = "PreconditionFailed"
_CHANGED = frozenset({_EXISTS, "ConditionalRequestConflict"})
_ABSENT = frozenset({"NoSuchKey", "404", "NotFound"})
#: The newest version is a delete marker.
_DELETED = frozenset({"MethodNotAllowed"})


@dataclass(frozen=True, slots=True)
class ArchiveBucket:
    """One S3 bucket."""

    client: Any
    name: str

    def create(self, key: str, text: str) -> bool:
        """Write an object unless the key exists. Returns false if it does. S3 checks the bytes by their SHA-256."""
        with translated("write to the archive bucket"):
            try:
                self.client.put_object(
                    Bucket=self.name,
                    Key=key,
                    Body=text.encode(),
                    ContentType="application/json",
                    ChecksumAlgorithm="SHA256",
                    IfNoneMatch="*",
                )
            except ClientError as error:
                if code_of(error) == _EXISTS:
                    return False
                raise
        return True

    def write(self, key: str, text: str) -> None:
        """Write an object, over an existing one too."""
        with translated("write to the archive bucket"):
            self.client.put_object(
                Bucket=self.name,
                Key=key,
                Body=text.encode(),
                ContentType="application/json",
                ChecksumAlgorithm="SHA256",
            )

    def read(self, key: str) -> str | None:
        """Return an object's text, or ``None`` if it does not exist."""
        with translated("read from the archive bucket"):
            try:
                body = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
            except ClientError as error:
                if code_of(error) in _ABSENT:
                    return None
                raise
        return bytes(body).decode()

    def update(self, key: str, old: str, new: str) -> bool:
        """Replace an object's text. Returns false if it is not ``old`` any more, or does not exist."""
        with translated("update an archive object"):
            try:
                answer = self.client.get_object(Bucket=self.name, Key=key)
                if bytes(answer["Body"].read()).decode() != old:
                    return False
                self.client.put_object(
                    Bucket=self.name,
                    Key=key,
                    Body=new.encode(),
                    ContentType="application/json",
                    ChecksumAlgorithm="SHA256",
                    IfMatch=answer["ETag"],
                )
            except ClientError as error:
                if code_of(error) in _ABSENT | _CHANGED:
                    return False
                raise
        return True

    def tag(self, key: str, tags: Mapping[str, str]) -> None:
        """Replace an object's tags. An object that does not exist any more needs none."""
        tag_set = [{"Key": name, "Value": value} for name, value in tags.items()]
        with translated("tag an archive object"):
            try:
                self.client.put_object_tagging(Bucket=self.name, Key=key, Tagging={"TagSet": tag_set})
            except ClientError as error:
                if code_of(error) not in _ABSENT | _DELETED:
                    raise

    def tags(self, key: str) -> Mapping[str, str]:
        """Return an object's tags."""
        with translated("read an archive object's tags"):
            answer = self.client.get_object_tagging(Bucket=self.name, Key=key)
        return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}

    def delete(self, keys: Collection[str]) -> None:
        """Delete objects. Raises if any could not be deleted, after all were tried."""

        def send(chunk: Collection[str]) -> list[str]:
            objects = [{"Key": key} for key in chunk]
            with translated("delete snapshots"):
                answer = self.client.delete_objects(Bucket=self.name, Delete={"Objects": objects, "Quiet": True})
            return [readable(entry.get("Code")) for entry in answer.get("Errors", [])]

        codes = send_all(send, keys, DELETES_PER_CALL)
        if codes:
            reasons = ", ".join(sorted(set(codes)))
            raise Unavailable(f"delete snapshots: {len(codes)} objects could not be deleted: {reasons}")

    def list(self, prefix: str, after: str = "") -> Iterator[StoredObject]:
        """List all objects below a prefix in the order of their keys, or those after a key."""
        start = {"StartAfter": after} if after else {}
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix, **start)
        with translated("list the archive bucket"):
            for page in pages:
                for found in page.get("Contents", []):
                    yield StoredObject(found["Key"], found["LastModified"])
