"""The bucket: an S3 client with boto3's credential chain, and the few calls that the archive needs.

Shipping needs `s3:PutObject` under the prefix and nothing else (with SSE-KMS also `kms:GenerateDataKey`
on the key). People read, label, compact and erase with their own permissions; those calls are in
humanseg/archive/read.

Every upload has a CRC-32, which the store verifies, and `If-None-Match: *`, so that it is idempotent. The record
contains the SHA-256 of its photo and mask. boto3's retries are off for the uploader, which has its own back-off over
the whole backlog.
"""

from __future__ import annotations

import base64
import threading
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import urlsplit

from isal import isal_zlib

from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.archive.errors import Away, Refused
from humanseg.archive.ship.destination import Destination

CONTENT_TYPES = {
    "tar": "application/x-tar",
    "parquet": "application/vnd.apache.parquet",
    "json": "application/json",
}
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Errors about this object rather than the store's health. Policy changes propagate with a delay, so the uploader
# retries a few times before it accepts them.
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
# boto3's session can't create clients in several threads concurrently.
_SESSION_LOCK = threading.Lock()


@dataclass(frozen=True)
class BucketSettings:
    """Access to the bucket: timeout in seconds, and encryption of objects."""

    timeout_seconds: float = 30.0
    encryption: str = "sse-s3"  # or "sse-kms", "none"
    kms_key_id: str = ""

    @classmethod
    def of(cls, settings: ArchiveSettings) -> BucketSettings:
        """The bucket's part of the archive's settings."""
        return cls(settings.timeout_seconds, settings.encryption, settings.kms_key_id)


class Store:
    """One bucket under one prefix. Safe to use from several threads."""

    def __init__(
        self, client: Any, destination: Destination, settings: BucketSettings, credentials: Any = None
    ) -> None:
        self.client, self.destination = client, destination
        self.credentials = credentials  # botocore's, for readers with another S3 client; None: look them up again
        self._encryption = _encryption(settings)

    @classmethod
    def open(cls, destination: Destination, settings: BucketSettings, *, retries: int = 0) -> Store:
        """A store for `destination`, without a request. `retries` is for readers; the uploader has its own."""
        import boto3  # takes 0.3 s and 30 MB, so only imported when needed
        from botocore.config import Config

        config = Config(
            connect_timeout=min(10.0, settings.timeout_seconds),
            read_timeout=settings.timeout_seconds,
            retries={"mode": "standard", "total_max_attempts": 1 + retries},
            max_pool_connections=32,
            s3=_addressing(destination.endpoint_url),
        )
        with _SESSION_LOCK:
            session = boto3.session.Session(
                aws_access_key_id=destination.access_key,
                aws_secret_access_key=destination.secret_key,
                region_name=destination.region,
            )
            region = session.region_name or "us-east-1"
            client = session.client("s3", endpoint_url=destination.endpoint_url, region_name=region, config=config)
        return cls(client, destination, settings, session.get_credentials())

    def put_new(self, key: str, data: bytes | bytearray | IO[bytes]) -> bool:
        """Uploads `data`, bytes or an open file from its start, under `key` unless the key exists.

        True if it was uploaded.

        Raises:
            Away: the store is unreachable, busy, or rejects the credentials (yet): retry later.
            Refused: this object is rejected: access denied for this key, too large, malformed.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self.client.put_object(
                Bucket=self.destination.bucket,
                Key=key,
                Body=data,
                ContentType=CONTENT_TYPES.get(key.rsplit(".", 1)[-1], "application/octet-stream"),
                ChecksumCRC32=base64.b64encode(_crc32(data).to_bytes(4, "big")).decode(),
                IfNoneMatch="*",
                **self._encryption,
            )
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            code = str(error.response.get("Error", {}).get("Code", status))
            if status == 412:
                return False
            raise _sorted_out(status, code) from error
        except (BotoCoreError, OSError) as error:  # no credentials, no connection, connection lost, timeout
            raise Away(type(error).__name__) from error
        return True

    def probe(self) -> None:
        """Writes and deletes a small object beside the archive; raises Away if that does not work (yet).

        `head_bucket` is not enough: SeaweedFS answers it before it can read or write an object.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        place = {"Bucket": self.destination.bucket, "Key": ".ready"}
        try:
            self.client.put_object(**place, Body=b"ready")  # an empty object would not reach a volume
            self.client.delete_object(**place)
        except (ClientError, BotoCoreError, OSError) as error:
            raise Away(str(error)) from error

    def check_same(self, key: str, data: bytes | bytearray) -> None:
        """Raises Refused if `key` has other bytes than `data`. Does nothing if reading is not allowed.

        A server's role may not read and need not, because segment names are unique. For stores whose credentials may
        read, this costs one request per interrupted upload.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            found = self.client.get_object(Bucket=self.destination.bucket, Key=key)["Body"].read()
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
    # All other errors are temporary: 5xx and SlowDown; 409 of concurrent uploads; BadDigest of a truncated body;
    # wrong or expired keys, a missing bucket, or a wrong clock, which an operator corrects.
    return Away(code)


def _crc32(data: bytes | bytearray | IO[bytes]) -> int:
    if isinstance(data, (bytes, bytearray)):
        return int(isal_zlib.crc32(data))
    found = 0
    data.seek(0)
    while block := data.read(1024**2):
        found = isal_zlib.crc32(block, found)
    data.seek(0)
    return int(found)


def _addressing(endpoint_url: str | None) -> dict[str, Any]:
    if not endpoint_url:
        return {}
    where = urlsplit(endpoint_url)
    # A custom endpoint rarely has a DNS name per bucket.
    chosen: dict[str, Any] = {"addressing_style": "path"}
    if where.scheme == "http" and where.hostname in LOOPBACK:
        chosen["payload_signing_enabled"] = False  # saves a SHA-256 at each end; loopback needs none
    return chosen


def _encryption(settings: BucketSettings) -> dict[str, str]:
    if settings.encryption == "none":
        return {}
    if settings.encryption == "sse-s3":
        return {"ServerSideEncryption": "AES256"}
    key = {"SSEKMSKeyId": settings.kms_key_id} if settings.kms_key_id else {}
    return {"ServerSideEncryption": "aws:kms", **key}
