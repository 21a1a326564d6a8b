"""Holomorphic equilibrium propagation: the nudges lie on a circle in the complex plane."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus.errors import InputError
from bioplaus.estimators.base import AbstractEstimator, Batch
from bioplaus.fields.base import VectorField
from bioplaus.phases import nudged_phase
from bioplaus.solvers import Solution


@dataclass(frozen=True)
class Holomorphic(AbstractEstimator):
    """(dmu/dtheta)^T ds_beta/dbeta by Cauchy's formula over N nudges on a circle.

    ds/dbeta at 0 is (1 / (N |beta|)) sum_k e^{-i phi_k} s(|beta| e^{i phi_k}), phi_k = 2 pi k / N,
    with error O(|beta|^N): N = 1 is the one-sided difference, N = 2 the centered one. Conjugate
    nudges have conjugate states, so that only the upper half of the circle is settled. If the field
    is not conservative, the error of `vector-field` at beta -> 0 remains.

    Attributes:
        beta: radius of the circle of nudges.
        points: number N of nudges on the circle, >= 1.

    Source: Laborieux and Zenke 2022 (arXiv 2209.00530), section 3.
    """

    name = "holomorphic"
    rank = 3
    beta: float = 0.5
    points: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta <= 0:
            raise InputError(f"beta={self.beta} is a circle's radius here and must be positive")
        if self.points < 1:
            raise InputError(f"points={self.points} must be at least 1")

    def unfit(self, field: VectorField) -> str | None:
        reason = field.not_holomorphic()
        return reason and f"needs a field that extends to complex states: {reason}"

    def away(self) -> tuple[float, float]:
        turns = (2 * math.pi * k / self.points for k in range(self.points))
        return self.beta, max(0.0, -min(math.cos(turn) for turn in turns))

    def response(self, batch: Batch) -> tuple[list[Solution], Tensor]:
        free, drive = batch.free.s, batch.drive
        upper = range(self.points // 2 + 1)
        turns = torch.tensor([2 * math.pi * k / self.points for k in upper], dtype=torch.float64)
        circle = torch.polar(torch.ones_like(turns), turns).to(free.dtype.to_complex())
        circle = circle.to(drive.device)
        nudged = self._settle(batch, self.beta * circle)
        delta = torch.zeros_like(free)
        for k, (point, phase) in enumerate(zip(circle, nudged, strict=True)):
            # a conjugate pair counts twice; 1 and, for even N, -1 have no partner
            count = 1 if k in (0, self.points / 2) else 2
            assert phase.deviation is not None
            moved = batch.field.displacement(free.to(circle.dtype), phase.deviation)
            delta += (count / (self.points * self.beta)) * (moved * point.conj()).real
        return nudged, delta

    def _settle(self, batch: Batch, beta: Tensor) -> list[Solution]:
        """The nudged phases of all points, settled as one batch of complex rows."""
        field, rows, points = batch.field, len(batch.free.s), len(beta)
        complex_field = field.with_parameters(
            {name: p.to(beta.dtype) for name, p in field.parameters.items()}
        )
        end = nudged_phase(
            complex_field,
            torch.cat([batch.drive.to(beta.dtype)] * points),
            torch.cat([batch.free.s.to(beta.dtype)] * points),
            batch.cost,
            torch.cat([batch.target] * points),
            beta.repeat_interleave(rows)[:, None],
            settling=self.settling,
        )
        return end.chunk(points)
