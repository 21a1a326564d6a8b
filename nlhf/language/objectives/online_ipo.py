"""Online IPO and IPO-MD: squared loss on pairs of answers from the mixture."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nlhf.language.objectives.base import (
    MIXTURE,
    Draw,
    Objective,
    Plan,
    Sampled,
    Schedule,
    pair_regression,
)


def ipo_loss(sampled: Sampled, preference: Tensor, tau: float) -> Tensor:
    """tau/4 times the mean over pairs of (h(y) - h(y') - (P(y > y') - 1/2) / tau)^2.

    h = sum_t log(pi/mu)(y_t | y_<t). With y, y' ~ pi the expected gradient equals the policy
    gradient of self-play, thanks to the factor tau/4. With y, y' from a mixture this is IPO-MD.

    Args:
        sampled: n >= 2 answers per prompt, drawn independently.
        preference: P(y_i > y_j), [B, n, n]; the diagonal is ignored.
        tau: > 0.

    Source: Calandriello et al. 2024 (arXiv 2403.08635), sections 4 and 5.
    """
    return pair_regression(sampled.total(sampled.log_pi - sampled.log_mu), preference, 1 / tau)


@dataclass(frozen=True, kw_only=True)
class OnlineIPO(Objective):
    """All pairs of `samples` answers from the mixture with the reference; see `ipo_loss`.

    Attributes:
        mixture: the reference's weight by step, in [0, 1]; 0 is online IPO.

    Source: Calandriello et al. 2024 (arXiv 2403.08635), sections 4 and 5.
    """

    name = "online-ipo"
    reads_cuts = True
    mixture: Schedule

    def __post_init__(self) -> None:
        super().__post_init__()
        self.needs(2, self.name)

    def plan(self, step: int) -> Plan:
        return Plan((Draw(self.samples, MIXTURE, self.mixture(step)),), asks="pairs")

    def loss(self, sampled: Sampled, step: int) -> Tensor:
        assert sampled.preference is not None
        return ipo_loss(sampled, sampled.preference, self.tau(step))
