"""Nash-MD on texts: a writing network learns from votes on whole texts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bioplaus.costs import AbstractCost
from bioplaus.data import Dataset
from bioplaus.data.examples import Examples
from bioplaus.fields import VectorField
from bioplaus.measuring import fetch_measures
from bioplaus.sharding import Step
from bioplaus.solvers import Solution
from bioplaus.training import AbstractObjective
from bioplaus.training.objective import Pupil
from bioplaus_votes import rules
from bioplaus_votes.languages.game import LanguageGame, SolvedLanguage
from bioplaus_votes.languages.writer import (
    Sight,
    conditionals,
    joined,
    prefixes,
    sequence_mixture,
    token_mixture,
    write,
)
from bioplaus_votes.measuring import gradient_cosine, nudged
from bridge.errors import InputError
from bridge.seeding import generator
from nlhf.regularised_game import kl

LEVELS = ("token", "sequence")
MOST_PREFIXES = 6000
"""Largest number of prefixes for which exact directions are computed."""


@dataclass(frozen=True)
class Summary:
    """The result of a run."""

    exploitability: float
    equilibrium_exploitability: float
    regularised_gap: float
    kl_to_equilibrium: float
    gradient_cosine: float
    epochs: int


class LanguageNash(AbstractObjective):
    """Nash-MD-PG on a language of texts y = y_1 ... y_L, with the tokens so far as input.

    With votes: y ~ pi, y' ~ the token-level mixture, bit = y preferred. Token n's direction is
    (onehot(y_n) - pi_n) (bit - 1/2 - tau sum_{m > n} log pi_m / mu_m) minus the gradient of its own
    tau KL, summed over tokens. Exact, over all texts: for prefix p and token v the direction is
    sum_{y = p v ...} pi(y) a(y) - pi(v | p) sum_{y = p ...} pi(y) a(y), with a as in `rules.exact`.

    Source: Munos et al. 2023 (arXiv 2312.00886), section 7.
    """

    name = "language-nash-md"
    step_measures = ("win_rate", "entropy")
    epoch_measures = (
        "exploitability",
        "regularised_gap",
        "kl_to_equilibrium",
        "mixture_kl",
        "gradient_cosine",
        "votes",
    )

    def __init__(
        self,
        game: LanguageGame,
        *,
        tau: float = 0.05,
        mixture: float = 0.25,
        level: str = "token",
        votes: int = 1,
        window: int | None = None,
    ) -> None:
        """Take the language and the settings.

        Args:
            game: the language whose texts are compared.
            tau: weight of the KL to the uniform reference, > 0.
            mixture: b in [0, 1].
            level: level of the opponent's mixture: "token", which can be sampled, or "sequence",
                which needs exact directions.
            votes: votes per text, each against a different text of the opponent; 0 uses exact
                directions.
            window: number of tokens that are seen; None means all so far.

        Raises:
            InputError: a value is out of range.
        """
        if not (math.isfinite(tau) and tau > 0):
            raise InputError(f"tau={tau!r} must be a number > 0")
        if not 0 <= mixture <= 1:
            raise InputError(f"mixture={mixture} must lie in [0, 1]")
        if level not in LEVELS:
            raise InputError(f"level={level!r}: use one of {', '.join(LEVELS)}")
        if isinstance(votes, bool) or not isinstance(votes, int) or votes < 0:
            raise InputError(f"votes={votes!r} must be a whole number >= 0; 0 is exact")
        if level == "sequence" and votes:
            raise InputError("level=sequence cannot be sampled token by token; give votes=0")
        count = sum(game.V**n for n in range(game.L))
        if not votes and count > MOST_PREFIXES:
            raise InputError(
                f"votes=0 settles all {count} beginnings an update, and {MOST_PREFIXES} is the "
                "limit; give votes=1 or more"
            )
        self.game, self.tau, self.mixture = game, tau, mixture
        self.level, self.votes = level, votes
        self.sight = Sight(game.V, game.L, window or max(game.L - 1, 1))
        self.cast = 0

    def dataset(self, texts: int = 2000) -> Dataset:
        """The data set for `fit`: one row for each text written in an epoch."""
        x = torch.zeros(1, self.sight.size)
        shown = Examples(x, torch.zeros(1, dtype=torch.long))
        written = Examples(x.expand(texts, -1), torch.zeros(texts, dtype=torch.long))
        name = f"{self.game.name} V={self.game.V} L={self.game.L}"
        return Dataset(name, written, shown, (self.sight.size,), 1, "")

    @property
    def settings(self) -> Mapping[str, Any]:
        game = self.game
        own = {"tau": self.tau, "mixture": self.mixture, "level": self.level, "votes": self.votes}
        return {"name": self.name, "judge": game.name, "V": game.V, "L": game.L, **own}

    def check(self, field: VectorField, dataset: Dataset) -> None:
        if field.n_output != self.game.V:
            raise InputError(
                f"the language has {self.game.V} tokens, but the field has n_output="
                f"{field.n_output}; make a field of {self.game.V} outputs"
            )
        if dataset.input_size != self.sight.size:
            raise InputError(
                f"data has {dataset.input_size} inputs, and tokens are seen as {self.sight.size}; "
                "give objective.dataset()"
            )

    def begin(self, run: Pupil) -> None:
        self._luck = generator(run.config.seed, "votes", run.field.device)
        self.cast, self.value = 0, 0.0
        self.solved: SolvedLanguage = self.game.solve(self.tau)

    def estimate(self, run: Pupil, rows: Tensor) -> Step:
        if not self.votes:
            return self._exact(run)
        x, g, free, own = self._voted(run, len(rows))
        run.more.last_inputs = x
        estimate = nudged(run, x, g, free=free)
        for update in estimate.updates.values():
            update.mul_(self.game.L)  # from a mean over texts to a sum over their tokens
        return Step(estimate.updates, fetch_measures(estimate, own))

    def _exact(self, run: Pupil) -> Step:
        log_next = conditionals(run.field, self.sight, self.game, run.estimator.settling)
        x, g = self._inputs(run), self._directions(log_next).to(run.field.dtype)
        run.more.last_inputs = x
        estimate = nudged(run, x, g)
        for update in estimate.updates.values():
            update.mul_(len(x))  # from a mean to a sum over prefixes, whose weights are in g
        pi = joined(log_next).exp()
        gain = (self.game.P @ self.game.of_kinds(self._opponent(log_next).exp()))[self.game.kind]
        own = {"win_rate": (pi * gain).sum(), "entropy": -(pi * pi.clamp_min(1e-300).log()).sum()}
        own = {name: value.to(run.field.dtype) for name, value in own.items()}
        return Step(estimate.updates, fetch_measures(estimate, own))

    def _inputs(self, run: Pupil) -> Tensor:
        sees = [self.sight(prefixes(self.game, n), run.field.dtype) for n in range(self.game.L)]
        return torch.cat(sees).to(run.field.device)

    def _opponent(self, log_next: list[Tensor]) -> Tensor:
        mix = token_mixture if self.level == "token" else sequence_mixture
        return mix(log_next, self.mixture)

    def _directions(self, log_next: list[Tensor]) -> Tensor:
        """g of every prefix, [prefixes, V], float64."""
        game, log_pi = self.game, joined(log_next)
        gain = (game.P @ game.of_kinds(self._opponent(log_next).exp()))[game.kind]
        a = gain - self.tau * (log_pi + math.log(len(log_pi)))
        flow = log_pi.exp() * (a - (log_pi.exp() * a).sum())
        found = []
        for n in reversed(range(game.L)):
            by_token = flow.view(game.V**n, game.V, -1).sum(-1)
            whole = by_token.sum(-1, keepdim=True)
            found.append(by_token - log_next[n].exp() * whole)
        return torch.cat(found[::-1])

    def _voted(self, run: Pupil, texts: int) -> tuple[Tensor, Tensor, Solution, dict[str, Tensor]]:
        """Inputs, directions and free phases of all tokens written, and the step's measures."""
        field, settling, luck = run.field, run.estimator.settling, self._luck
        tokens, inputs, phases = write(field, self.sight, texts, settling, luck)
        mine, wins = self.game.number(tokens), torch.zeros(texts, dtype=torch.float64)
        for _ in range(self.votes):
            others, *_ = write(field, self.sight, texts, settling, luck, self.mixture)
            wins += self.game.vote(mine, self.game.number(others), luck).cpu() / self.votes
        self.cast += texts * self.votes
        z = torch.stack([phase.s[:, field.output] for phase in phases], 1)
        log_pi = torch.log_softmax(z, -1)
        ratio = log_pi + math.log(self.game.V)
        taken = ratio.gather(-1, tokens[..., None])[..., 0]
        later = taken.flip(1).cumsum(1).flip(1) - taken
        signal = (wins.to(z) - 0.5)[:, None] - self.tau * later
        before, self.value = self.value, 0.95 * self.value + 0.05 * float(signal.mean())
        onehot = torch.nn.functional.one_hot(tokens, self.game.V).to(z)
        g = (onehot - log_pi.exp()) * (signal - before)[..., None]
        g = g + rules.of_values(log_pi, -self.tau * ratio)
        spread = -taken.sum(1).mean() + self.game.L * math.log(self.game.V)
        own = {"win_rate": wins.mean().to(z), "entropy": spread}
        # the texts of one token position are adjacent: [L, B]
        return torch.cat(inputs), g.transpose(0, 1).flatten(0, 1), _together(phases), own

    def example(self, run: Pupil, rows: Tensor) -> tuple[Tensor, Tensor, AbstractCost]:
        before, value, cast = self._luck.get_state(), self.value, self.cast
        x, g, _, _ = self._voted(run, max(len(rows) // self.game.L, 1))
        self._luck.set_state(before)
        self.value, self.cast = value, cast
        return x, -g, self.cost

    def measured(self, run: Pupil) -> dict[str, float]:
        log_next = conditionals(run.field, self.sight, self.game, run.estimator.settling)
        rows = torch.arange(run.config.check_rows)
        token, whole = (mix(log_next, self.mixture) for mix in (token_mixture, sequence_mixture))
        return {
            **self.solved.measured(joined(log_next)),
            "mixture_kl": float(kl.unchecked(token, whole)),
            "gradient_cosine": gradient_cosine(run, *self.example(run, rows)),
            "votes": float(self.cast),
        }

    def summary(self, last: Mapping[str, float], **common: Any) -> Summary:
        names = ("exploitability", "regularised_gap", "kl_to_equilibrium", "gradient_cosine")
        return Summary(
            **{name: last[name] for name in names},
            equilibrium_exploitability=self.solved.bound,
            epochs=common["epochs"],
        )

    def generators(self) -> dict[str, torch.Generator]:
        return {"votes": self._luck}

    def state_dict(self) -> dict[str, Any]:
        return {"cast": self.cast, "value": self.value}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.cast, self.value = int(state["cast"]), float(state["value"])


def _together(phases: list[Solution]) -> Solution:
    """Merge several free phases into one."""
    parts = ("s", "residual", "status", "n_steps")
    return Solution(*(torch.cat([getattr(phase, name) for phase in phases]) for name in parts))
