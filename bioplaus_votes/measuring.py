"""Measures of a network that learns from votes."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from bioplaus.costs import AbstractCost, GivenSlope
from bioplaus.data import batches
from bioplaus.errors import InputError
from bioplaus.estimators import AbstractEstimator, Estimate, Unrolled
from bioplaus.fields import VectorField
from bioplaus.phases import Settling, free_phase
from bioplaus.solvers import Solution
from bioplaus.training.objective import Pupil
from bioplaus_votes.rules import log_policy
from bioplaus_votes.solved import Solved


def nudged(run: Pupil, x: Tensor, g: Tensor, *, free: Solution | None = None) -> Estimate:
    """The estimator's update along the directions g [B, K] of the outputs.

    The phases are nudged by g divided by its largest norm in the batch, and the update is
    multiplied by that norm. So the nudge, and the relative size of its residual, are the same near
    the equilibrium, where g vanishes, as elsewhere.

    Args:
        run: the run with the field and estimator.
        x: inputs, one per row.
        g: the directions, [B, K].
        free: the free phase, if already known.
    """
    size = torch.linalg.vector_norm(g, dim=1).amax()
    scale = torch.where((size > 0) & torch.isfinite(size), size, 1.0)
    found = run.estimator(run.field, x, -g / scale, GivenSlope(), free=free)
    return dataclasses.replace(found, updates={k: u.mul_(scale) for k, u in found.updates.items()})


def policy_of(field: VectorField, x: Tensor, log_mu: Tensor, settling: Settling) -> Tensor:
    """log pi for some inputs, [B, K]."""
    free = free_phase(field, x, settling=settling)
    return log_policy(free.s[:, field.output], log_mu)


@torch.no_grad()
def measure_games(run: Pupil, solved: Solved, game: Tensor, log_mu: Tensor) -> dict[str, float]:
    """The means of `Solved.measured` over the test inputs.

    Args:
        run: the run with the field and data.
        solved: the games.
        game: the game of each test input.
        log_mu: the references, [1, K] or one per context.
    """
    log_pi = policies_of_tests(run, log_mu)
    return {name: float(value.mean()) for name, value in solved.measured(log_pi, game).items()}


@torch.no_grad()
def policies_of_tests(run: Pupil, log_mu: Tensor) -> Tensor:
    """log pi for every test input, [N, K], float64."""
    shown, found = run.dataset.shown, []
    for rows in batches(len(shown), run.config.evaluation_batch):
        rows = rows.to(shown.inputs.device)
        mu = log_mu[shown.targets[rows]] if len(log_mu) > 1 else log_mu
        log_pi = policy_of(run.field, shown.inputs[rows], mu, run.estimator.settling)
        found.append(torch.log_softmax(log_pi.double(), -1).cpu())
    return torch.cat(found)


@torch.no_grad()
def gradient_cosine(run: Pupil, x: Tensor, slope: Tensor, cost: AbstractCost) -> float:
    """The cosine between the estimator's update and autograd's, over all parameters.

    Autograd differentiates through the relaxation of the same network in float64, with its slope at
    the outputs fixed. NaN where an update is zero, or where the estimator uses another simulator.
    """
    try:
        mine = nudged(run, x, -slope).updates
        truth = autograd_update(run.field, x, slope, cost)
    except InputError:
        return math.nan
    return cosine(mine, truth)


def autograd_update(
    field: VectorField,
    x: Tensor,
    slope: Tensor,
    cost: AbstractCost,
    settling: Settling | None = None,
) -> dict[str, Tensor]:
    """-dJ/dtheta by autograd through the relaxation, in float64."""
    tight = settling or Settling(tolerance=1e-10, free_steps=1000, verify=False)
    oracle: AbstractEstimator = Unrolled(settling=tight)
    return dict(oracle(field.precise(), x.double(), slope.double(), cost).updates)


def cosine(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The cosine between two updates, over all parameters."""
    u, v = (torch.cat([t[k].double().flatten() for k in b]) for t in (a, b))
    size = float(u.norm() * v.norm())
    return float(u @ v) / size if size > 0 else math.nan


def relative_error(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """||a - b|| / ||b|| over all parameters."""
    u, v = (torch.cat([t[k].double().flatten() for k in b]) for t in (a, b))
    return float((u - v).norm() / v.norm())
