"""Retention: lifecycle rules on the archive's prefix, which leave other rules of the bucket unchanged."""

from __future__ import annotations

from typing import Any

from humanseg.archive.ship.store import Store

MULTIPART_DAYS = 2


def rules(prefix: str, days: int) -> list[dict[str, Any]]:
    """The lifecycle rules that delete everything under `prefix` after `days` (1 or more).

    Noncurrent versions are deleted a day after they were replaced, so that nothing in a versioned bucket exceeds its
    retention by more than that. Leftover delete markers and aborted multipart uploads are deleted, too.
    """
    if days < 1:
        raise ValueError(f"retention is {days} days; it must be 1 or more")
    where = {"Prefix": f"{prefix}/"}
    name = _name(prefix)
    return [
        {
            "ID": f"{name}-expire",
            "Status": "Enabled",
            "Filter": where,
            "Expiration": {"Days": days},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": MULTIPART_DAYS},
        },
        {
            "ID": f"{name}-markers",
            "Status": "Enabled",
            "Filter": where,
            "Expiration": {"ExpiredObjectDeleteMarker": True},
        },
    ]


def set_retention(store: Store, days: int) -> list[dict[str, Any]]:
    """Sets the rules, replacing our earlier ones and keeping all others; returns the rules in force."""
    ours = rules(store.destination.prefix, days)
    others = [rule for rule in get_rules(store) if not _is_ours(rule, store.destination.prefix)]
    store.client.put_bucket_lifecycle_configuration(
        Bucket=store.destination.bucket, LifecycleConfiguration={"Rules": [*others, *ours]}
    )
    return get_rules(store)


def get_rules(store: Store) -> list[dict[str, Any]]:
    """The bucket's lifecycle rules, [] without any."""
    from botocore.exceptions import ClientError

    try:
        lifecycle = store.client.get_bucket_lifecycle_configuration(Bucket=store.destination.bucket)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") == "NoSuchLifecycleConfiguration":
            return []
        raise
    return list(lifecycle["Rules"])


def _is_ours(rule: dict[str, Any], prefix: str) -> bool:
    """Matches both name and prefix: other archives in the bucket have rules with similar names."""
    where = rule.get("Filter", {}).get("Prefix")
    return str(rule.get("ID", "")).startswith("humanseg-") and where == f"{prefix}/"


def _name(prefix: str) -> str:
    return "humanseg-" + prefix.replace("/", ".")  # prefixes contain no dot, so names are unique
