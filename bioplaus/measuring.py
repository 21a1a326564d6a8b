"""What `eqprop-run` measures: of a step, of an epoch, of the network."""

from __future__ import annotations

import torch
from torch import Tensor

from bioplaus.costs import AbstractCost
from bioplaus.data import Dataset
from bioplaus.estimators import Estimate
from bioplaus.fields.base import VectorField
from bioplaus.phases import Settling, free_phase

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
"""Of a step: means over its rows, but LARGEST."""
LARGEST = ("free_residual", "nudged_residual", "status")


def test_errors(field: VectorField, dataset: Dataset, settling: Settling, rows: Tensor) -> int:
    """Of some test images, count those whose largest output is not their label."""
    rows = rows.to(dataset.test.inputs.device)
    free = free_phase(field, dataset.test.inputs[rows], settling=settling)
    guess = free.s[:, field.output].argmax(1)
    return int((guess != dataset.test.targets[rows]).sum())


def alignments(field: VectorField) -> dict[str, float]:
    """tr(W_f W_b) / (||W_f|| ||W_b||) of each pair of weights: 1 is transposed, 0 unrelated."""
    result = {}
    for k, (name, partner) in enumerate(field.partners().items(), 1):
        back = field.parameters[name]
        forward = field.mirror(name, field.parameters[partner])
        product = (forward * back).sum() / (forward.norm() * back.norm())
        result[f"alignment_{k}"] = float(product)
    tied = (f"alignment_{len(result) + k + 1}" for k in range(field.tied_pairs()))
    return result | dict.fromkeys(tied, 1.0)


def measure(
    field: VectorField, cost: AbstractCost, estimate: Estimate, y: Tensor
) -> dict[str, float]:
    """The MEASURES of one step, fetched from the device at once."""
    free = estimate.free
    outputs = free.s[:, field.output]
    nudged = estimate.nudged or (free,)
    converged = free.converged
    for phase in nudged:
        converged = converged & phase.converged
    numbers = torch.stack(
        [
            cost.value(outputs, y).mean(),
            100.0 * (outputs.argmax(1) != y.argmax(1)).to(outputs.dtype).mean(),
            free.residual.max(),
            torch.stack([phase.residual.max() for phase in nudged]).max(),
            free.n_steps.to(outputs.dtype).mean(),
            torch.stack([p.n_steps.to(outputs.dtype).mean() for p in nudged]).mean(),
            converged.to(outputs.dtype).mean(),
            estimate.accepted.to(outputs.dtype).mean(),
            torch.stack([phase.status.max() for phase in (free, *nudged)]).max().to(outputs.dtype),
        ]
    )
    return dict(zip(MEASURES, numbers.tolist(), strict=True))


class Tally:
    """Means over an epoch, weighted by the rows of each step."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.rows = 0

    def add(self, values: dict[str, float], rows: int) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + rows * value
        self.rows += rows

    def means(self) -> dict[str, float]:
        return {name: total / self.rows for name, total in self.sums.items()}
