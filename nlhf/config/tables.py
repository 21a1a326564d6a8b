"""The config of algorithms on games, and what it describes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from bridge.config import Config, one_of
from nlhf.algorithms import ALGORITHMS, AbstractAlgorithm, get_algorithm
from nlhf.algorithms.base import Schedule
from nlhf.config.fields import Count, Kind, Positive, Seed, Share
from nlhf.config.methods import (
    idle_settings,
    method_config,
    method_settings,
    not_read,
    readers,
)
from nlhf.errors import InputError
from nlhf.games import GAMES
from nlhf.preferences.base import Preferences
from nlhf.preferences.battles import Battles
from nlhf.preferences.reading import read_games
from nlhf.schedules import schedule


def _algorithm(name: str) -> str:
    get_algorithm(name)
    return name


if TYPE_CHECKING:

    class MethodConfig(Config):
        """Settings of single algorithms."""

else:
    MethodConfig = method_config(ALGORITHMS, ("rate",))


class NashConfig(Config):
    """A run of one algorithm on the games of all contexts.

    `method` has what single algorithms have.

    Attributes:
        game: sound-quality, roshambo, a game with a known answer, or a CSV file of votes or
            probabilities.
        smoothing: pseudo-votes added to each side of every compared pair; 0 uses the raw
            frequencies.
        reference: probabilities of the reference policy, one per action; uniform if not set.
        algorithm: the method, or exact for the oracle.
        tau: weight of KL(policy, reference).
        tau_start: tau at the first step; it changes from there to `tau`. Constant if not set.
        tau_schedule: how tau changes from `tau_start` to `tau`.
        eta: step size; if not set, the theorem's 2 / (tau (t + 2)) for nash-md, nash-ema and
            self-play, and otherwise the default of the method.
        eta_end: step size at the end, if it is to change.
        eta_schedule: how the step size changes from `eta` to `eta_end`.
        mixture: weight of the reference in the opponent of nash-md; eta tau if not set.
        mixture_end: that weight at the end, if it is to change.
        mixture_schedule: how that weight changes from `mixture` to `mixture_end`.
        ema_rate: rate at which the moving average of nash-ema follows the policy, per step.
        iterations: number of steps of the method.
        votes: number of noisy votes per comparison, from which the method learns instead of the
            table; the table itself if not set.
        log_every: number of steps between rows of the log.
        dtype: precision of the method; the oracle and the certificates use float64.
        seed: seed of the votes.
    """

    length: ClassVar[str] = "iterations"

    game: str = "sound-quality"
    smoothing: Annotated[float, Field(ge=0)] = 0.0
    reference: tuple[Share, ...] | None = None
    algorithm: Annotated[str, one_of(ALGORITHMS), AfterValidator(_algorithm)] = "nash-md"
    tau: Positive = 0.1
    tau_start: Positive | None = None
    tau_schedule: Kind = "geometric"
    eta: Positive | None = None
    eta_end: Positive | None = None
    eta_schedule: Kind = "geometric"
    mixture: Share | None = None
    mixture_end: Share | None = None
    mixture_schedule: Kind = "linear"
    ema_rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    method: MethodConfig = MethodConfig()
    iterations: Count = 1000
    votes: Count | None = None
    log_every: Count = 10
    dtype: Literal["float32", "float64"] = "float64"
    seed: Seed = 0

    def courses(self, steps: int) -> Mapping[str, Schedule]:
        given = {
            "tau": (self.tau_start, self.tau),
            "eta": (self.eta, self.eta_end),
            "mixture": (self.mixture, self.mixture_end),
        }
        found = {}
        for name, (start, end) in given.items():
            way = getattr(self, f"{name}_schedule")
            if start is not None and end is not None and way != "constant":
                found[f"{name}_schedule={way}"] = schedule(way, start, end, steps)
        return found

    def idle(self) -> dict[str, str]:
        found = {}
        if self.tau_start is None:
            found["tau_schedule"] = "without tau_start; give it too"
        if self.algorithm in ALGORITHMS and not ALGORITHMS[self.algorithm].reads_tau:
            why = "where tau is that of the measures alone; give tau"
            found |= dict.fromkeys(("tau_start", "tau_schedule"), why)
        for name in ("eta", "mixture"):
            if getattr(self, f"{name}_end") is None:
                found[f"{name}_schedule"] = f"without {name}_end; give it too"
            if getattr(self, name) is None:
                found[f"{name}_end"] = f"without {name}, where it begins; give it too"
        if self.game in GAMES:
            found["smoothing"] = f"with game={self.game}, which has no votes; it is read with votes"
        users = readers(ALGORITHMS, "rate")
        if self.algorithm not in users:
            found["ema_rate"] = not_read(self.algorithm, users)
        return found | idle_settings(self.method, self.algorithm, ALGORITHMS)


def make_algorithm(config: NashConfig) -> AbstractAlgorithm:
    """The method, with those of the settings that it has.

    Raises:
        InputError: a setting that the method has not.
    """
    kind = get_algorithm(config.algorithm)
    known = {f.name for f in dataclasses.fields(kind)}
    if config.votes is not None and not kind.asks:
        raise InputError(
            f"votes={config.votes} has no effect on {config.algorithm}, which reads the whole "
            "table; leave it out"
        )
    settings: dict[str, object] = {**method_settings(config.method)}
    for name in ("eta", "mixture"):
        start, end = getattr(config, name), getattr(config, f"{name}_end")
        if start is None:
            continue
        if name not in known:
            raise InputError(f"{name}={start} has no meaning for {config.algorithm}; leave it out")
        settings[name] = start
        if end is not None:
            way = getattr(config, f"{name}_schedule")
            settings[name] = schedule(way, start, end, config.iterations)
    if "rate" in known:
        settings["rate"] = config.ema_rate
    return kind(**settings)


def read_preferences(config: NashConfig) -> tuple[Preferences, Battles | None]:
    """The games, and what they were made from; None for a built-in game.

    Raises:
        InputError: they cannot be read, or have no votes to smooth.
    """
    read = read_games(config.game)
    if isinstance(read, Preferences):
        return read, None
    if read.shares is not None and config.smoothing > 0:
        raise InputError(
            f"smoothing={config.smoothing:g} has no effect on {config.game}, which holds "
            f"{read.layout}; it is read with numbers of votes"
        )
    return read.preferences(config.smoothing), read


def make_reference(config: NashConfig, preferences: Preferences) -> Tensor:
    """The reference policies, uniform if none is given, as log-probabilities [C, K], float64.

    Actions that do not occur in a context have no probability there.

    Raises:
        InputError: not one probability an action, or they do not sum to 1.
    """
    k = len(preferences.actions)
    present = preferences.present.double()
    if config.reference is None:
        return (present / present.sum(-1, keepdim=True)).log()
    if len(config.reference) != k:
        raise InputError(f"reference has {len(config.reference)} probabilities for {k} actions")
    total = sum(config.reference)
    if abs(total - 1) > 1e-6:
        raise InputError(f"reference sums to {total:g}; it is no distribution unless that is 1")
    mu = torch.tensor(config.reference, dtype=torch.float64) * present
    if not bool((mu.sum(-1) > 0).all()):
        raise InputError("reference gives no probability to any action of some context")
    return (mu / mu.sum(-1, keepdim=True)).log()
