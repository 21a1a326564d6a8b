"""How to rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nlhf.errors import InputError
from nlhf.preferences.battles import check_smoothing
from nlhf.ranking.bradley_terry import Ties


@dataclass(frozen=True)
class Settings:
    """How to rank.

    Attributes:
        bootstrap: resamples; none gives no intervals and decides nothing.
        ties: "half" (half a win for each), "davidson" or "rao-kupper".
        smoothing: pseudo-votes for each side of every compared pair.
        intervals: of scores, by the "bootstrap" or the "sandwich".
        elo: whether to compute Elo ratings too.
        seed: of the resamples.
    """

    bootstrap: int = 1000
    ties: Ties = "half"
    smoothing: float = 0.0
    intervals: Literal["bootstrap", "sandwich"] = "bootstrap"
    elo: bool = False
    seed: int = 0


def check(settings: Settings) -> None:
    """Refuse settings out of their range.

    Raises:
        InputError: names the setting, its value and what is legal.
    """
    check_smoothing(settings.smoothing)
    if settings.bootstrap < 0:
        raise InputError(f"bootstrap={settings.bootstrap} must be a number of resamples >= 0")
    if settings.ties not in ("half", "davidson", "rao-kupper"):
        raise InputError(f"ties={settings.ties!r} is unknown; use half, davidson or rao-kupper")
    if settings.intervals not in ("bootstrap", "sandwich"):
        raise InputError(f"intervals={settings.intervals!r}; use bootstrap or sandwich")
