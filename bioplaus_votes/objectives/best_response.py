"""The best response to the reference, for comparison: not an equilibrium."""

from __future__ import annotations

from torch import Tensor

from bioplaus.training.objective import Pupil
from bioplaus_votes.objectives.base import AbstractVoting
from bioplaus_votes.objectives.view import View


class BestResponse(AbstractVoting):
    """The opponent is mu.

    Source: Munos et al. 2023 (arXiv 2312.00886), appendix F.3 (mixture weight 1).
    """

    name = "best-response"

    def opponent(self, run: Pupil, view: View) -> Tensor:
        return view.log_mu
