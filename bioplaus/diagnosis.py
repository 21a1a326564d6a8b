"""What is wrong with phases that do not settle, and what was found to settle them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from bioplaus.config import EqpropConfig, make_field
from bioplaus.costs import AbstractCost
from bioplaus.estimators import AbstractEstimator
from bioplaus.fields import LeakyField
from bioplaus.fields.base import VectorField
from bioplaus.phases import Settling, free_phase
from bioplaus.solvers import Status

MORE_STEPS = 20
"""How many times the step limit is tried as a cure."""

WEAKER = (0.5, 0.2, 0.1)
"""Shares of a gain that are tried as a cure."""

ENOUGH = 0.9
"""The share of a batch's rows that a cure has to settle."""


@torch.no_grad()
def stability(field: VectorField, x: Tensor, settling: Settling) -> float:
    """The largest real part of the Jacobian's eigenvalues over the free points that converge.

    Negative where all of them attract; NaN where none converges. See `solvers.stability`.
    """
    free = free_phase(field, x, settling=dataclasses.replace(settling, verify=True))
    assert free.abscissa is not None
    known = free.abscissa[~free.abscissa.isnan()]
    return float(known.max()) if len(known) else float("nan")


def explain(step: int, patience: int, residual: float, status: Status, cure: str) -> str:
    """Why a run ended of which no row settled any more.

    Args:
        step: at which it ended.
        patience: steps for which that was so.
        residual: the largest of the last step, which says nothing where the state ran off.
        status: the worst of the last step.
        cure: what `find_cure` found.
    """
    how = "" if status >= Status.DIVERGED else f" (largest residual {residual:.2g})"
    return (
        f"the network diverged: for {patience} steps up to step {step} no row settled to within "
        f"the gate{how}; {status.message}; {cure}"
    )


@torch.no_grad()
def find_cure(
    config: EqpropConfig,
    field: LeakyField,
    estimator: AbstractEstimator,
    x: Tensor,
    target: Tensor,
    cost: AbstractCost,
) -> str:
    """Try what may make a batch settle again, and say what did.

    Args:
        config: of the run.
        field: the network as it is now.
        estimator: of the run.
        x, target, cost: a batch on which nothing settles, and its cost.

    Returns:
        The end of a sentence: the setting that was found to help and how many rows it settles.
    """

    def settled(network: LeakyField, steps: int) -> int:
        limits = {"free_steps": estimator.settling.free_steps * steps}
        limits["nudged_steps"] = estimator.settling.nudged_steps * steps
        patient = dataclasses.replace(estimator.settling, **limits)
        trial = dataclasses.replace(estimator, settling=patient)
        return int(trial(network, x, target, cost).accepted.sum())

    for network, steps, what in _candidates(config, field, estimator.settling):
        if (rows := settled(network, steps)) >= ENOUGH * len(x):
            return f"{what} settles {rows} of {len(x)} rows of this batch"
    return "neither more steps nor weaker feedback or weights were found to settle it"


def _candidates(
    config: EqpropConfig, field: LeakyField, settling: Settling
) -> Iterator[tuple[LeakyField, int, str]]:
    """Networks, how many times the step limit they get, and the setting to be named."""

    def fresh(**network: float) -> LeakyField:
        changed = config.network.model_copy(update=network)
        drawn = make_field(config.model_copy(update={"network": changed}), field.sizes)
        return drawn.to(field.device)

    free, nudged = (MORE_STEPS * n for n in (settling.free_steps, settling.nudged_steps))
    more = f"--set phases.free_steps={free} --set phases.nudged_steps={nudged}"
    if all(bool(torch.isfinite(p).all()) for p in field.parameters.values()):
        yield field, MORE_STEPS, more
    rate = config.optimizer.learning_rate / 10
    slower = f"the network as it was drawn (so --set optimizer.learning_rate={rate:g} may help)"
    yield fresh(), 1, slower
    yield fresh(), MORE_STEPS, more
    settings = config.network
    for share in WEAKER if not settings.tied else ():
        gain = share * settings.feedback_gain
        yield fresh(feedback_gain=gain), 1, f"--set network.feedback_gain={gain:g}"
    for share in WEAKER:
        gain = share * settings.gain
        yield fresh(gain=gain), 1, f"--set network.gain={gain:g}"
