"""Compare one gradient estimate with one oracle: measures, and why some are missing."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

FREE_UNSETTLED = "free phase not converged"
ESTIMATE_UNSETTLED = "estimate not converged"
ORACLE_UNSETTLED = "oracle not converged"
UNSTABLE = "point not stable"
NOT_FINITE = "not finite"
ZERO_GRADIENT = "true gradient is zero"
ZERO_ESTIMATE = "estimate is zero"
DISAGREEMENT = "oracles disagree"
CURES = {
    FREE_UNSETTLED: "allow more steps, or use smaller weights or another solver",
    ESTIMATE_UNSETTLED: "allow more steps, or use a smaller beta or smaller weights",
    ORACLE_UNSETTLED: "take the oracle implicit, or use smaller weights",
    UNSTABLE: "use smaller weights, or a smaller beta",
    NOT_FINITE: "use smaller weights, or a smaller beta",
    ZERO_GRADIENT: "give targets that the outputs do not meet, or units that are not all off",
    ZERO_ESTIMATE: "use a larger beta, or float64",
    DISAGREEMENT: "trust no more digits than the oracles share; a lower tolerance may give more",
}
REASONS = tuple(CURES)
"""All that can be wrong with a row, worst first. A row reports the first that applies."""

MEASURES = (
    "cosine",
    "angle_degrees",
    "relative_error",
    "norm_ratio",
    "sign_agreement",
    "nonzero_share",
    "rmse",
)
"""The measures that compare two gradients."""


@dataclass(frozen=True, kw_only=True)
class GradientRow:
    """Comparison of one estimate with one oracle, for one parameter or several together.

    A measure is None where it would be meaningless. If the estimate or the oracle has not
    converged, or its fixed point is not stable, all measures are None. `reason` says why.

    Attributes:
        estimator, oracle, parameter: what is compared; parameter is "all", "feedback" (the
            feedback weights), "feedforward" (all but these), or a name.
        beta: the nudge; NaN where the estimator has none.
        cosine, angle_degrees: between estimate and true gradient.
        relative_error: norm of the difference over the norm of the true gradient.
        norm_ratio: norm of the estimate over the norm of the true gradient.
        sign_agreement: share of equal signs among the entries that are zero in neither.
        rmse: root mean square of the difference.
        bound: the bound on the error of the vector field's limit, over the norm of the true
            gradient, so that it compares with `relative_error`.
        bound_over_error: `bound / relative_error`.
        residual: the largest relative residual of any phase of the estimate or its oracle.
        converged: share of rows that reached the tolerance in every phase of the estimate.
        steps: mean steps of all phases of the estimate together.
        nonzero_share: share of the entries that are zero in neither, which have a sign to compare.
        oracle_residual: the largest relative residual of any phase of the oracle, its adjoint's
            ||J^T a - c|| / ||c|| or its perturbed phases' among them.
        oracle_converged: share of rows that reached the tolerance in all phases of the oracle.
        oracle_difference: largest distance from another converged oracle, over the norm of the
            true gradient; None if there is no other.
        stability: largest real part of an eigenvalue of the Jacobian at the estimate's fixed
            points, free and nudged; at 0 or above they are unstable. None if unknown.
        reason: one of REASONS; None if nothing is wrong.
    """

    estimator: str
    beta: float
    oracle: str
    parameter: str
    cosine: float | None = None
    angle_degrees: float | None = None
    relative_error: float | None = None
    norm_ratio: float | None = None
    sign_agreement: float | None = None
    rmse: float | None = None
    bound: float | None = None
    bound_over_error: float | None = None
    residual: float
    converged: float
    steps: float
    nonzero_share: float | None = None
    oracle_residual: float
    oracle_converged: float
    oracle_difference: float | None = None
    stability: float | None = None
    reason: str | None = None

    @property
    def compared(self) -> bool:
        """Whether the estimate and the oracle can be compared and neither is zero."""
        return self.angle_degrees is not None


def measures(e: Tensor, t: Tensor) -> tuple[dict[str, Any], str | None]:
    """Compute MEASURES of an estimate `e` of the gradient `t`, and what is wrong with them.

    A zero vector has no angle and no relative error. Vectors that are not finite have no measures
    at all.
    """
    e, t = e.double(), t.double()
    found: dict[str, Any] = dict.fromkeys(MEASURES)
    size_e, size_t = (float(torch.linalg.vector_norm(v)) for v in (e, t))
    if not math.isfinite(size_e * size_t):
        return found, NOT_FINITE
    difference = float(torch.linalg.vector_norm(e - t))
    found["rmse"] = difference / math.sqrt(len(e))
    signs = e.sign().mul_(t.sign())
    signed, balance = int(torch.count_nonzero(signs)), float(signs.sum())
    found["nonzero_share"] = signed / len(e)
    if signed:
        found["sign_agreement"] = (signed + balance) / (2 * signed)
    if size_t == 0:
        return found, ZERO_GRADIENT
    found |= {"relative_error": difference / size_t, "norm_ratio": size_e / size_t}
    if size_e == 0:
        return found, ZERO_ESTIMATE
    u, v = e / size_e, t / size_t
    found["cosine"] = float(u @ v)
    # accurate near 0 and 180 degrees too, where arccos loses half of the digits
    both = torch.linalg.vector_norm(u + v)
    angle = 2 * torch.atan2(torch.linalg.vector_norm(u.sub_(v)), both)
    found["angle_degrees"] = math.degrees(float(angle))
    return found, None


@dataclass(frozen=True)
class Layout:
    """Where each row's parameters lie in one flat vector; the feedback weights come last.

    Attributes:
        names: all parameters, in the order of the vector.
        rows: the slice of each row by name: "all", each parameter and, if there are feedback
            weights, "feedforward" and "feedback".
    """

    names: tuple[str, ...]
    rows: dict[str, slice]

    @classmethod
    def of(cls, parameters: Mapping[str, Tensor], feedback: Collection[str]) -> Layout:
        """Lay out parameters, some of which are feedback weights."""
        names = sorted(parameters, key=lambda name: (name in feedback, name))
        ends = list(itertools.accumulate((parameters[name].numel() for name in names), initial=0))
        rows = {"all": slice(0, ends[-1])}
        if feedback:
            border = ends[len(names) - len(feedback)]
            rows |= {"feedforward": slice(0, border), "feedback": slice(border, ends[-1])}
        own = dict(zip(names, map(slice, ends, ends[1:]), strict=True))
        return cls(tuple(names), rows | {name: own[name] for name in parameters})

    def flat(self, updates: Mapping[str, Tensor]) -> Tensor:
        """Concatenate all updates into one float64 vector."""
        return torch.cat([updates[name].reshape(-1).double() for name in self.names])

    def members(self, row: str) -> list[str]:
        """The parameters of a row."""
        here = self.rows[row]
        return [
            name
            for name in self.names
            if here.start <= self.rows[name].start and self.rows[name].stop <= here.stop
        ]


def record_type(
    estimators: Iterable[str], oracles: Iterable[str], parameters: Iterable[str]
) -> type:
    """Make a record type for rows with these names as closed sets, `step` and the asymmetry."""
    return _record_type(tuple(estimators), tuple(oracles), tuple(parameters))


@cache
def _record_type(
    estimators: tuple[str, ...], oracles: tuple[str, ...], parameters: tuple[str, ...]
) -> type:
    names = (estimators, oracles, parameters)
    parameters = ("all", "feedforward", "feedback", *parameters)
    sets = {
        "estimator": estimators,
        "oracle": oracles,
        "parameter": parameters,
        "reason": ("", *REASONS),
    }
    fields: list[Any] = [("step", int), ("asymmetry", float), ("asymmetry_error", float)]
    fields += [
        (f.name, Literal[sets[f.name]] if f.name in sets else float)
        for f in dataclasses.fields(GradientRow)
    ]
    again = {"__reduce__": lambda row: (_record_again, (names, dataclasses.astuple(row)))}
    return dataclasses.make_dataclass("GradientRecord", fields, frozen=True, namespace=again)


def _record_again(names: tuple[tuple[str, ...], ...], values: tuple[Any, ...]) -> Any:
    return _record_type(*names)(*values)


def records(
    kind: type, asymmetry: Mapping[str, Any], rows: Iterable[GradientRow], step: int
) -> list[Any]:
    """Convert the rows and asymmetry of a report to records of a type made by `record_type`.

    None becomes NaN, and a missing reason "".
    """
    both = {"asymmetry": asymmetry["ratio"], "asymmetry_error": asymmetry["standard_error"]}
    made = []
    for row in rows:
        values = {**both, **dataclasses.asdict(row), "reason": row.reason or ""}
        filled = {name: math.nan if v is None else v for name, v in values.items()}
        made.append(kind(step=step, **filled))
    return made
