"""Data cards on the command line: printed before the work begins, kept in the log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from bioplaus_cli.options import Options
from bridge.console import visible, warn

if TYPE_CHECKING:
    from bridge.card import Card
    from bridge.runlog import RunLog


def tell(cards: Iterable[Card], options: Options) -> None:
    """Print each card's line on stderr, unless --quiet is given, and its warnings in any case."""
    for card in cards:
        if not options["quiet"]:
            click.echo(visible(card.line()), err=True)
        for text in card.warnings:
            warn(text)


def keep(cards: Iterable[Card], log: RunLog) -> None:
    """Record the cards in a new log."""
    from bridge.card import EVENT

    for card in cards:
        log.event(EVENT, **card.as_event())
