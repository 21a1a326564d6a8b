"""The prediction of a field: the outputs of its free fixed point."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from bioplaus.arguments import as_inputs
from bioplaus.errors import InputError
from bioplaus.fields.base import VectorField
from bioplaus.phases import Settling, free_phase
from bioplaus.solvers import Status

ROWS = 1000
"""Number of rows settled in one batch."""


@torch.no_grad()
def predict(field: VectorField, x: object, *, settling: Settling | None = None) -> Tensor:
    """The outputs of s* with mu(x, s*) = 0, [B, n_output]; see `VectorField.predict`."""
    if settling is not None and not isinstance(settling, Settling):
        raise InputError(
            f"settling is {type(settling).__name__}; give a bioplaus.Settling, e.g. "
            "Settling(tolerance=1e-6)"
        )
    x = as_inputs(x, field)
    ends = [free_phase(field, part, settling=settling) for part in x.split(ROWS)] if len(x) else []
    worst = max((int(end.status.max()) for end in ends), default=0)
    if worst:
        missed = sum(int((~end.converged).sum()) for end in ends)
        residual = max(float(end.residual.max()) for end in ends)
        warnings.warn(
            f"{missed} of {len(x)} rows did not settle (largest residual {residual:.2g}): "
            f"{Status(worst).message}",
            stacklevel=3,
        )
    outputs = [end.s[:, field.output] for end in ends]
    return torch.cat(outputs) if outputs else x.new_zeros(0, field.n_output)
