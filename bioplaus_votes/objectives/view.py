"""What the learning rule sees of a batch, and the summary of a run."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bioplaus.solvers import Solution


@dataclass(frozen=True)
class View:
    """What the learning rule sees of some rows.

    Attributes:
        x: inputs.
        context: indices of the contexts, [B].
        rows: indices in the training set, [B].
        free: the free phase.
        log_pi: log-probabilities under the policy, [B, K].
        log_mu: log-probabilities under the reference, [B, K].
        tau: weight of the KL to the reference at this update.
    """

    x: Tensor
    context: Tensor
    rows: Tensor
    free: Solution
    log_pi: Tensor
    log_mu: Tensor
    tau: float


@dataclass(frozen=True)
class Summary:
    """The result of a run: means over the test contexts; NaN where the judge has no table."""

    exploitability: float
    equilibrium_exploitability: float
    rlhf_exploitability: float
    uniform_exploitability: float
    regularised_gap: float
    kl_to_equilibrium: float
    gradient_cosine: float
    epochs: int
