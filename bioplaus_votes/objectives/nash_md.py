"""Nash-MD: the opponent is a geometric mixture of the policy and the reference."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bioplaus.training.objective import Pupil
from bioplaus_votes.objectives.base import AbstractVoting
from bioplaus_votes.objectives.view import View
from bridge.errors import InputError
from nlhf.mixture import geometric_mixture


class NashMD(AbstractVoting):
    """mix ~ pi^(1-b) mu^b.

    As b -> 0 its fixed point becomes the equilibrium of the regularised game, which it is for
    self-play (b = 0). b > 0 damps the rotation of self-play.

    Source: Munos et al. 2023 (arXiv 2312.00886), section 7.
    """

    name = "nash-md"

    def __init__(self, judge: Any, *, mixture: float = 0.1, **settings: Any) -> None:
        """Take b in [0, 1]; for `settings` see `AbstractVoting`."""
        super().__init__(judge, **settings)
        if not 0 <= mixture <= 1:
            raise InputError(f"mixture={mixture} must lie in [0, 1]")
        self.mixture = mixture

    @property
    def settings(self) -> dict[str, Any]:
        return {**super().settings, "mixture": self.mixture}

    def opponent(self, run: Pupil, view: View) -> Tensor:
        return geometric_mixture(view.log_pi, view.log_mu, self.mixture)
