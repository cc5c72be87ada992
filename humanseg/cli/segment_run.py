"""Runs `humanseg segment`: photos in parallel, clips one after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from humanseg.cli.clips import Made, behind_photos, in_front, work
from humanseg.cli.console import CommandError, err
from humanseg.cli.download import DownloadError
from humanseg.cli.jobs import Job, Results, State
from humanseg.video.kinds import CONTAINERS

if TYPE_CHECKING:
    from humanseg.client import Client, Segmentation
    from humanseg.segmentation.photo import Pixels


@dataclass
class Tally:
    """The outcome of all jobs. failed: the source and the reason."""

    done: list[tuple[Job, Segmentation]] = field(default_factory=list)
    clips: list[Made] = field(default_factory=list)
    skipped: list[Job] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    untried: list[Job] = field(default_factory=list)

    @property
    def all_done(self) -> bool:
        """Whether every job succeeded completely."""
        return not (self.failed or self.untried or any(made.outcome.broken for made in self.clips))


@dataclass(frozen=True)
class Run:
    """What all jobs share. options: by name. parallel: concurrent requests."""

    server: Client
    options: Mapping[str, Any]
    results: Results
    parallel: int
    force: bool
    tally: Tally = field(default_factory=Tally)

    def open_jobs(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs to run. Adds finished jobs, and jobs whose result is a foreign file, to the tally."""
        remaining = []
        for job in jobs:
            state = State.OPEN if self.force else self.results.state(job)
            if state is State.DONE:
                self.tally.skipped.append(job)
            elif state is State.FOREIGN:
                name = self.results.name(job)
                reason = f"{name} exists and was not written by this command; use --force to overwrite it"
                self.tally.failed.append((str(job.source), reason))
            else:
                remaining.append(job)
        return remaining

    def photos(self, jobs: Sequence[Job]) -> None:
        """Segment photos. Raises CommandError when stopped by Ctrl-C."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        behind = behind_photos(self.options)
        queue = iter(jobs)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        bar = Progress(*columns, console=err(), transient=True)
        with bar, ThreadPoolExecutor(self.parallel) as pool:
            task = bar.add_task("Segmenting", total=len(jobs))
            running: dict[Future[Segmentation], Job] = {}
            try:
                while True:
                    while len(running) < self.parallel and (job := next(queue, None)):
                        self.results.begin(job)
                        running[pool.submit(self._photo, job, behind)] = job
                    if not running:
                        return
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        queue = self._settle(running.pop(future), future, queue)
                        bar.advance(task)
            except KeyboardInterrupt:
                raise CommandError("interrupted; run the same command again to resume") from None

    def _settle(self, job: Job, future: Future[Segmentation], queue: Iterator[Job]) -> Iterator[Job]:
        """Record the outcome of one photo; returns the remaining jobs."""
        from humanseg.client import HumansegError

        try:
            answer = future.result()
        except (HumansegError, DownloadError, OSError, ValueError) as error:
            return self._fail(job, error, queue)
        self.tally.done.append((job, answer))
        self.results.finish(job, answer.model_version)
        return queue

    def _fail(self, job: Job, error: Exception, queue: Iterator[Job]) -> Iterator[Job]:
        from humanseg.client import UnauthorizedError, UnreachableError

        self.tally.failed.append((str(job.source), str(error)))
        if isinstance(error, (UnauthorizedError, UnreachableError)):
            self.tally.untried += queue  # all others would fail, too
            return iter(())
        return queue

    def _photo(self, job: Job, behind: Pixels | None) -> Segmentation:
        options, source = self.options, job.source
        if options["format"] in CONTAINERS:
            raise ValueError(f"a photo can't be written as {options['format']}: use --format png, webp or jpeg")
        if source.download:
            source.download(source.path)
        if behind is None:
            answer = self.server.segment(source.path, **options)
        else:
            cut = self.server.segment(
                source.path, **{**options, "output": "cutout", "format": "png", "background": None}
            )
            answer = dataclasses.replace(cut, content=in_front(cut.content, behind, options["format"] or "png"))
        job.result.parent.mkdir(parents=True, exist_ok=True)
        answer.save(job.result)
        self.results.deliver(job)
        if source.download:
            source.path.unlink()
        # without the bytes: a run may have thousands of photos
        return dataclasses.replace(answer, content=b"", document=None)

    def clips(self, jobs: Sequence[Job]) -> None:
        """Process one clip after another, each with `parallel` concurrent frames."""
        import av  # noqa: F401  (first: where the extra is missing, this is the name that says which one)

        from humanseg.client import HumansegError
        from humanseg.video.errors import ClipError

        queue: Iterator[Job] = iter(jobs)
        while job := next(queue, None):
            self.results.begin(job)
            try:
                made = self._clip(job)
            except (ClipError, HumansegError, DownloadError, OSError, ValueError) as error:
                queue = self._fail(job, error, queue)
                continue
            self.tally.clips.append(made)
            for warning in made.warnings:
                err().print(f"warning: {warning}", highlight=False, markup=False)
            if not made.outcome.broken:
                self.results.finish(job, made.model_version)

    def _clip(self, job: Job) -> Made:
        from humanseg.video.resume import is_begun

        source = job.source
        if source.download:
            source.download(source.path)
        # A result in the log may be overwritten, unless it can be resumed.
        again = self.force or (self.results.resumes and not is_begun(job.result))
        stays = self.results.name(job) == str(job.result)
        made = work(self.server, job, self.options, self.parallel, force=again, stays=stays)
        self.results.deliver(job, whole=not made.outcome.broken)
        if source.download:
            source.path.unlink()
        return made
