"""The archive's destination: bucket, prefix and endpoint, from the environment.

`ARCHIVE_BUCKET` (with `ARCHIVE_PREFIX`, `ARCHIVE_ENDPOINT_URL` and boto3's own `AWS_*`) selects any S3. Without it,
the embedded store of this STATE_DIR is used (local_store.py), whose address and random keys are in
`STATE_DIR/store/environment`, mode 0600. A worker and a `humanseg archive` in another shell therefore find the same
store, and neither needs the keys in its environment.

Credentials for any other S3 come only through boto3's chain (instance role, profile, AWS_*).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from humanseg.archive.errors import NoStore
from humanseg.common.settings import SettingsError

DEFAULT_PREFIX = "humanseg"
ENVIRONMENT_FILE = Path("store") / "environment"  # under STATE_DIR


@dataclass(frozen=True)
class Destination:
    """A bucket and its access. `access_key` and `secret_key` are set for the embedded store only."""

    bucket: str
    prefix: str = DEFAULT_PREFIX
    endpoint_url: str | None = None
    region: str | None = None
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)

    @classmethod
    def find(cls, environment: Mapping[str, str], state_dir: Path) -> Destination:
        """Read the destination from the environment.

        Raises:
            NoStore: no ARCHIVE_BUCKET, and no embedded store has been started in `state_dir`.
            SettingsError: a variable is malformed.
        """
        prefix = checked_prefix(environment.get("ARCHIVE_PREFIX", DEFAULT_PREFIX))
        if environment.get("ARCHIVE_BUCKET"):
            return cls(
                bucket=environment["ARCHIVE_BUCKET"],
                prefix=prefix,
                endpoint_url=environment.get("ARCHIVE_ENDPOINT_URL") or None,
                # boto3 requires a region; if its chain has none, an S3-compatible store accepts any.
                region=environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or None,
            )
        path = state_dir / ENVIRONMENT_FILE
        try:
            lines = path.read_text().splitlines()
        except OSError as error:
            raise NoStore(
                f"ARCHIVE_BUCKET is not set and {path} can't be read ({error.strerror}): "
                "start ./serve.sh once, set STATE_DIR to its state folder, or set ARCHIVE_BUCKET"
            ) from error
        found = dict(line.split("=", 1) for line in lines if "=" in line)
        try:
            return cls(
                bucket=found["ARCHIVE_BUCKET"],
                prefix=prefix,
                endpoint_url=found["ARCHIVE_ENDPOINT_URL"],
                region=found["AWS_REGION"],
                access_key=found["AWS_ACCESS_KEY_ID"],
                secret_key=found["AWS_SECRET_ACCESS_KEY"],
            )
        except KeyError as error:
            raise NoStore(f"{path} has no {error.args[0]}: delete it and restart ./serve.sh") from error


def checked_prefix(prefix: str) -> str:
    """`prefix` without slashes at its ends; raises `SettingsError` if it is invalid."""
    trimmed = prefix.strip("/")
    if not re.fullmatch(r"[A-Za-z0-9!_.*'()-]+(/[A-Za-z0-9!_.*'()-]+)*", trimmed) or ".." in trimmed:
        raise SettingsError(f"ARCHIVE_PREFIX is {prefix!r}; it must be letters, digits, - and _ with / between")
    return trimmed
