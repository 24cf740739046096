"""Engine patches of the settings that a template gives to tables and buckets."""

# ruff: noqa: SLF001 - a patch uses the engine's private functions
from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

from ministack.services import dynamodb, s3
from ministack.services.cloudformation import provisioners

from local.engine_patches.patch import apply_settings


def apply_table_settings() -> None:
    """Gap: time to live and point-in-time recovery of a table in a template are ignored."""
    handler = provisioners._RESOURCE_HANDLERS["AWS::DynamoDB::Table"]

    def apply(name: str, properties: dict[str, Any]) -> None:
        if ttl := properties.get("TimeToLiveSpecification"):
            dynamodb._update_ttl({"TableName": name, "TimeToLiveSpecification": ttl})
        if recovery := properties.get("PointInTimeRecoverySpecification"):
            dynamodb._update_continuous_backups({"TableName": name, "PointInTimeRecoverySpecification": recovery})

    apply_settings(handler, "(physical_id, old_props, new_props, stack_name, logical_id=None)", apply)


def apply_lifecycle() -> None:
    """Gap: ``LifecycleConfiguration`` of a bucket in a template is ignored."""
    handler = provisioners._RESOURCE_HANDLERS["AWS::S3::Bucket"]

    def apply(name: str, properties: dict[str, Any]) -> None:
        if rules := properties.get("LifecycleConfiguration", {}).get("Rules"):
            body = "".join(map(_rule, rules))
            s3._put_bucket_lifecycle(name, f"<LifecycleConfiguration>{body}</LifecycleConfiguration>".encode())

    apply_settings(handler, "(physical_id, old_props, new_props, stack_name)", apply)


def _rule(rule: dict[str, Any]) -> str:
    """A rule of a template as S3's API spells it."""
    expiration = {
        "Days": rule.get("ExpirationInDays"),
        "ExpiredObjectDeleteMarker": rule.get("ExpiredObjectDeleteMarker"),
    }
    parts = [
        _element("ID", rule["Id"]),
        _element("Filter", {"Prefix": rule.get("Prefix", "")}),
        _element("Status", rule["Status"]),
        _element("Expiration", expiration),
        _element("NoncurrentVersionExpiration", rule.get("NoncurrentVersionExpiration", {})),
        _element("AbortIncompleteMultipartUpload", rule.get("AbortIncompleteMultipartUpload", {})),
    ]
    return f"<Rule>{''.join(parts)}</Rule>"


def _element(name: str, value: Any) -> str:
    if isinstance(value, dict):
        inner = "".join(_element(key, one) for key, one in value.items() if one is not None)
        return f"<{name}>{inner}</{name}>" if inner else ""
    text = str(value).lower() if isinstance(value, bool) else escape(str(value))
    return f"<{name}>{text}</{name}>"
