"""Where the records go: bucket, prefix and endpoint, from the environment.

`ARCHIVE_BUCKET` (with `ARCHIVE_PREFIX`, `ARCHIVE_ENDPOINT_URL` and boto3's own `AWS_*`) names any S3. Without
it, the embedded store of this STATE_DIR is meant (local_store.py), whose address and random keys lie in
 `STATE_DIR/store/environment`, mode 0600. So a worker and a `humanseg archive` in another shell find the
same store, and neither needs the keys in its environment.

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
class Target:
    """A bucket and the way to it. `access_key` and `secret_key` are set for the embedded store only."""

    bucket: str
    prefix: str = DEFAULT_PREFIX
    endpoint_url: str | None = None
    region: str | None = None
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)

    @classmethod
    def find(cls, environment: Mapping[str, str], state_dir: Path) -> Target:
        """The target that this environment means.

        Raises:
            NoStore: no ARCHIVE_BUCKET, and no embedded store was ever started in `state_dir`.
            SettingsError: a variable is malformed.
        """
        prefix = checked_prefix(environment.get("ARCHIVE_PREFIX", DEFAULT_PREFIX))
        if environment.get("ARCHIVE_BUCKET"):
            return cls(
                bucket=environment["ARCHIVE_BUCKET"],
                prefix=prefix,
                endpoint_url=environment.get("ARCHIVE_ENDPOINT_URL") or None,
                # boto3 refuses to guess a region; with its own chain silent, an S3-compatible store at an
                # endpoint takes any.
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
            raise NoStore(f"{path} lacks {error.args[0]}: delete it and start ./serve.sh again") from error


def checked_prefix(prefix: str) -> str:
    """`prefix` without slashes at its ends; raises `SettingsError` for what makes bad keys."""
    trimmed = prefix.strip("/")
    if not re.fullmatch(r"[A-Za-z0-9!_.*'()-]+(/[A-Za-z0-9!_.*'()-]+)*", trimmed) or ".." in trimmed:
        raise SettingsError(f"ARCHIVE_PREFIX is {prefix!r}; it must be letters, digits, - and _ with / between")
    return trimmed
