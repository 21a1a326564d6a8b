"""What commands print and log about a judge: its name, its cost and its failures."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from bridge.console import visible, warn

if TYPE_CHECKING:
    from bridge.distributed import Group
    from bridge.runlog import RunLog
    from bridge.usercode import Provenance
    from nlhf.language.judging import AbstractJudge

PREFERENCE = "NAME"
PREFERENCE_HELP = (
    "Judge of the answers: DIR of preference-train, reward:MODEL, pair:MODEL, judge:URL#MODEL, "
    "module:function, or 0.7*NAME+0.3*NAME"
)
MAX_CALLS_HELP = (
    "Maximum number of requests to judge:URL#MODEL; then the run stops with a checkpoint."
)
EVENT = "judge"
"""Kind of the log event that names the judge."""
BILL = "judged"
"""Kind of the log event with the cost so far, in this process."""
SECONDS = 60.0
"""Seconds between two such events."""
_SHOWN = {
    "calls": "requests",
    "cached": "answers from the cache",
    "retries": "tried again",
    "failures": "failed",
    "input_tokens": "tokens in",
    "output_tokens": "tokens out",
}


@dataclass(frozen=True)
class Bill:
    """What one judge was asked and what it cost, as counts by name."""

    judge: str
    counts: Mapping[str, float]

    def as_fact(self) -> dict[str, object]:
        """Give the bill as one entry of `as_facts`."""
        return {"name": self.judge, **self.counts}


def as_facts(bills: Sequence[Bill]) -> dict[str, object]:
    """Give the bills for a summary; nothing if there are none."""
    return {"judged": [each.as_fact() for each in bills]} if bills else {}


class Account:
    """Records what a judge is asked and what that costs, in a log now and then."""

    def __init__(self, judge: AbstractJudge | None, log: RunLog) -> None:
        """Take the judge; None if nobody judges."""
        self._judge, self._log = judge, log
        self._due = time.monotonic() + SECONDS

    def note(self) -> None:
        """Print pending messages, and log the cost if the last record is old."""
        for text in [] if self._judge is None else self._judge.new_warnings():
            self._log.event("remark", text=text)
            warn(text)
        if time.monotonic() >= self._due:
            self.write()

    def write(self) -> None:
        """Log the cost, if there is any."""
        self._due = time.monotonic() + SECONDS
        if bills := self.bills():
            self._log.event(BILL, of=[each.as_fact() for each in bills])

    def bills(self, group: Group | None = None) -> list[Bill]:
        """Give a bill for each judge that was asked, over all processes of a group."""
        parts = [] if self._judge is None else self._judge.parts()
        found = []
        for _, judge in parts:
            counts = judge.counts()
            if group is not None and group.size > 1 and counts:
                counts = {name: mean * group.size for name, mean in group.mean(counts).items()}
            if any(counts.values()):
                found.append(Bill(judge.name, _measures(counts)))
        return found


@contextlib.contextmanager
def accounted(
    judge: AbstractJudge | None, log: RunLog, origins: Sequence[Provenance] = ()
) -> Iterator[Account]:
    """Record in a log who judges, and at the end of the block, however it ends, the cost.

    Args:
        judge: the judge; None if nobody judges.
        log: of the run.
        origins: the origins of users' code.
    """
    from bridge.errors import RunFailed, Stopped, StorageError
    from bridge.usercode import EVENT as CODE_EVENT

    for weight, each in [] if judge is None else judge.parts():
        log.event(EVENT, of={"weight": weight, **each.facts()})
    for origin in origins:
        log.event(CODE_EVENT, **origin.as_event())
    account = Account(judge, log)
    try:
        yield account
    except Stopped:
        raise  # the log is sealed
    except BaseException:
        # report the failure itself, not that the log accepts nothing more
        with contextlib.suppress(StorageError, RunFailed):
            account.note()
            account.write()
        raise
    account.note()
    account.write()


def show_bills(bills: Sequence[Bill]) -> None:
    """Print one line for each judge that was asked over the network or in both orders."""
    for bill in bills:
        each, parts = bill.counts, []
        if each.get("calls") or each.get("cached"):
            parts = [f"{each[name]:.0f} {word}" for name, word in _SHOWN.items() if each.get(name)]
            parts += [f"cost {each['cost']:.4g}"] if each["cost"] else []
        if each.get("pairs"):
            parts.append(f"position bias {each['position_bias']:+.3f}")
            parts.append(f"{each['flips'] / each['pairs']:.1%} of verdicts turn with the order")
        if parts:
            click.echo(visible(f"{bill.judge}: {', '.join(parts)}"))


def _measures(counts: Mapping[str, float]) -> dict[str, float]:
    """Convert counts for printing: the share of the first place becomes a bias."""
    found = dict(counts)
    first = found.pop("first_place", 0.0)
    if found.get("pairs"):
        found["position_bias"] = first / found["pairs"] - 0.5
    return found
