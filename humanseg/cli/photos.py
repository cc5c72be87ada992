"""Which photos and clips to segment, and where each result goes."""

from __future__ import annotations

import glob
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from humanseg.cli.console import CommandError
from humanseg.cli.jobs import Job, Source

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


def find(pattern: str, out: Path | None) -> list[Source]:
    """The photos that a file, a folder or a pattern names. Earlier results below the folder `out` are no photos.

    Raises:
        CommandError: no photos found, or the results would be written among them.
    """
    path = Path(pattern)
    if path.is_file():
        return [Source(path, Path(path.name))]
    if path.is_dir():
        if out is not None and out.resolve() == path.resolve():
            raise CommandError(
                f"can't write the results into the photos' folder, {pattern}; choose another one with -o"
            )
        pictures = (p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES | CLIPS)
        base, what = path, "contains no photos or clips"
    else:
        # pathlib's glob takes no absolute patterns
        pictures = (Path(name) for name in glob.glob(pattern, recursive=True))  # noqa: PTH207
        base, what = _fixed_part(path), "is not a file, a folder, or a pattern that matches a file"
    ours = out.resolve() if out is not None and base.resolve() in out.resolve().parents else None
    inside = sorted(p for p in pictures if p.is_file() and ours not in p.resolve().parents)
    if not inside:
        raise CommandError(f"{pattern} {what}")
    return [Source(photo, photo.relative_to(base)) for photo in inside]


def to_one(source: Source, result: Path) -> list[Job]:
    """The job of one photo whose result is the file `result`. Raises CommandError: that is the photo itself."""
    jobs = [Job(source, result)]
    _refuse_clashes(jobs)
    return jobs


def to_folder(sources: Iterable[Source], folder: Path, suffix: Callable[[Source], str]) -> list[Job]:
    """The jobs of photos whose results go into `folder`, which repeats the tree below a source folder.

    `suffix` of a photo (e.g. `.png`) replaces the photo's own, or follows it where `a.jpg` and `a.heic` would meet.

    Raises:
        CommandError: a result would replace a photo.
    """
    unique = list(_unique(sources))
    endings = [suffix(source) for source in unique]
    meeting = Counter(source.name.with_suffix(ending) for source, ending in zip(unique, endings, strict=True))
    jobs = []
    for source, ending in zip(unique, endings, strict=True):
        short = source.name.with_suffix(ending)
        long = source.name.with_name(source.name.name + (ending or ".frames"))
        jobs.append(Job(source, folder / (short if meeting[short] == 1 else long)))
    _refuse_clashes(jobs)
    return jobs


def _fixed_part(pattern: Path) -> Path:
    # the folders before the first wildcard, common to all matches
    parts = list(itertools.takewhile(lambda part: not glob.has_magic(part), pattern.parts))
    return Path(*parts) if parts else Path()


def _unique(sources: Iterable[Source]) -> Iterable[Source]:
    seen: set[Path] = set()
    for source in sources:
        real = source.path.resolve()
        if real not in seen:
            seen.add(real)
            yield source


def _refuse_clashes(jobs: Sequence[Job]) -> None:
    photos = {job.photo.resolve() for job in jobs}
    taken: dict[Path, Source] = {}
    for job in jobs:
        result = job.result.resolve()
        if result in photos:
            raise CommandError(f"the result {job.result} would overwrite a photo; choose another folder with -o")
        if result in taken:
            raise CommandError(
                f"{taken[result]} and {job.source} have the same result {job.result}; run them into two folders"
            )
        taken[result] = job.source
