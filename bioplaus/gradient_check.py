"""Estimators against oracles, with the asymmetry and the bound that explain the error."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from bioplaus.costs import AbstractCost, get_cost, one_hot
from bioplaus.errors import InputError
from bioplaus.estimators import ORACLES, AbstractEstimator, Estimate, get_estimator, get_oracle
from bioplaus.estimators.adjoint import cost_slope
from bioplaus.fields.base import AbstractField
from bioplaus.jacobian import (
    Asymmetry,
    asymmetry_norm,
    exact_asymmetry,
    hutchinson_asymmetry,
    inverse_norm,
    spectral_radius,
)
from bioplaus.phases import Settling, free_phase
from bioplaus.solvers import Solution

EXACT_UP_TO = 300
"""States of at most this size have their asymmetry taken exactly."""


@dataclass(frozen=True)
class GradientRow:
    """One estimate against one oracle, for one parameter or for all together.

    Attributes:
        estimator, oracle, parameter: what is compared; parameter is "all" or a name.
        beta: the nudge; NaN where the estimator has none.
        cosine, angle_degrees: between estimate and true gradient.
        relative_error: norm of the difference over the norm of the true gradient.
        norm_ratio: norm of the estimate over the norm of the true gradient.
        sign_agreement: share of entries of equal sign.
        rmse: root mean square of the difference.
        bound: the bound on the error of the vector field's limit, over the norm of the true
            gradient, so that it compares with `relative_error`.
        bound_over_error: `bound / relative_error`.
        residual: the largest relative residual of any phase of the estimate or its oracle.
        converged: share of rows that reached the tolerance in every phase of the estimate.
        steps: mean steps of all phases of the estimate together.
    """

    estimator: str
    beta: float
    oracle: str
    parameter: str
    cosine: float
    angle_degrees: float
    relative_error: float
    norm_ratio: float
    sign_agreement: float
    rmse: float
    bound: float
    bound_over_error: float
    residual: float
    converged: float
    steps: float


@dataclass(frozen=True)
class GradientReport:
    """What `check_gradients` found.

    Attributes:
        asymmetry: of the Jacobian at the free fixed points: `ratio`, `standard_error`,
            `symmetry_share`, `probes`, `weight_angle.k` in degrees, `spectral_radius`.
        rows: see `GradientRow`.
        tolerance: the relative residual that phases had to reach.
    """

    asymmetry: dict[str, float]
    rows: tuple[GradientRow, ...]
    tolerance: float

    @property
    def unconverged(self) -> tuple[GradientRow, ...]:
        """Comparisons with a phase that did not reach the tolerance: not to be trusted."""
        return tuple(row for row in self.rows if row.converged < 1)


def check_gradients(
    field: AbstractField,
    x: Tensor,
    y: Tensor,
    cost: str | AbstractCost = "squared-error",
    estimators: Sequence[str] = ("vector-field", "asym-ep"),
    betas: Sequence[float] = (1e-2,),
    oracles: Sequence[str] = ("implicit",),
    *,
    settling: Settling | None = None,
    oracle_settling: Settling | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    done: Sequence[GradientRow] = (),
    on_rows: Callable[[Mapping[str, float], Sequence[GradientRow]], None] = lambda a, rows: None,
) -> GradientReport:
    """Compare estimates of -dJ/dtheta with the true gradient on one batch.

    Args:
        field: the network.
        x: clamped input, [B, n_in].
        y: labels [B] or targets [B, m].
        cost: name or object.
        estimators: names; oracles may be among them, and are then compared like estimators.
        betas: strengths of the nudge, for estimators that have one.
        oracles: names of what is taken for the true gradient.
        settling: how phases settle; a tolerance of 1e-10 (float64) or 1e-6 (float32) if not
            given.
        oracle_settling: how those of the oracles settle, the free phase among them, if not like
            the estimators' (as where these run in another engine).
        settings: further fields of the estimators (`nudging`, `points`, ...), passed to those
            that have them. What is compared is the estimate of -dJ/dtheta alone, without the
            regulariser of `homeostasis` and the decay of `kolen-pollack`.
        seed: of the random probes.
        done: rows of an earlier call with the same arguments, which are not made again.
        on_rows: given the asymmetry and the rows of each estimator and beta, as they are made.

    Raises:
        InputError: an unknown name, beta = 0, or an estimator that cannot serve this field.
    """
    cost = get_cost(cost)
    if not estimators or not oracles or not betas:
        raise InputError("give at least one estimator, one oracle and one beta")
    settling = settling or default_settling(field.dtype)
    target = y if y.ndim == 2 else one_hot(y, field.output.stop - field.output.start, field.dtype)
    free = free_phase(field, x, settling=settling)
    true_free, true_settling = free, settling
    if oracle_settling is not None:
        true_settling = oracle_settling
        true_free = free_phase(field, x, settling=oracle_settling)
    truths = {
        name: get_oracle(name)(settling=true_settling)(field, x, target, cost, free=true_free)
        for name in oracles
    }
    asymmetry, bounds = _asymmetry_and_bounds(field, x, target, cost, true_free, seed)
    compared = [
        (name, *variant)
        for name in estimators
        for variant in variants(name, betas, settling, settings or {})
    ]
    rows = list(done)
    for name, estimator, beta in compared[len(rows) // (len(truths) * len(bounds)) :]:
        estimate = estimator(field, x, target, cost, free=free)
        made: list[GradientRow] = []
        for oracle, truth in truths.items():
            made += _compare(name, beta, oracle, estimate, truth, bounds)
        rows += made
        on_rows(asymmetry, made)
    return GradientReport(asymmetry, tuple(rows), settling.tolerance)


def default_settling(dtype: torch.dtype) -> Settling:
    """Phases settled as far as a comparison of gradients needs."""
    tolerance = 1e-10 if dtype == torch.float64 else 1e-6
    return Settling(tolerance=tolerance, free_steps=2000, nudged_steps=2000, verify=True)


def record_type(
    estimators: Iterable[str], oracles: Iterable[str], parameters: Iterable[str]
) -> type:
    """A record type for rows over these names (as closed sets), with `step` and the asymmetry."""
    sets = {
        "estimator": tuple(estimators),
        "oracle": tuple(oracles),
        "parameter": ("all", *parameters),
    }
    fields: list[Any] = [("step", int), ("asymmetry", float), ("asymmetry_error", float)]
    fields += [
        (f.name, Literal[sets[f.name]] if f.name in sets else float)
        for f in dataclasses.fields(GradientRow)
    ]
    return dataclasses.make_dataclass("GradientRecord", fields, frozen=True)


def records(
    kind: type, asymmetry: Mapping[str, float], rows: Iterable[GradientRow], step: int
) -> list[Any]:
    """Rows of a report, with its asymmetry, as records of a type that `record_type` made."""
    both = {"asymmetry": asymmetry["ratio"], "asymmetry_error": asymmetry["standard_error"]}
    return [kind(step=step, **both, **dataclasses.asdict(row)) for row in rows]


def variants(
    name: str, betas: Sequence[float], settling: Settling, settings: Mapping[str, Any]
) -> list[tuple[AbstractEstimator, float]]:
    """An estimator at each beta that it is asked for, once with NaN if it has none.

    Raises:
        InputError: an unknown name, or a setting outside its range.
    """
    kind = get_estimator(name)
    known = {f.name for f in dataclasses.fields(kind)}
    kept = {key: value for key, value in settings.items() if key in known}
    if "beta" not in known:
        return [(kind(settling=settling, **kept), math.nan)]
    made = [(kind(settling=settling, beta=beta, **kept), beta) for beta in betas]  # pyright: ignore[reportCallIssue]
    return [(estimator.without_regulariser(), beta) for estimator, beta in made]


def _asymmetry_and_bounds(
    field: AbstractField, x: Tensor, target: Tensor, cost: AbstractCost, free: Solution, seed: int
) -> tuple[dict[str, float], dict[str, float]]:
    """The asymmetry's measures, and by parameter the bound on the error of the batch gradient.

    ||nu + dJ/dtheta|| <= mean over rows of ||J^-1||^2 ||J - J^T|| ||c|| ||dmu/dtheta||, from
    J^-T - J^-1 = J^-T (J - J^T) J^-1 and the triangle inequality over the rows. Where the local
    rule sees D ds (activity coordinates), D J^-1 takes the place of J^-1, and
    J^-T - D J^-1 = J^-T (D J - J^T D) J^-1 + J^-T (1 - D), whose last term acts on c: zero on
    linear outputs.
    """
    s = free.s
    rng = torch.Generator().manual_seed(seed)
    found: Asymmetry
    at = field.linearise(s, field.drive(x))
    if field.n <= EXACT_UP_TO:
        found = exact_asymmetry(at)
    else:
        found = hutchinson_asymmetry(at, generator=rng)
    c = cost_slope(field, s, target, cost)
    size = torch.linalg.vector_norm(c, dim=1)
    inverse = inverse_norm(at, generator=rng)
    d = field.seen(at)
    common = inverse**2 * asymmetry_norm(at, d, generator=rng) * size
    if d is not None:
        common += inverse * torch.linalg.vector_norm(c - d * c, dim=1)
    bounds = {
        name: float((common * norm).mean()) for name, norm in field.parameter_norms(x, s).items()
    }
    radius = float(spectral_radius(at.take(slice(4)), generator=rng).max())
    measures = {**dataclasses.asdict(found), **weight_angles(field), "spectral_radius": radius}
    return measures, bounds


def weight_angles(field: AbstractField) -> dict[str, float]:
    """Degrees between each feedback matrix and its transposed feedforward partner."""
    angles = {}
    for name, partner in field.partners().items():
        back, forward = field.parameters[name], field.parameters[partner].T
        cosine = (forward * back).sum() / (forward.norm() * back.norm())
        degrees = math.degrees(math.acos(float(cosine.clamp(-1, 1))))
        angles[f"weight_angle.{name.rpartition('.')[2]}"] = degrees
    return angles


def _compare(
    name: str,
    beta: float,
    oracle: str,
    estimate: Estimate,
    truth: Estimate,
    bounds: Mapping[str, float],
) -> list[GradientRow]:
    phases = [estimate.free, *estimate.nudged]
    own = phases if name not in ORACLES else [estimate.free]
    converged = torch.stack([p.converged for p in own]).all(0)
    residual = max(float(p.residual.max()) for p in [*phases, *truth.nudged])
    steps = sum(float(p.n_steps.float().mean()) for p in own)
    pairs = {"all": (_flat(estimate.updates), _flat(truth.updates))}
    pairs |= {k: (u.reshape(-1), truth.updates[k].reshape(-1)) for k, u in estimate.updates.items()}
    rows = []
    for parameter, (e, t) in pairs.items():
        measures = _measures(e, t)
        size = float(torch.linalg.vector_norm(t))
        bound = bounds[parameter] / size if size > 0 else math.inf
        error = measures["relative_error"]
        rows.append(
            GradientRow(
                estimator=name,
                beta=beta,
                oracle=oracle,
                parameter=parameter,
                **measures,
                bound=bound,
                bound_over_error=bound / error if error > 0 else math.inf,
                residual=residual,
                converged=float(converged.float().mean()),
                steps=steps,
            )
        )
    return rows


def _measures(e: Tensor, t: Tensor) -> dict[str, float]:
    """Cosine, angle, relative error, norm ratio, sign agreement and RMSE of two vectors."""
    e, t = e.double(), t.double()
    size_e, size_t = torch.linalg.vector_norm(e), torch.linalg.vector_norm(t)
    difference = torch.linalg.vector_norm(e - t)
    tiny = torch.finfo(torch.float64).tiny
    u, v = e / size_e.clamp_min(tiny), t / size_t.clamp_min(tiny)
    # exact also near 0 and 180 degrees, where arccos loses half of the digits
    angle = 2 * torch.atan2(torch.linalg.vector_norm(u - v), torch.linalg.vector_norm(u + v))
    return {
        "cosine": float(u @ v),
        "angle_degrees": math.degrees(float(angle)),
        "relative_error": float(difference / size_t.clamp_min(tiny)),
        "norm_ratio": float(size_e / size_t.clamp_min(tiny)),
        "sign_agreement": float((e.sign() == t.sign()).double().mean()),
        "rmse": float(difference) / math.sqrt(len(e)),
    }


def _flat(updates: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([updates[name].reshape(-1) for name in sorted(updates)])
