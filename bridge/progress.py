"""Progress of a long command: a bar on a terminal, plain lines elsewhere, on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

_BAR_SECONDS = 0.1
_LINE_SECONDS = 10.0


class Progress:
    """Counts the work done and reports it now and then, so that each step costs little."""

    def __init__(
        self,
        show: Callable[[int, str], None] | None,
        period: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start at zero.

        Args:
            show: takes the units done and a text of the newest values; None shows nothing.
            period: seconds between two calls of `show`.
            clock: returns the time in seconds.
        """
        self.done = 0
        self._show = show
        self._period = period
        self._clock = clock
        self._shown: dict[str, Any] = {}
        self._next = clock() + period

    def advance(self, n: int = 1, **shown: Any) -> None:
        """Add n units of work, and values to show with them, e.g. error=2.1."""
        self.done += n
        self._shown.update(shown)
        if self._show is not None and self._clock() >= self._next:
            self._next = self._clock() + self._period
            self._show(self.done, self.text)

    @property
    def text(self) -> str:
        """The newest values as text."""
        return " ".join(f"{name} {_short(value)}" for name, value in self._shown.items())

    def close(self) -> None:
        """Show the final count."""
        if self._show is not None and self.done:
            self._show(self.done, self.text)


@contextmanager
def progress(
    total: int | None,
    description: str,
    quiet: bool = False,
    *,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Progress]:
    """Show progress while the block runs: rate and remaining time.

    Args:
        total: units of work in all; None if unknown.
        description: names the work in a word or two.
        quiet: show nothing.
        stream: where to; sys.stderr by default. A terminal gets a bar, anything else a plain
            line about every ten seconds and one at the end.
        clock: returns the time in seconds.
    """
    target: TextIO = stream or sys.stderr
    if quiet:
        yield Progress(None, 0.0, clock)
    elif target.isatty():
        with _bar(total, description, target) as show:
            shown = Progress(show, _BAR_SECONDS, clock)
            try:
                yield shown
            finally:
                shown.close()
    else:
        shown = Progress(_lines(total, description, target, clock), _LINE_SECONDS, clock)
        try:
            yield shown
        finally:
            shown.close()


@contextmanager
def _bar(
    total: int | None, description: str, stream: TextIO
) -> Iterator[Callable[[int, str], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[shown]}"),
        console=Console(file=stream),
        refresh_per_second=4,
        # Table rows must reach a pipe on stdout even while the bar is on the terminal.
        redirect_stdout=sys.stdout.isatty(),
        transient=True,
    )
    with bar:
        task = bar.add_task(description, total=total, rate="", shown="")

        def show(done: int, text: str) -> None:
            speed = bar.tasks[0].speed
            rate = f"{speed:,.0f}/s" if speed else ""
            bar.update(task, completed=done, rate=rate, shown=text)

        yield show


def _lines(
    total: int | None, description: str, stream: TextIO, clock: Callable[[], float]
) -> Callable[[int, str], None]:
    start = clock()

    def show(done: int, text: str) -> None:
        seconds = max(clock() - start, 1e-9)
        rate = done / seconds
        of = f"/{total} ({100 * done / max(total, 1):.0f} %)" if total is not None else ""
        left = f", {_duration((total - done) / rate)} left" if total and rate else ""
        shown = f", {text}" if text else ""
        stream.write(f"{description}: {done}{of}, {rate:,.1f}/s{left}{shown}\n")
        stream.flush()

    return show


def _duration(seconds: float) -> str:
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
