"""Settings of a ranking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nlhf.errors import InputError
from nlhf.preferences.battles import check_smoothing
from nlhf.ranking.bradley_terry import Ties


@dataclass(frozen=True)
class Settings:
    """Settings of a ranking.

    Attributes:
        bootstrap: number of resamples; with none there are no intervals and no decisions.
        ties: "half" (half a win for each), "davidson" or "rao-kupper".
        smoothing: pseudo-votes for each side of every compared pair.
        intervals: intervals of scores by the "bootstrap" or the "sandwich".
        elo: whether to compute Elo ratings too.
        seed: seed of the resamples.
    """

    bootstrap: int = 1000
    ties: Ties = "half"
    smoothing: float = 0.0
    intervals: Literal["bootstrap", "sandwich"] = "bootstrap"
    elo: bool = False
    seed: int = 0


def check(settings: Settings) -> None:
    """Raise if a setting is out of range.

    Raises:
        InputError: names the setting, its value and the legal values.
    """
    check_smoothing(settings.smoothing)
    if settings.bootstrap < 0:
        raise InputError(f"bootstrap={settings.bootstrap} must be a number of resamples >= 0")
    if settings.ties not in ("half", "davidson", "rao-kupper"):
        raise InputError(f"ties={settings.ties!r} is unknown; use half, davidson or rao-kupper")
    if settings.intervals not in ("bootstrap", "sandwich"):
        raise InputError(f"intervals={settings.intervals!r}; use bootstrap or sandwich")
    if settings.intervals == "sandwich" and not settings.bootstrap:
        raise InputError(
            "intervals='sandwich' has no effect with bootstrap=0, which leaves out all intervals; "
            "it is read with bootstrap of 1 or more"
        )
