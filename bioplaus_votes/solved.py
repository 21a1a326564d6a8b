"""Oracle solutions of the games on which a network is tested."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus_votes.judges import AbstractJudge
from bioplaus_votes.rules import rewards_as_values
from nlhf.oracle import solve_equilibrium
from nlhf.outcome import SUPPORT
from nlhf.preferences.bradley_terry import fit_bradley_terry
from nlhf.regularised_game import (
    certificate_with_rounding,
    duality_gap,
    kl,
    winning,
)


def exploitability(P: Tensor, log_pi: Tensor, log_mu: Tensor) -> Tensor:
    """max_y P(y > pi) - 1/2 over the answers that the reference plays, [...].

    The gain of the best answer against pi, without regularisation: half of NashConv.
    """
    return winning(P, log_pi).masked_fill(~torch.isfinite(log_mu), 0.0).amax(-1) - 0.5


@dataclass(frozen=True)
class Solved:
    """Games with their equilibria, in float64.

    Attributes:
        P: [G, K, K].
        log_mu: the references, [G, K].
        tau: weight of the KL.
        log_star: log-probabilities of the regularised equilibria, [G, K].
        certificate: upper bounds on KL(star || equilibrium), rounding included, [G].
        log_rlhf: log of mu exp(sigmoid(r) / tau), with the Bradley-Terry rewards r that best fit P,
            [G, K].
    """

    P: Tensor
    log_mu: Tensor
    tau: float
    log_star: Tensor
    certificate: Tensor
    log_rlhf: Tensor

    def exploitability(self, log_pi: Tensor, game: Tensor) -> Tensor:
        """The exploitability of policies [B, K] in games [B]; see `exploitability`."""
        return exploitability(self.P[game], log_pi, self.log_mu[game])

    @property
    def bounds(self) -> dict[str, Tensor]:
        """The exploitability of the equilibrium, of RLHF and of the uniform policy, each [G]."""
        played = torch.isfinite(self.log_mu)
        uniform = (played.double() / played.sum(-1, keepdim=True)).log()
        policies = {"equilibrium": self.log_star, "rlhf": self.log_rlhf, "uniform": uniform}
        return {k: exploitability(self.P, v, self.log_mu) for k, v in policies.items()}

    def measured(self, log_pi: Tensor, game: Tensor) -> dict[str, Tensor]:
        """Measures of policies [B, K] in games [B], each [B].

        exploitability; regularised_gap, the duality gap of the regularised game; kl_to_equilibrium,
        KL(pi || pi*); support_mass, the probability of the actions that the equilibrium plays.
        """
        P, log_mu, star = self.P[game], self.log_mu[game], self.log_star[game]
        return {
            "exploitability": exploitability(P, log_pi, log_mu),
            "regularised_gap": duality_gap.unchecked(P, log_pi, log_mu, self.tau),
            "kl_to_equilibrium": kl.unchecked(log_pi, star),
            "support_mass": (log_pi.exp() * (star.exp() >= SUPPORT)).sum(-1),
        }


def solve_games(P: Tensor, log_mu: Tensor, tau: float) -> Solved:
    """Solve games [G, K, K] with references [G, K]."""
    P, log_mu = P.double(), log_mu.double()
    taus = torch.full(P.shape[:1], tau, dtype=P.dtype)
    star = solve_equilibrium(P, log_mu, taus, throw=False)
    rewards = rewards_as_values(fit_bradley_terry(P))
    return Solved(
        P,
        log_mu,
        tau,
        star,
        certificate_with_rounding(P, star, log_mu, taus),
        torch.log_softmax(log_mu + rewards / tau, -1),
    )


def games_of(judge: AbstractJudge, context: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The games [G, K, K] that judge some inputs, and the index of each input's game [B]."""
    if not judge.by_context:
        P = judge.table(context, x.double())
        return P, torch.arange(len(x))
    numbers = torch.arange(max(len(judge.contexts), 1))
    return judge.table(numbers, x[:1].double()), context.cpu()
