"""Download photos from S3 and upload results, with boto3's credentials, region and AWS_ENDPOINT_URL_S3."""

from __future__ import annotations

import contextlib
import functools
import mimetypes
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from humanseg.cli.console import CommandError, s3_refusal
from humanseg.cli.download import CHUNK, DownloadError, save

SCHEME = "s3://"
GONE = ("404", "NoSuchKey", "NotFound")


@dataclass(frozen=True)
class Address:
    """`s3://bucket/key`. A key that is empty or ends in `/` names a folder."""

    bucket: str
    key: str

    @property
    def is_folder(self) -> bool:
        """Whether it is a prefix."""
        return not self.key or self.key.endswith("/")

    def below(self, name: Path) -> Address:
        """The address of `name` below this prefix."""
        return Address(self.bucket, self.key + name.as_posix())

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}"


@dataclass(frozen=True)
class Listed:
    """An object below a prefix. name: its path relative to the prefix. version: identifies its bytes."""

    address: Address
    name: Path
    version: Mapping[str, Any]


def parse(text: str) -> Address:
    """Parse `s3://bucket/key`. Raises CommandError if the bucket is missing."""
    bucket, _, key = text.removeprefix(SCHEME).partition("/")
    if not bucket:
        raise CommandError(
            f"{text} has no bucket name: use s3://bucket/photo.jpg, or s3://bucket/photos/ for a folder"
        )
    return Address(bucket, key)


def fetch(address: Address, path: Path) -> str:
    """GET an object into the file `path`; returns its SHA-256.

    Raises:
        DownloadError: see `humanseg.cli.download.save`; or the store rejects the request or can't be reached.
    """
    with _plain_errors(str(address)):
        body = _client().get_object(Bucket=address.bucket, Key=address.key)["Body"]
        with contextlib.closing(body):
            return save(body.iter_chunks(CHUNK), path, str(address))


def listed(folder: Address) -> Iterator[Listed]:
    """List the objects below a prefix. Keys that are not clean relative paths are skipped. Raises DownloadError."""
    with _plain_errors(str(folder)):
        pages = _client().get_paginator("list_objects_v2").paginate(Bucket=folder.bucket, Prefix=folder.key)
        for page in pages:
            for item in page.get("Contents", []):
                name = item["Key"].removeprefix(folder.key)
                if name and not name.endswith("/") and not {"", ".", ".."} & set(name.split("/")):
                    version = {"photo_bytes": item["Size"], "photo_etag": item["ETag"]}
                    yield Listed(Address(folder.bucket, item["Key"]), Path(PurePosixPath(name)), version)


def upload(path: Path, address: Address, metadata: Mapping[str, str]) -> None:
    """PUT a file; its content type follows its suffix.

    Raises:
        DownloadError: the store rejects the request or can't be reached.
    """
    from boto3.exceptions import S3UploadFailedError

    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    extra = {"ContentType": kind, "Metadata": dict(metadata)}
    with _plain_errors(str(address)):
        try:
            _client().upload_file(str(path), address.bucket, address.key, ExtraArgs=extra)
        except S3UploadFailedError as error:
            raise DownloadError(str(error)) from error


def metadata_of(address: Address) -> dict[str, str] | None:
    """The metadata of an object; None if the object does not exist. Raises DownloadError."""
    from botocore.exceptions import ClientError

    with _plain_errors(str(address)):
        try:
            return dict(_client().head_object(Bucket=address.bucket, Key=address.key)["Metadata"])
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in GONE:
                return None
            raise


@functools.cache
def _client() -> Any:
    """One client, shared by all threads."""
    import boto3
    from botocore.config import Config

    config = Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 5})
    return boto3.session.Session().client("s3", config=config)


@contextlib.contextmanager
def _plain_errors(address: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise DownloadError(f"{address}: {s3_refusal(error)}") from error
    except BotoCoreError as error:
        raise DownloadError(f"{address}: {error}") from error
