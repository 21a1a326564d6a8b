"""Extragradient: the opponent is the policy after a look-ahead step."""

from __future__ import annotations

import torch
from torch import Tensor

from bioplaus.phases import free_phase
from bioplaus.training.objective import Pupil
from bioplaus_votes.measuring import nudged
from bioplaus_votes.objectives.base import AbstractVoting
from bioplaus_votes.objectives.view import View
from bioplaus_votes.rules import log_policy


class Extragradient(AbstractVoting):
    """theta' = step(theta; opponent pi_theta), then theta <- step(theta; opponent pi_theta').

    Both steps start from theta and use the same optimizer; the first is undone. Both ask for votes.

    Source: Zhou et al. 2025 (arXiv 2503.08942), algorithm 1.
    """

    name = "extragradient"
    _looking_ahead = False

    def opponent(self, run: Pupil, view: View) -> Tensor:
        if self._looking_ahead:
            return view.log_pi
        # gradient checks call this on rows outside of any step
        return self._ahead(run, view)

    def _ahead(self, run: Pupil, view: View) -> Tensor:
        """Log-probabilities of the answers after a step against the policy itself, [B, K]."""
        self._looking_ahead = True
        try:
            g, _ = self.direction(run, view)
        finally:
            self._looking_ahead = False
        field, optimizer = run.field, run.optimizer
        updates = nudged(run, view.x, g, free=view.free).updates
        before = {name: p.clone() for name, p in field.parameters.items()}
        state = optimizer.state_dict()
        buffers = {name: torch.clone(v) for name, v in state["buffers"].items()}
        optimizer.step(updates)
        field.constrain()
        free = free_phase(field, view.x, settling=run.estimator.settling)
        found = log_policy(free.s[:, field.output], view.log_mu)
        for name, p in field.parameters.items():
            p.copy_(before[name])
        optimizer.load_state_dict({"steps": state["steps"], "buffers": buffers})
        return found
