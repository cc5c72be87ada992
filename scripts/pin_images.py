#!/usr/bin/env python3
"""Name each foreign container image by its digest: ask its registry, and write `NAME:TAG@sha256:...` in its place.

    scripts/pin_images.py            after a change of a tag
    scripts/pin_images.py --check    changes nothing; exit status 1 where a registry says otherwise

A tag is what its registry says today. With a digest beside it, a build takes those bytes or fails.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KUBERNETES = sorted(ROOT.glob("deploy/kubernetes/*.yaml"))
FILES = ("Dockerfile", "compose.yaml", *(str(path.relative_to(ROOT)) for path in KUBERNETES))
OWN = "humanseg"
IMAGE = re.compile(
    r"^(?P<before>ARG BASE=| *-? *image: *)(?P<name>[a-z0-9.-]+(?::\d+)?[a-z0-9./-]*):(?P<tag>[\w.-]+)"
    r"(?P<digest>@sha256:[0-9a-f]{64})? *$",
    re.MULTILINE,
)
# A list of the images for each architecture comes first: one digest for all of them.
ACCEPT = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.index.v1",
        "docker.distribution.manifest.list.v2",
        "oci.image.manifest.v1",
        "docker.distribution.manifest.v2",
    )
)


def place_of(name: str) -> tuple[str, str]:
    """Host and repository of an image's name, as docker reads it."""
    first, _, rest = name.partition("/")
    if rest and ("." in first or ":" in first or first == "localhost"):
        return first, rest
    return "registry-1.docker.io", name if rest else f"library/{name}"


def ask(url: str, headers: dict[str, str], method: str = "GET") -> tuple[dict[str, str], bytes]:
    """Headers, in lower case, and body of an answer."""
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers, method=method), timeout=30) as answer:
        return {key.lower(): value for key, value in answer.headers.items()}, answer.read()


def digest_of(name: str, tag: str, scheme: str = "https") -> str:
    """`sha256:...` of what the registry has under a tag (OCI distribution specification, "Pulling manifests")."""
    host, repository = place_of(name)
    url, headers = f"{scheme}://{host}/v2/{repository}/manifests/{tag}", {"Accept": ACCEPT}
    try:
        found, _ = ask(url, headers, "HEAD")
    except urllib.error.HTTPError as error:
        challenge = dict(re.findall(r'(\w+)="([^"]*)"', error.headers.get("WWW-Authenticate", "")))
        if error.code != 401 or "realm" not in challenge:
            raise
        query = f"service={challenge.get('service', '')}&scope=repository:{repository}:pull"
        token = json.loads(ask(f"{challenge['realm']}?{query}", {})[1])
        bearer = {"Authorization": f"Bearer {token.get('token') or token['access_token']}"}
        found, _ = ask(url, {**headers, **bearer}, "HEAD")
    digest = found.get("docker-content-digest", "")
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise ValueError(f"{host} names no digest of {repository}:{tag}")
    return digest


def pin(text: str, digest: Callable[[str, str], str]) -> tuple[str, list[str]]:
    """`text` with a digest behind each foreign image, and what is different now."""
    changes: list[str] = []

    def one(found: re.Match[str]) -> str:
        name, tag = found["name"], found["tag"]
        if name == OWN:
            return found[0]
        wanted = f"@{digest(name, tag)}"
        if found["digest"] != wanted:
            changes.append(f"{name}:{tag} is {wanted[1:]}, not {(found['digest'] or '@pinned')[1:]}")
        return f"{found['before']}{name}:{tag}{wanted}"

    return IMAGE.sub(one, text), changes


def main(arguments: list[str] | None = None, root: Path = ROOT, scheme: str = "https") -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(description="Name each foreign container image by its digest.")
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args(arguments).check
    different = False
    for name in FILES:
        try:
            text, changes = pin((root / name).read_text(), lambda image, tag: digest_of(image, tag, scheme))
        except (OSError, ValueError, KeyError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 2
        for change in changes:
            print(f"{name}: {change}")
        different |= bool(changes)
        if changes and not check:
            (root / name).write_text(text)
    return int(check and different)


if __name__ == "__main__":
    sys.exit(main())
