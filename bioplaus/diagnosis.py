"""What is wrong with phases that do not settle, and what was found to settle them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from bioplaus.config import EqpropConfig, LoopConfig, Task
from bioplaus.costs import AbstractCost
from bioplaus.estimators import AbstractEstimator
from bioplaus.fields import VectorField
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


def weaker_feedback(config: LoopConfig) -> str:
    """What to make weaker in a network that is not stable, with its setting where it has one."""
    network = getattr(config, "network", None)
    gain, what = getattr(network, "feedback_gain", None), "feedback"
    if gain is None or getattr(network, "tied", False):
        gain, what = getattr(network, "gain", None), "weights"
    if gain is None:
        return what
    key = "gain" if what == "weights" else "feedback_gain"
    return f"{what}, e.g. {config.said({f'network.{key}': 0.5 * gain})}"


@torch.no_grad()
def find_cure(
    config: LoopConfig,
    task: Task | None,
    field: VectorField,
    estimator: AbstractEstimator,
    x: Tensor,
    target: Tensor,
    cost: AbstractCost,
) -> str:
    """Try what may make a batch settle again, and say what did.

    Args:
        config: of the run.
        task: what its network is drawn for; None where the config does not say how it is drawn.
        field: the network as it is now.
        estimator: of the run.
        x, target, cost: a batch on which nothing settles, and its cost.

    Returns:
        The end of a sentence: the setting that was found to help and how many rows it settles.
    """

    def settled(network: VectorField, steps: int) -> int:
        limits = {"free_steps": estimator.settling.free_steps * steps}
        limits["nudged_steps"] = estimator.settling.nudged_steps * steps
        patient = dataclasses.replace(estimator.settling, **limits)
        trial = dataclasses.replace(estimator, settling=patient)
        return int(trial(network, x, target, cost).accepted.sum())

    for network, steps, what in _candidates(config, task, field, estimator.settling):
        if (rows := settled(network, steps)) >= ENOUGH * len(x):
            return f"{what} settles {rows} of {len(x)} rows of this batch"
    return "neither more steps nor weaker feedback or weights were found to settle it"


def _candidates(
    config: LoopConfig, task: Task | None, field: VectorField, settling: Settling
) -> Iterator[tuple[VectorField, int, str]]:
    """Networks, how many times the step limit they get, and the setting to be named."""
    free, nudged = (MORE_STEPS * n for n in (settling.free_steps, settling.nudged_steps))
    more = config.said({"phases.free_steps": free, "phases.nudged_steps": nudged})
    if all(bool(torch.isfinite(p).all()) for p in field.parameters.values()):
        yield field, MORE_STEPS, more
    if task is None or not isinstance(config, EqpropConfig):
        return
    settings = config.network

    def fresh(**changed: float) -> VectorField:
        return settings.model_copy(update=changed).draw(task)

    slower = config.said({"optimizer.learning_rate": config.optimizer.learning_rate / 10})
    yield fresh(), 1, f"the network as it was drawn (so {slower} may help)"
    yield fresh(), MORE_STEPS, more
    names = [name for name in ("feedback_gain", "gain") if hasattr(settings, name)]
    if getattr(settings, "tied", False):
        names = [name for name in names if name != "feedback_gain"]
    for name in names:
        for share in WEAKER:
            gain = share * getattr(settings, name)
            yield fresh(**{name: gain}), 1, config.said({f"network.{name}": gain})
