"""What the rule sees of a batch, and what a run ends with."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bioplaus.solvers import Solution


@dataclass(frozen=True)
class View:
    """What the rule sees of some rows.

    Attributes:
        x: inputs.
        context: numbers of the contexts, [B].
        rows: of the training set, [B].
        free: the free phase.
        log_pi: the policy, [B, K].
        log_mu: the reference, [B, K].
    """

    x: Tensor
    context: Tensor
    rows: Tensor
    free: Solution
    log_pi: Tensor
    log_mu: Tensor


@dataclass(frozen=True)
class Summary:
    """The end of a run: means over the test contexts; NaN where the judge has no table."""

    exploitability: float
    equilibrium_exploitability: float
    rlhf_exploitability: float
    uniform_exploitability: float
    regularised_gap: float
    kl_to_equilibrium: float
    gradient_cosine: float
    epochs: int
