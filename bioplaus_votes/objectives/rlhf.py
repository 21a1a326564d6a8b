"""RLHF on a Bradley-Terry reward, for comparison: not an equilibrium where preferences cycle."""

from __future__ import annotations

import torch
from torch import Tensor

from bioplaus.training.objective import Pupil
from bioplaus_votes import rules
from bioplaus_votes.judges import Stream
from bioplaus_votes.objectives.base import AbstractVoting
from bioplaus_votes.objectives.view import View
from bridge.errors import InputError
from bridge.seeding import generator
from nlhf.preferences.battles import frequencies
from nlhf.preferences.bradley_terry import fit_bradley_terry

SMOOTHING = 0.5
"""Pseudo-votes per side of a compared pair, to keep rewards finite."""


class RLHF(AbstractVoting):
    """a_y = sigmoid(r_y) - tau log pi_y / mu_y, with the rewards r that best fit the preferences.

    Without votes, r is fitted to the judge's table. With votes, `votes` per training row are cast
    before the run on uniformly drawn pairs, and r is fitted to their tallies.

    Source: Munos et al. 2023 (arXiv 2312.00886), section 2; Bradley and Terry 1952.
    """

    name = "rlhf"

    def begin(self, run: Pupil) -> None:
        super().begin(run)
        judge = self.judge
        if not judge.by_context and (self.votes or not judge.has_table):
            raise InputError(
                f"rlhf fits a reward to the votes of each context, and judge {judge.name} has no "
                "contexts but inputs; give --votes 0"
            )
        self._rewards: Tensor | None = None
        if judge.by_context:
            self._rewards = fit_bradley_terry(*self._shares(run)).to(run.field.dtype)

    def _shares(self, run: Pupil) -> tuple[Tensor, Tensor | None]:
        """The win shares of all contexts [C, K, K], and the number of comparisons of each pair."""
        k, c, x = run.field.n_output, len(self.judge.contexts), run.dataset.train.inputs
        if self.stream is None and not self.votes:
            return self.judge.table(torch.arange(c), x[:1].double().cpu()), None
        votes = self.stream or self._drawn(run)
        wins = torch.zeros(c, k, k, dtype=torch.float64)
        at = (votes.context, votes.first, votes.second)
        wins.index_put_(at, votes.bit.double(), accumulate=True)
        at = (votes.context, votes.second, votes.first)
        wins.index_put_(at, 1 - votes.bit.double(), accumulate=True)
        self.cast = len(votes)
        return frequencies(wins.numpy(), SMOOTHING), wins + wins.mT

    def _drawn(self, run: Pupil) -> Stream:
        """Votes on uniformly drawn pairs of different answers, `votes` for each training row."""
        luck = generator(run.config.seed, "reward-votes")
        train, k = run.dataset.train, run.field.n_output
        first = torch.randint(k, (len(train), self.votes), generator=luck)
        second = (first + torch.randint(1, k, first.shape, generator=luck)) % k
        context = train.targets.cpu()
        bits = self.judge.vote(context, train.inputs.cpu(), first, second, luck)
        rows = context[:, None].expand_as(first)
        flat = (each.flatten() for each in (rows, first, second, bits))
        return Stream(*flat, share=torch.ones(0))

    def direction(self, run: Pupil, view: View) -> tuple[Tensor, dict[str, Tensor]]:
        P = self.judge.table(view.context, view.x) if self.judge.has_table else None
        wins = view.log_pi.new_tensor(torch.nan)
        return self.exact_direction(run, view), self.measures_of(view, P, wins)

    def exact_direction(self, run: Pupil, view: View) -> Tensor:
        if self._rewards is None:
            r = fit_bradley_terry(self.judge.table(view.context, view.x))
        else:
            r = self._rewards.to(view.context.device)[view.context]
        a = rules.rewards_as_values(r) - view.tau * rules.log_ratio(view.log_pi, view.log_mu)
        return self.shaped(rules.of_values(view.log_pi, a), view)

    def opponent(self, run: Pupil, view: View) -> Tensor:
        return view.log_mu
