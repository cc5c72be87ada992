"""How long the bucket keeps things: lifecycle rules on the archive's prefix, beside other people's rules."""

from __future__ import annotations

from typing import Any

from humanseg.archive.ship.store import Store

MULTIPART_DAYS = 2


def rules(prefix: str, days: int) -> list[dict[str, Any]]:
    """The lifecycle rules that delete everything under `prefix` after `days` (1 or more).

    Old versions go a day after they became old, so that nothing outlives its time in a versioned bucket by
    more than that; leftover delete markers and aborted multipart uploads go, too.
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
    """Puts the rules, replacing earlier ones of ours and keeping all others; returns what is in force now."""
    ours = rules(store.target.prefix, days)
    others = [rule for rule in get_rules(store) if not _is_ours(rule, store.target.prefix)]
    store.client.put_bucket_lifecycle_configuration(
        Bucket=store.target.bucket, LifecycleConfiguration={"Rules": [*others, *ours]}
    )
    return get_rules(store)


def get_rules(store: Store) -> list[dict[str, Any]]:
    """The bucket's lifecycle rules, [] without any."""
    from botocore.exceptions import ClientError

    try:
        found = store.client.get_bucket_lifecycle_configuration(Bucket=store.target.bucket)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") == "NoSuchLifecycleConfiguration":
            return []
        raise
    return list(found["Rules"])


def _is_ours(rule: dict[str, Any], prefix: str) -> bool:
    """Both the name and the place: other archives in the bucket have rules of such names, too."""
    where = rule.get("Filter", {}).get("Prefix")
    return str(rule.get("ID", "")).startswith("humanseg-") and where == f"{prefix}/"


def _name(prefix: str) -> str:
    return "humanseg-" + prefix.replace("/", ".")  # no prefix has a dot: no two have one name
