"""`--together`: train the runs of a sweep in this process, as one program."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bioplaus.config import EqpropConfig
from bioplaus.data import Dataset
from bioplaus.training import Run, build
from bioplaus.training.run import read
from bioplaus.training.together import Member, alike, require_joinable, train_together
from bioplaus_cli.cards import tell
from bioplaus_cli.learning import lessons
from bioplaus_cli.options import SweepOptions
from bioplaus_cli.shared import prepare
from bioplaus_cli.sweeps import interpreter
from bridge import terminal
from bridge.console import (
    EXIT_FAILED,
    EXIT_STOPPED,
    EXIT_STORAGE,
    EXIT_USAGE,
    kept_in,
    resolve_device,
)
from bridge.distributed import Group
from bridge.errors import InputError, OutsideFailed, RunFailed, Stopped, StorageError
from bridge.progress import progress
from bridge.signals import noted
from bridge.sweep import AbstractLauncher, Job

_SECONDS = 0.05
"""Seconds of training between two checks for signals and the lock."""
_CODES: dict[type[Exception], int] = {
    InputError: EXIT_USAGE,
    StorageError: EXIT_STORAGE,
    Stopped: EXIT_STOPPED,
    RunFailed: EXIT_FAILED,
    OutsideFailed: EXIT_FAILED,
}


@dataclass
class _Point:
    """One run: its config, its options and, once it is started, its job."""

    settings: EqpropConfig
    options: SweepOptions
    log: Path
    job: Job | None = None


class Together(AbstractLauncher):
    """Trains runs of `eqprop-run` at once: as one program if they differ only in `together.FREE`.

    Groups that cannot form one program are trained one after another.
    """

    poll_seconds = 0.0

    def __init__(
        self,
        points: Mapping[Path, Mapping[str, str]],
        toml: Path | None,
        flags: Mapping[str, object],
        options: SweepOptions,
    ) -> None:
        """Make every config, and refuse unsuitable runs before anything is written.

        Args:
            points: the values of each run by its log.
            toml, flags, options: of the command, see `prepare`.

        Raises:
            InputError: a mistake in a config, or a run that cannot be trained here.
        """
        self._points: dict[Path, _Point] = {}
        for log, point in points.items():
            sets = (*options["sets"], *(f"{key}={value}" for key, value in point.items()))
            own: SweepOptions = {
                **options,
                "out": log,
                "sets": sets,
                "quiet": True,
                "as_json": False,
            }
            settings, _ = prepare("eqprop-run", EqpropConfig, toml, flags, own)
            self._points[log] = _Point(settings, own, log)
        every = list(self._points.values())
        self._groups = [[every[k] for k in group] for group in alike([p.settings for p in every])]
        self._quiet, self._every = options["quiet"], options["checkpoint_every"]
        self._device = resolve_device(options["device"])
        self._data: dict[str, Dataset] = {}
        self._signals: list[int] = []
        self._interrupted = self._at_once = False
        self._course: Generator[list[Job]] | None = None
        self._images, cards = 0, {}
        for group in self._groups:
            first = self._built(group[0])
            require_joinable(first)
            self._images += len(group) * group[0].settings.epochs * len(first.dataset.train)
            cards[first.dataset.sha256] = first.card
        tell(cards.values(), options)

    def __exit__(self, *exception: object) -> None:
        """Stop active runs cleanly."""
        self.stop(at_once=False)
        while self.running:
            self.ended()

    @property
    def running(self) -> int:
        return sum(p.job is not None for p in self._points.values())

    def start(self, job: Job) -> None:
        """Add a run; all begin at the first call of `ended`."""
        job.status = "running"
        point = self._points[job.log]
        point.job = job
        # the command line that would train this run alone
        point.options["words"] = job.command[len(interpreter()) :]

    def stop(self, at_once: bool) -> None:
        """Let every run stop after its current step, or before its first, with a checkpoint."""
        self._at_once = at_once
        if not self._signals:
            self._signals.append(signal.SIGTERM)

    def ended(self) -> list[Job]:
        """Train for a while, or until some runs have ended."""
        self._course = self._course or self._trained()
        until = time.monotonic() + _SECONDS
        try:
            with noted(self._interrupt, signals=(signal.SIGINT,)):
                if self._at_once:
                    self._course.throw(KeyboardInterrupt)
                for found in self._course:
                    if found or time.monotonic() >= until:
                        return found
        except KeyboardInterrupt:
            self._signals.append(signal.SIGINT)
        return self._broken_off()

    def _interrupt(self, number: int, before: Mapping[int, object]) -> None:
        """Forward the first Ctrl-C; a second one interrupts the current step.

        Raises:
            KeyboardInterrupt: all runs have already been asked to stop.
        """
        if self._signals or self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = True
        handler = before[number]
        if callable(handler):
            handler(number, None)

    def _broken_off(self) -> list[Job]:
        """Give the runs left when the course is over: each has its checkpoint, or has not begun."""
        found = []
        for point in self._points.values():
            if (job := point.job) is None:
                continue
            point.job, job.status = None, "waiting"
            if job.log.exists():
                job.end(EXIT_STOPPED, "", True)
                found.append(job)
        return found

    def _trained(self) -> Generator[list[Job]]:
        """Train group after group; yield now and then the runs that have ended."""
        with terminal.unwaiting(), progress(self._images, "training", self._quiet) as bar:
            for group in self._groups:
                if self._signals:
                    yield from self._left(group)
                    continue
                members = [self._member(point, bar.advance) for point in group]
                place = {id(each): point for each, point in zip(members, group, strict=True)}
                for some in train_together(members, known_every=self._every):
                    yield [self._end(place[id(each)], each) for each in some]

    def _left(self, group: Sequence[_Point]) -> Iterator[list[Job]]:
        """Leave runs that a signal has kept from starting for another time."""
        for point in group:
            if (job := point.job) is not None:
                job.status, point.job = "waiting", None
        yield []

    def _member(self, point: _Point, advance: Callable[[int], None]) -> Member:
        run = self._built(point)
        own = (run, point.log, self._device, Group(), point.options)
        course = lessons(*own, advance=advance, signals=self._signals)
        return Member(run, course)

    def _built(self, point: _Point) -> Run:
        """Build a run; runs with equal data settings share the data set."""
        data = f"{point.settings.data.model_dump_json()} {point.settings.dtype}"
        if data not in self._data:
            self._data[data] = read(point.settings, self._device)
        return build(point.settings, self._device, dataset=self._data[data])

    def _end(self, point: _Point, member: Member) -> Job:
        job, point.job = point.job, None
        assert job is not None
        kept_in(job.log.parent)
        error = member.error
        if error is None:
            job.end(0, "", False)
            return job
        code = next((c for kind, c in _CODES.items() if isinstance(error, kind)), None)
        if code is None:
            raise error
        reason = "; ".join((str(error), *getattr(error, "__notes__", ())))
        job.end(code, reason, bool(self._signals))
        return job
