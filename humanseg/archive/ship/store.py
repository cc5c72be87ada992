"""The bucket: an S3 client made from boto3's own chain, and the few calls that the archive makes of it.

Shipping needs `s3:PutObject` under the prefix and nothing else (with SSE-KMS also `kms:GenerateDataKey`
on the key). Reading, labelling and erasing are done by people with their own rights; their calls are in
reader files.

Every upload carries its SHA-256, which the store checks before it says yes, and `If-None-Match: *`, so that a
repeated upload of a record changes nothing. boto3's own retries are off: the shipper waits better, because it
knows all the records that wait.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from typing import Any

from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.archive.errors import Away, Refused
from humanseg.archive.ship.target import Target

CONTENT_TYPES = {
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "tif": "image/tiff",
    "bmp": "image/bmp",
    "heic": "image/heic",
    "avif": "image/avif",
    "json": "application/json",
}
# What is about this object rather than about the store's health. A policy change takes a moment to spread, so
# that the shipper asks a few times before it believes any of them.
_REFUSED = {
    "AccessDenied",
    "AllAccessDisabled",
    "EntityTooLarge",
    "InvalidRequest",
    "InvalidArgument",
    "KeyTooLongError",
    "MetadataTooLarge",
    "InvalidObjectState",
    "MethodNotAllowed",
}
# boto3's session is not safe to make clients from in several threads at a time.
_SESSION_LOCK = threading.Lock()


class Store:
    """One bucket under one prefix. Safe to use from several threads."""

    def __init__(self, client: Any, target: Target, settings: ArchiveSettings) -> None:
        self.client, self.target = client, target
        self._encryption = _encryption(settings)

    @classmethod
    def open(cls, target: Target, settings: ArchiveSettings, *, retries: int = 0) -> Store:
        """A store for `target`; makes no request yet. `retries` is for readers; the shipper has its own."""
        import boto3  # takes 0.3 s and 30 MB, so only where something is shipped or read
        from botocore.config import Config

        config = Config(
            connect_timeout=min(10.0, settings.timeout_seconds),
            read_timeout=settings.timeout_seconds,
            retries={"mode": "standard", "total_max_attempts": 1 + retries},
            max_pool_connections=max(32, settings.upload_threads),
            # An endpoint of one's own seldom has a DNS name for each bucket.
            s3={"addressing_style": "path"} if target.endpoint_url else {},
        )
        with _SESSION_LOCK:
            session = boto3.session.Session(
                aws_access_key_id=target.access_key,
                aws_secret_access_key=target.secret_key,
                region_name=target.region,
            )
            region = session.region_name or "us-east-1"
            client = session.client("s3", endpoint_url=target.endpoint_url, region_name=region, config=config)
        return cls(client, target, settings)

    def put_new(self, key: str, data: bytes) -> bool:
        """Uploads `data` under `key` unless something lies there; True when it was put.

        Raises:
            Away: the store can't be reached, is busy, or doesn't know us (yet): try again later.
            Refused: this object is refused: no right to put this key, too large, malformed.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        try:
            self.client.put_object(
                Bucket=self.target.bucket,
                Key=key,
                Body=data,
                ContentType=CONTENT_TYPES.get(key.rsplit(".", 1)[-1], "application/octet-stream"),
                ChecksumSHA256=digest,
                IfNoneMatch="*",
                **self._encryption,
            )
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            code = str(error.response.get("Error", {}).get("Code", status))
            if status == 412:
                return False
            raise _sorted_out(status, code) from error
        except (BotoCoreError, OSError) as error:  # no credentials, no connection, cut off, timed out
            raise Away(type(error).__name__) from error
        return True

    def probe(self) -> None:
        """Puts a small object beside the archive, and deletes it; raises Away when that does not work (yet).

        `head_bucket` is not enough: SeaweedFS answers it before it can read or write an object.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        place = {"Bucket": self.target.bucket, "Key": ".ready"}
        try:
            self.client.put_object(**place, Body=b"ready")  # an empty object would not reach a volume
            self.client.delete_object(**place)
        except (ClientError, BotoCoreError, OSError) as error:
            raise Away(str(error)) from error

    def check_same(self, key: str, data: bytes) -> None:
        """Raises Refused when other bytes than `data` lie under `key`. Silent where reading is not allowed.

        The shipper's role may not read, and need not: the key holds a random request id. This is for stores
        whose credentials may read, where it costs one request per interrupted upload.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            found = self.client.get_object(Bucket=self.target.bucket, Key=key)["Body"].read()
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500:
                raise Away("check") from error
            return
        except (BotoCoreError, OSError) as error:
            raise Away(type(error).__name__) from error
        if found != data:
            raise Refused("Conflict")


def _sorted_out(status: int, code: str) -> Away | Refused:
    if code in _REFUSED or status == 413:
        return Refused(code)
    # All else heals: 5xx and SlowDown; 409 of two uploads at once; BadDigest of a body cut on its way;
    # unknown, wrong or expired keys and a missing bucket, which an operator sets right; a clock that is
    # off.
    return Away(code)


def _encryption(settings: ArchiveSettings) -> dict[str, str]:
    if settings.encryption == "none":
        return {}
    if settings.encryption == "sse-s3":
        return {"ServerSideEncryption": "AES256"}
    key = {"SSEKMSKeyId": settings.kms_key_id} if settings.kms_key_id else {}
    return {"ServerSideEncryption": "aws:kms", **key}
