"""Self-play: the opponent is the policy itself."""

from __future__ import annotations

from torch import Tensor

from bioplaus.training.objective import Pupil
from bioplaus_votes.objectives.base import AbstractVoting
from bioplaus_votes.objectives.view import View


class SelfPlay(AbstractVoting):
    """The opponent is pi, held fixed.

    Source: Munos et al. 2023 (arXiv 2312.00886), section 7 (mixture weight 0).
    """

    name = "self-play"

    def opponent(self, run: Pupil, view: View) -> Tensor:
        return view.log_pi
