"""Resuming: a small file beside an unfinished result describes its source and options.

The file exists from a run's start to its successful end. The number of finished frames is read from the result
itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import av

from humanseg.video.encode import picture_name
from humanseg.video.errors import ResultRefused
from humanseg.video.kinds import LINES
from humanseg.video.lines import whole_lines

FOLDER_NOTE = ".humanseg.json"


class Unfinished:
    """The resume file of one result, and the unfinished result.

    Args:
        result: the file, or the folder of PNGs.
        container: "webm", "mp4" or "mov", LINES, or "png" for the folder.
        source: the clip. options: everything that affects the result.
    """

    def __init__(self, result: Path, container: str, source: Path, options: Mapping[str, str]) -> None:
        self._result, self._container, self._folder = result, container, container == "png"
        self._note = _note(result, self._folder)
        self._part = result.with_name(f".{result.stem}.part{result.suffix}")
        status = source.stat()
        self._made_of = {
            "clip": str(source.resolve()),
            "bytes": status.st_size,
            "changed_ns": status.st_mtime_ns,
            "options": dict(options),
        }

    def begin(self, *, force: bool = False) -> int:
        """Start or resume the result; returns the number of finished frames.

        Raises:
            ResultRefused: a result exists that this run can neither resume nor overwrite.
        """
        finished = 0
        if force:
            self._clear()
        elif self._note.exists():
            if _read(self._note) != self._made_of:
                raise ResultRefused(
                    f"{self._result} is unfinished and was started from another clip or with other options, "
                    "so it can't be resumed. Use --force to start over."
                )
            finished = self._finished_frames()
        elif self._result.exists() and not (self._folder and not any(self._result.iterdir())):
            raise ResultRefused(f"{self._result} already exists. Use --force to overwrite it.")
        self._note.parent.mkdir(parents=True, exist_ok=True)
        self._note.write_text(json.dumps(self._made_of))
        return finished

    def packets(self) -> Iterator[Any]:
        """The packets of the finished frames, from the clip moved aside by `begin`."""
        if not self._part.exists():
            return
        with av.open(str(self._part)) as part:
            stream = part.streams.video[0]
            # MP4 stores H.264 in another framing than the encoder's, which the muxer expects.
            name = "h264_mp4toannexb" if stream.codec_context.name == "h264" else "null"
            framing = av.BitStreamFilterContext(name, stream)
            for packet in part.demux(stream):
                if packet.size:
                    yield from framing.filter(packet)

    def copied(self) -> None:
        """Delete the old file; its packets are in the new one."""
        self._part.unlink(missing_ok=True)

    def drop(self) -> None:
        """Delete the resume file; there is nothing to resume."""
        self._note.unlink(missing_ok=True)
        if not self._folder:
            self._result.unlink(missing_ok=True)

    def finish(self) -> None:
        """The result is complete: delete the resume file."""
        self.copied()
        self._note.unlink(missing_ok=True)

    def _finished_frames(self) -> int:
        if self._folder:
            finished = 0
            while (self._result / picture_name(finished)).exists():
                finished += 1
            return finished
        if self._container == LINES:
            return whole_lines(self._result)
        # Moved aside, because FFmpeg can't append. After a kill both may exist: the longer one counts.
        here, aside = _count(self._result), _count(self._part)
        if here and here >= aside:
            self._result.replace(self._part)
        return max(here, aside)

    def _clear(self) -> None:
        self._part.unlink(missing_ok=True)
        if self._folder and self._result.is_dir():
            for picture in self._result.glob("[0-9]" * 8 + ".png"):
                picture.unlink()


def is_begun(result: Path) -> bool:
    """Whether `result` is unfinished."""
    return _note(result, result.is_dir()).exists()


def _note(result: Path, folder: bool) -> Path:
    return result / FOLDER_NOTE if folder else result.with_name(f".{result.name}.humanseg.json")


def _read(note: Path) -> Any:
    try:
        return json.loads(note.read_text())
    except ValueError:  # truncated by a kill
        return None


def _count(path: Path) -> int:
    if not path.exists():
        return 0
    try:
        with av.open(str(path)) as part:
            return sum(packet.size > 0 for packet in part.demux(part.streams.video[0]))
    except (av.error.FFmpegError, IndexError):
        return 0
