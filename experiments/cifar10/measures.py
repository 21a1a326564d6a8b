"""Measures of a trained network besides its test error."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from bioplaus.config import EqpropConfig, make_estimator, resolve
from bioplaus.contraction import loop_radius
from bioplaus.data import Dataset, batches
from bioplaus.estimators import AbstractEstimator, Implicit
from bioplaus.fields import LayeredField
from bioplaus.gradient_check import weight_angles
from bioplaus.gradient_row import measures
from bioplaus.jacobian import hutchinson_asymmetry
from bioplaus.phases import Settling, free_phase
from bioplaus.solvers import Euler
from bridge.seeding import generator

EXACT = Settling(tolerance=1e-9, free_steps=3000, nudged_steps=3000, verify=False)
"""Settling of the phases of the true gradient, in float64."""
SIMULATED = Settling(Euler(0.1), 1e-7, 20_000, 20_000, check_every=10, verify=False)
"""A long simulation: small steps of ds/dt = F(s), all units at once."""


@contextlib.contextmanager
def without_autograd() -> Iterator[None]:
    """Refuse to save tensors for a backward pass.

    Raises:
        RuntimeError: something was recorded for autograd within the block.
    """

    def refuse(tensor: Tensor) -> Tensor:
        raise RuntimeError(f"autograd keeps a tensor of shape {list(tensor.shape)}")

    with torch.autograd.graph.saved_tensors_hooks(refuse, refuse):
        yield


def without_feedback(field: LayeredField) -> LayeredField:
    """The field with only its feedforward connections, which share their tensors."""
    upwards = [c for c in field.connections if c.source < c.target]
    names = {c.name for c in upwards} | {n for n in field.parameters if n.startswith("bias")}
    assert field.input is not None
    return LayeredField(
        field.input,
        field.specs,
        upwards,
        coordinates=field.coordinates,
        weights={name: p for name, p in field.parameters.items() if name in names},
        dtype=field.dtype,
        device=field.device,
    )


@torch.no_grad()
def accuracy(field: LayeredField, data: Dataset, settling: Settling, rows: int = 500) -> float:
    """Share of the test examples whose largest output is their label, in percent."""
    right = 0
    for some in batches(len(data.test), rows):
        x = data.test.inputs[some].to(field.device)
        free = free_phase(field, x, settling=settling)
        guess = free.s[:, field.output].argmax(1).cpu()
        right += int((guess == data.test.targets[some].cpu()).sum())
    return 100 * right / len(data.test)


def described(
    config: EqpropConfig, field: LayeredField, data: Dataset, rows: int = 20
) -> dict[str, float]:
    """Compute the columns of the table for a trained network, by name.

    Args:
        config: of its run.
        field: the network.
        data: the data that it was trained on.
        rows: number of training examples on which updates are compared.
    """
    rule = make_estimator(config)
    settling = dataclasses.replace(rule.settling, verify=False)
    cut = without_feedback(field)
    found = of_states(field, cut, data.test.inputs[:500].to(field.device), settling)
    found["accuracy"] = accuracy(field, data, settling)
    found["accuracy without feedback"] = accuracy(cut, data, settling)
    x = data.train.inputs[:rows].to(field.device)
    y = data.vectors(data.train.targets[:rows], field.dtype).to(field.device)
    found |= of_updates(config, field, x, y, rule)
    found |= {k: math.nan if v is None else v for k, v in weight_angles(field).items()}
    return found


@torch.no_grad()
def of_states(
    field: LayeredField, cut: LayeredField, x: Tensor, settling: Settling
) -> dict[str, float]:
    """Residuals, spectral radius of the loop, asymmetry, and effect of feedback on the states."""
    drive = field.drive(x)
    free = free_phase(field, x, settling=settling, drive=drive)
    residual = free.residual.double()
    alone = free_phase(cut, x, settling=settling).s
    found = {
        "residual median": float(residual.median()),
        "residual 99 %": float(residual.quantile(0.99)),
    }
    for k, here in enumerate(field.layers, 1):
        moved = (free.s[:, here] - alone[:, here]).norm(dim=1) / free.s[:, here].norm(dim=1)
        found[f"moved by feedback.{k}"] = float(moved.nan_to_num().mean())
    few = slice(0, 16)
    found["loop radius"] = float(loop_radius(field, free.s[few], drive[few], products=30).max())
    at = field.linearise(free.s[few], drive[few])
    probes = generator(0, "asymmetry")
    found["asymmetry"] = hutchinson_asymmetry(at, probes=8, generator=probes).ratio
    return found


def of_updates(
    config: EqpropConfig, field: LayeredField, x: Tensor, y: Tensor, rule: AbstractEstimator
) -> dict[str, float]:
    """Cosines of the update to the true gradient, and to that of a long simulation from rest.

    The update is computed as in training, and without autograd if the rule is local.
    """
    cost = resolve("cost", config.estimator.cost)
    rule = dataclasses.replace(rule.without_regulariser(), gate=math.inf)
    with without_autograd():
        update = rule(field, x, y, cost).updates
    precise, x, y = field.precise(), x.double(), y.double()
    true = Implicit(settling=EXACT)(precise, x, y, cost).updates
    found = {f"cosine.{name}": cosine({name: update[name]}, true) for name in true}
    found["cosine"] = cosine(update, true)
    free = free_phase(precise, x, settling=SIMULATED, start=x.new_zeros(len(x), field.n))
    slow = dataclasses.replace(rule, settling=SIMULATED)(precise, x, y, cost, free=free)
    found["cosine to simulation"] = cosine(update, slow.updates)
    found["simulation converged"] = float(slow.free.converged.double().mean())
    return found


def cosine(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The cosine between two updates, over the names in the first."""
    flat = [torch.cat([each[name].flatten().double() for name in a]) for each in (a, b)]
    found = measures(*flat)[0]["cosine"]
    return math.nan if found is None else found
