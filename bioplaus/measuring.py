"""Measures that `eqprop-run` records for a step, an epoch and the network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus.costs import AbstractCost
from bioplaus.data import Dataset
from bioplaus.data.augment import mirrored
from bioplaus.engines import Brian2
from bioplaus.estimators import Estimate
from bioplaus.fields.base import VectorField
from bioplaus.fields.hopfield import without_energy
from bioplaus.phases import Settling, free_energies, free_phase

MEASURES = (
    "cost",
    "train_error",
    "free_residual",
    "nudged_residual",
    "free_steps",
    "nudged_steps",
    "converged",
    "accepted",
    "status",
)
"""Measures of a step: means over its rows, except for those in LARGEST."""
ENERGIES = ("energy", "energy_rise")
"""Measures of an epoch, for a field that has an energy."""
ROUNDING = 1e-12
LARGEST = ("free_residual", "nudged_residual", "status")


def count_errors(
    field: VectorField,
    dataset: Dataset,
    settling: Settling,
    rows: Tensor,
    both_sides: bool,
) -> int:
    """Count the test images whose largest output is not their label.

    With `both_sides`, the outputs for the image and its mirror image are summed first.
    """
    rows = rows.to(dataset.test.inputs.device)
    x = dataset.test.inputs[rows]
    outputs = free_phase(field, x, settling=settling).s[:, field.output]
    if both_sides:
        assert dataset.image_shape is not None
        other = mirrored(x.view(len(x), *dataset.image_shape)).view(x.shape)
        outputs = outputs + free_phase(field, other, settling=settling).s[:, field.output]
    return int((outputs.argmax(1) != dataset.test.targets[rows]).sum())


def alignments(field: VectorField) -> dict[str, float]:
    """tr(W_f W_b) / (||W_f|| ||W_b||) of each pair: 1 for transposes, 0 for unrelated weights."""
    result = {}
    for k, (name, partner) in enumerate(field.partners().items(), 1):
        back = field.parameters[name]
        forward = field.mirror(name, field.parameters[partner])
        product = (forward * back).sum() / (forward.norm() * back.norm())
        result[f"alignment_{k}"] = float(product)
    tied = (f"alignment_{len(result) + k + 1}" for k in range(field.tied_pairs()))
    return result | dict.fromkeys(tied, 1.0)


def keeps_energy(field: VectorField) -> bool:
    """Whether a field keeps an energy throughout learning."""
    learns = (  # a layer's own weight may be symmetric now, but not after a step
        c.source == c.target and c.name in field.parameters
        for c in getattr(field, "connections", ())
    )
    return without_energy(field) is None and not any(learns)


def energies(field: VectorField, x: Tensor, settling: Settling) -> dict[str, float]:
    """Measure the energy during the free phases of some inputs; empty if the field has none.

    `energy` is its mean at the end of the phases. `energy_rise` is the largest rise in one step of
    any phase, or 0 if it never rises. Both are computed in float64 to avoid rounding error.
    """
    if not keeps_energy(field):
        return {}
    if not len(x) or isinstance(settling.solver, Brian2):
        return dict.fromkeys(ENERGIES, math.nan)
    _, found = free_energies(field.precise(), x.double(), settling=settling)
    return dict(zip(ENERGIES, (float(found[-1].mean()), rise_of(found)), strict=True))


def rise_of(found: Tensor) -> float:
    """The largest rise of energies [T + 1, B] in one step, ignoring rounding error."""
    before, after = found[:-1], found[1:]
    size = torch.maximum(before.abs(), after.abs()).clamp_min(1.0)
    rises = torch.where(after - before > ROUNDING * size, after - before, 0.0)
    return float(rises.max())


def measure(
    field: VectorField, cost: AbstractCost, estimate: Estimate, y: Tensor
) -> dict[str, float]:
    """The MEASURES of one step, fetched from the device in one transfer."""
    own = _of_outputs(field, cost, estimate, y)
    return fetch_measures(estimate, own)


def measures(
    field: VectorField, cost: AbstractCost, estimate: Estimate, y: Tensor, members: int = 0
) -> Tensor:
    """The MEASURES of one step, on the device that computed it.

    Args:
        field, cost, estimate, y: of the step.
        members: number of ensemble members; 0 if the field is not an ensemble.

    Returns:
        [9]; for an ensemble [members, 9], each member over its own rows.
    """
    over = Over(members)
    own = _of_outputs(field, cost, estimate, y, over)
    return torch.stack([*own.values(), *_of_phases(estimate, over).values()], -1)


def fetch_measures(estimate: Estimate, own: Mapping[str, Tensor]) -> dict[str, float]:
    """Add the measures of an estimate's phases to others, and fetch all in one transfer."""
    found = {**own, **_of_phases(estimate)}
    return dict(zip(found, torch.stack([*found.values()]).tolist(), strict=True))


@dataclass(frozen=True)
class Over:
    """Reduces values per row [B] over all rows, or over the rows of each member, [members]."""

    members: int = 0

    def mean(self, t: Tensor) -> Tensor:
        """The mean of rows [B]."""
        return t.view(-1, self.members).mean(0) if self.members else t.mean()

    def max(self, t: Tensor) -> Tensor:
        """The largest of rows [B]."""
        return t.view(-1, self.members).amax(0) if self.members else t.max()


WHOLE = Over()


def _of_outputs(
    field: VectorField, cost: AbstractCost, estimate: Estimate, y: Tensor, over: Over = WHOLE
) -> dict[str, Tensor]:
    outputs = estimate.free.s[:, field.output]
    wrong = (outputs.argmax(1) != y.argmax(1)).to(outputs.dtype)
    return {"cost": over.mean(cost.value(outputs, y)), "train_error": 100.0 * over.mean(wrong)}


def _of_phases(estimate: Estimate, over: Over = WHOLE) -> dict[str, Tensor]:
    free = estimate.free
    nudged, dtype = estimate.nudged or (free,), free.s.dtype
    converged = free.converged
    for phase in nudged:
        converged = converged & phase.converged
    return {
        "free_residual": over.max(free.residual),
        "nudged_residual": torch.stack([over.max(phase.residual) for phase in nudged]).amax(0),
        "free_steps": over.mean(free.n_steps.to(dtype)),
        "nudged_steps": torch.stack([over.mean(p.n_steps.to(dtype)) for p in nudged]).mean(0),
        "converged": over.mean(converged.to(dtype)),
        "accepted": over.mean(estimate.accepted.to(dtype)),
        "status": torch.stack([over.max(p.status) for p in (free, *nudged)]).amax(0).to(dtype),
    }


class Tally:
    """Means over an epoch, weighted by the rows of each step."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.rows = 0

    def add(self, values: dict[str, float], rows: int) -> None:
        """Add the measures of a step, which are means over `rows` rows."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + rows * value
        self.rows += rows

    def means(self) -> dict[str, float]:
        """Return the means over all rows so far, by name."""
        return {name: total / self.rows for name, total in self.sums.items()}
