"""Which photos and clips to segment, and where each result goes."""

from __future__ import annotations

import glob
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from humanseg.cli.console import CommandError

# Photo formats that the server accepts, and clip formats.
JPEG = {".jpg", ".jpeg", ".jpe", ".jfif"}
SUFFIXES = JPEG | {".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".dib", ".heic", ".heif", ".avif"}
CLIPS = {
    ".mp4",
    ".m4v",
    ".mov",
    ".webm",
    ".mkv",
    ".avi",
    ".mpg",
    ".mpeg",
    ".ts",
    ".mts",
    ".m2ts",
    ".flv",
    ".wmv",
    ".3gp",
}


@dataclass(frozen=True)
class Job:
    """One photo or clip to segment, and the file of its result (a folder for a clip as pictures)."""

    photo: Path
    result: Path


def plan(sources: Sequence[str], out: str, suffix: Callable[[Path], str]) -> tuple[list[Job], Path | None]:
    """Map every photo to its result; also return the results folder, None for a single file.

    A single photo is written to the file `out`, unless `out` is a folder or ends in `/`. Otherwise `out` is a folder
    that mirrors the source folder. `suffix` of a photo (e.g. `.png`) replaces the photo's own, or is appended if
    `a.jpg` and `a.heic` would collide.

    Raises:
        CommandError: no photos found, or a result would overwrite a photo.
    """
    folder = Path(out)
    if len(sources) == 1 and Path(sources[0]).is_file() and not (folder.is_dir() or out.endswith("/")):
        jobs = [Job(Path(sources[0]), folder)]
        _refuse_clashes(jobs)
        return jobs, None
    found = list(_unique(pair for source in sources for pair in _find(source, folder)))
    endings = [suffix(photo) for photo, _ in found]
    meeting = Counter(name.with_suffix(ending) for (_, name), ending in zip(found, endings, strict=True))
    jobs = []
    for (photo, name), ending in zip(found, endings, strict=True):
        short = name.with_suffix(ending)
        long = name.with_name(name.name + (ending or ".frames"))
        jobs.append(Job(photo, folder / (short if meeting[short] == 1 else long)))
    _refuse_clashes(jobs)
    return jobs, folder


def _find(source: str, out: Path) -> list[tuple[Path, Path]]:
    # (photo, its name below the results folder). Earlier results below `out` are not photos.
    path = Path(source)
    if path.is_file():
        return [(path, Path(path.name))]
    if path.is_dir():
        if out.resolve() == path.resolve():
            raise CommandError(
                f"can't write the results into the photos' folder, {source}; choose another one with -o"
            )
        pictures = (p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES | CLIPS)
        base, what = path, "contains no photos or clips"
    else:
        # pathlib's glob takes no absolute patterns
        pictures = (Path(name) for name in glob.glob(source, recursive=True))  # noqa: PTH207
        base, what = _fixed_part(path), "is not a file, a folder, or a pattern that matches a file"
    ours = out.resolve() if base.resolve() in out.resolve().parents else None
    inside = sorted(p for p in pictures if p.is_file() and ours not in p.resolve().parents)
    if not inside:
        raise CommandError(f"{source} {what}")
    return [(photo, photo.relative_to(base)) for photo in inside]


def _fixed_part(pattern: Path) -> Path:
    # the folders before the first wildcard, common to all matches
    parts = list(itertools.takewhile(lambda part: not glob.has_magic(part), pattern.parts))
    return Path(*parts) if parts else Path()


def _unique(pairs: Iterable[tuple[Path, Path]]) -> Iterable[tuple[Path, Path]]:
    seen: set[Path] = set()
    for photo, name in pairs:
        real = photo.resolve()
        if real not in seen:
            seen.add(real)
            yield photo, name


def _refuse_clashes(jobs: Sequence[Job]) -> None:
    photos = {job.photo.resolve() for job in jobs}
    taken: dict[Path, Path] = {}
    for job in jobs:
        result = job.result.resolve()
        if result in photos:
            raise CommandError(f"the result {job.result} would overwrite a photo; choose another folder with -o")
        if result in taken:
            raise CommandError(
                f"{taken[result]} and {job.photo} have the same result {job.result}; run them into two folders"
            )
        taken[result] = job.photo
