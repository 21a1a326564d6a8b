"""Diagnose phases that do not settle, and search for a setting that settles them."""

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
"""Multiple of the step limit that is tried as a cure."""

WEAKER = (0.5, 0.2, 0.1)
"""Factors of a gain that are tried as a cure."""

ENOUGH = 0.9
"""The fraction of a batch's rows that a cure must settle."""


@torch.no_grad()
def stability(field: VectorField, x: Tensor, settling: Settling) -> float:
    """The largest real part of the Jacobian's eigenvalues over all converged free fixed points.

    It is negative if all of them are attractors and NaN if no row converges. See
    `solvers.stability`.
    """
    free = free_phase(field, x, settling=dataclasses.replace(settling, verify=True))
    assert free.abscissa is not None
    known = free.abscissa[~free.abscissa.isnan()]
    return float(known.max()) if len(known) else float("nan")


def explain(step: int, patience: int, residual: float, status: Status, cure: str) -> str:
    """Explain why a run ended after its rows stopped settling.

    Args:
        step: the step at which the run ended.
        patience: number of steps in which no row settled.
        residual: largest residual of the last step; meaningless if the state diverged.
        status: worst status of the last step.
        cure: the result of `find_cure`.
    """
    how = "" if status >= Status.DIVERGED else f" (largest residual {residual:.2g})"
    return (
        f"the network diverged: for {patience} steps up to step {step} no row settled to within "
        f"the gate{how}; {status.message}; {cure}"
    )


def weaker_feedback(config: LoopConfig) -> str:
    """What to weaken in an unstable network, and the setting for it if there is one."""
    network = getattr(config, "network", None)
    gain, what = getattr(network, "feedback_gain", None), "feedback"
    if gain is None or getattr(network, "tied", False):
        gain, what = getattr(network, "gain", None), "weights"
    if gain is None:
        return what
    key = "gain" if what == "weights" else "feedback_gain"
    return f"{what}, e.g. {config.as_written({f'network.{key}': 0.5 * gain})}"


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
    """Try changes that may make a batch settle again, and report which one did.

    Args:
        config: configuration of the run.
        task: the task for which the network is drawn; None if the config does not define the
            network.
        field: the current network.
        estimator: estimator of the run.
        x, target, cost: a batch of which no row settles, and its cost.

    Returns:
        The end of a sentence: the setting that helps, and how many rows settle with it.
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
    """Yield candidate networks, the multiple of their step limit, and the setting to name."""
    free, nudged = (MORE_STEPS * n for n in (settling.free_steps, settling.nudged_steps))
    more = config.as_written({"phases.free_steps": free, "phases.nudged_steps": nudged})
    if all(bool(torch.isfinite(p).all()) for p in field.parameters.values()):
        yield field, MORE_STEPS, more
    if task is None or not isinstance(config, EqpropConfig):
        return
    settings = config.network

    def fresh(**changed: float) -> VectorField:
        return settings.model_copy(update=changed).draw(task)

    slower = config.as_written({"optimizer.learning_rate": config.optimizer.learning_rate / 10})
    yield fresh(), 1, f"the network as it was drawn (so {slower} may help)"
    yield fresh(), MORE_STEPS, more
    names = [name for name in ("feedback_gain", "gain") if hasattr(settings, name)]
    if getattr(settings, "tied", False):
        names = [name for name in names if name != "feedback_gain"]
    for name in names:
        for share in WEAKER:
            gain = share * getattr(settings, name)
            yield fresh(**{name: gain}), 1, config.as_written({f"network.{name}": gain})
