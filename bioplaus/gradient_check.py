"""Compare estimators with oracles, and report the asymmetry and bound that explain the error."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bioplaus.arguments import as_inputs, as_targets
from bioplaus.calling import answered
from bioplaus.comparing import Alike
from bioplaus.costs import AbstractCost, CostLike, get_cost
from bioplaus.errors import InputError
from bioplaus.estimators import (
    AbstractEstimator,
    Estimate,
    EstimatorLike,
    get_estimator,
    make_estimator,
    require_settings,
)
from bioplaus.estimators.adjoint import cost_slope
from bioplaus.fields.base import VectorField
from bioplaus.frames import frame, text_table
from bioplaus.gradient_row import (
    CURES,
    DISAGREEMENT,
    ESTIMATE_UNSETTLED,
    FREE_UNSETTLED,
    ORACLE_UNSETTLED,
    REASONS,
    UNSTABLE,
    GradientRow,
    Layout,
    measures,
)
from bioplaus.jacobian import (
    asymmetry_norm,
    exact_asymmetry,
    hutchinson_asymmetry,
    inverse_norm,
    spectral_radius,
)
from bioplaus.phases import Settling, free_phase
from bioplaus.solvers import Solution, Status
from bioplaus.truth import Exact, Truth, convergence, stability

EXACT_UP_TO = 300
"""Up to this state size the asymmetry is computed exactly and a second oracle is used."""

LARGE_ROWS = 8
"""Number of rows whose spectral radius is computed for larger states; stability uses all rows."""

AGREEMENT = 100.0
"""Multiple of their phases' tolerance by which oracles may differ: a gradient inherits a phase's
residual multiplied by ||J^-1||."""

LOOSE = 0.01
"""Difference up to which the multiple counts; looser oracles are held to the tolerance itself."""


_SHOWN = ("relative_error", "angle_degrees", "bound", "converged", "reason")


@dataclass(frozen=True, eq=False, repr=False)
class GradientReport(Alike):
    """The result of `check_gradients`.

    Attributes:
        asymmetry: measures of the Jacobian at the free fixed points: `ratio`, `standard_error`,
            `symmetry_share`, `probes`, `spectral_radius`, all None if a row has not converged;
            `free_residual` (the largest), `free_converged` (the share of rows) and `stability`
            (the largest `Solution.abscissa`);
            `weight_angle.k` in degrees.
        rows: see `GradientRow`.
        tolerance: the relative residual that phases must reach.
        agreement: the relative difference up to which oracles agree.
        free: the free phase of the estimators.
    """

    asymmetry: dict[str, float | None]
    rows: tuple[GradientRow, ...]
    tolerance: float
    agreement: float
    free: Solution

    def __repr__(self) -> str:
        known = {name: value for name, value in self.asymmetry.items() if value is not None}
        head = ", ".join(f"{name} {value:.4g}" for name, value in known.items())
        shown = ["estimator", "beta", "oracle", "parameter", *_SHOWN]
        lines = [self.explain(reason) for reason in self.reasons]
        return "\n".join([f"Jacobian: {head}", text_table(shown, self.rows), *lines])

    def to_dataframe(self) -> Any:
        """The rows as a pandas data frame.

        Raises:
            InputError: pandas is not installed.
        """
        return frame(self.rows)

    @property
    def unconverged(self) -> tuple[GradientRow, ...]:
        """Rows in which a phase of the estimate or of the oracle did not reach its tolerance."""
        return tuple(r for r in self.rows if min(r.converged, r.oracle_converged) < 1)

    @property
    def reasons(self) -> dict[str, int]:
        """The number of rows for each reason that occurs, worst reason first."""
        counts = {reason: sum(r.reason == reason for r in self.rows) for reason in REASONS}
        return {reason: count for reason, count in counts.items() if count}

    @property
    def compared(self) -> bool:
        """Whether any row holds a valid comparison."""
        return any(row.compared for row in self.rows)

    def explain(self, reason: str) -> str:
        """Format a reason with its details and its cure."""
        rows = [row for row in self.rows if row.reason == reason]
        if reason == FREE_UNSETTLED:
            settled = self.free.converged
            return (
                f"{reason} for {int((~settled).sum())} of {len(settled)} inputs (largest residual "
                f"{float(self.free.residual.max()):.2g}, tolerance {self.tolerance:g}): "
                f"{Status(int(self.free.status.max())).message}"
            )
        names = {row.oracle if reason == ORACLE_UNSETTLED else row.estimator for row in rows}
        known = {
            UNSTABLE: lambda row: ("largest real part", row.stability),
            ESTIMATE_UNSETTLED: lambda row: ("largest residual", row.residual),
            ORACLE_UNSETTLED: lambda row: ("largest residual", row.oracle_residual),
            DISAGREEMENT: lambda row: ("largest difference", row.oracle_difference),
        }
        of = f" ({', '.join(sorted(names))}"
        if reason in known:
            what, worst = max(known[reason](row) for row in rows)
            limit = {DISAGREEMENT: self.agreement, UNSTABLE: 0.0}.get(reason, self.tolerance)
            of += f"; {what} {worst:.2g}, tolerance {limit:g}"
        return f"{reason}{of}): {CURES[reason]}"


def allowed_difference(tolerance: float) -> float:
    """The relative difference of two oracles of this tolerance above which they disagree."""
    return max(tolerance, min(AGREEMENT * tolerance, LOOSE))


@answered
def check_gradients(
    field: VectorField,
    x: object,
    y: object,
    cost: CostLike = "squared-error",
    estimators: EstimatorLike | Sequence[EstimatorLike] = ("vector-field", "asym-ep"),
    betas: float | Sequence[float] = (1e-2,),
    oracles: EstimatorLike | Sequence[EstimatorLike] | None = None,
    *,
    settling: Settling | None = None,
    oracle_settling: Settling | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    done: Sequence[GradientRow] = (),
    on_rows: Callable[[Mapping[str, float | None], Sequence[GradientRow]], None] = lambda a, rows: (
        None
    ),
) -> GradientReport:
    """Compare estimates of -dJ/dtheta with the true gradient on one batch.

    Args:
        field: the network.
        x: clamped input, [B, n_in]: a tensor or array-like.
        y: labels [B] or targets [B, m], likewise.
        cost: name, object or function.
        estimators: one or several names, classes or objects; oracles among them are compared
            like estimators.
        betas: nudge strengths, for estimators that have one.
        oracles: one or several sources of the true gradient; None means `default_oracles`. They
            compute in float64, whatever the field's dtype.
        settling: how phases settle; the default has a tolerance of 1e-10 (float64) or 1e-6
            (float32).
        oracle_settling: how the oracles' phases settle, including their free phase; by default
            like the estimators' phases. Use it if those run in another engine.
        settings: further fields of the estimators (`nudging`, `points`, ...), passed to those
            that have them. Only the estimate of -dJ/dtheta is compared, without the
            regulariser of `homeostasis` and the decay of `kolen-pollack`.
        seed: seed of the random probes.
        done: rows of an earlier call with the same arguments; they are not computed again.
        on_rows: called with the asymmetry and the rows of each estimator and beta, once computed.

    Raises:
        InputError: an unknown name, beta = 0, or an estimator that cannot serve this field.
    """
    cost = get_cost(cost)
    if oracles is None:
        oracles = default_oracles(field)
    estimators, oracles, betas = (_several(each) for each in (estimators, oracles, betas))
    if not estimators or not oracles or not betas:
        raise InputError("give at least one estimator, one oracle and one beta")
    require_settings(settings or {}, estimators)
    settling = settling or default_settling(field.dtype)
    x = as_inputs(x, field)
    target = as_targets(y, field, len(x))
    free = free_phase(field, x, settling=settling)
    layout = Layout.of(field.parameters, field.partners())
    exact = Exact.of(field, x, target, free, settling, oracle_settling)
    truths = exact.truths(oracles, cost, layout)
    agreement = allowed_difference(exact.settling.tolerance)
    asymmetry, bounds = _asymmetry_and_bounds(field, x, target, cost, free, layout, seed)
    compared = [
        variant
        for choice in estimators
        for variant in variants(choice, betas, settling, settings or {})
    ]
    rows = list(done)
    for estimator, beta in compared[len(rows) // (len(truths) * len(bounds)) :]:
        estimate = estimator(field, x, target, cost, free=free)
        made = [
            row
            for truth in truths
            for row in _compare(estimator.name, beta, estimate, truth, layout, bounds, agreement)
        ]
        rows += made
        on_rows(asymmetry, made)
    return GradientReport(asymmetry, tuple(rows), settling.tolerance, agreement, free)


def _several(given: Any) -> tuple[Any, ...]:
    """Wrap one or several values in a tuple."""
    alone = isinstance(given, str) or not isinstance(given, Iterable)
    return (given,) if alone else tuple(given)


def default_oracles(field: VectorField) -> tuple[str, ...]:
    """`implicit` and, where the size allows, `unrolled`, which shares no derivative with it."""
    return ("implicit", "unrolled") if field.n <= EXACT_UP_TO else ("implicit",)


def default_settling(dtype: torch.dtype) -> Settling:
    """Settle phases as precisely as a comparison of gradients needs."""
    tolerance = 1e-10 if dtype == torch.float64 else 1e-6
    return Settling(tolerance=tolerance, free_steps=2000, nudged_steps=2000, verify=True)


def variants(
    choice: EstimatorLike, betas: Sequence[float], settling: Settling, settings: Mapping[str, Any]
) -> list[tuple[AbstractEstimator, float]]:
    """Make an estimator at each beta, or once, with beta NaN, if it has no beta.

    An object keeps its own settings, beta among them.

    Raises:
        InputError: an unknown name, or a setting outside its range.
    """
    if isinstance(choice, AbstractEstimator):
        made = make_estimator(choice, settling=settling)
        return [(made.without_regulariser(), getattr(made, "beta", math.nan))]
    kind = get_estimator(choice) if isinstance(choice, str) else choice
    if "beta" not in kind.__dataclass_fields__:
        betas, settings = [math.nan], {k: v for k, v in settings.items() if k != "beta"}
    made = [
        (make_estimator(kind, settling=settling, **{**settings, "beta": beta}), beta)
        for beta in betas
    ]
    return [(estimator.without_regulariser(), beta) for estimator, beta in made]


def _asymmetry_and_bounds(
    field: VectorField,
    x: Tensor,
    target: Tensor,
    cost: AbstractCost,
    free: Solution,
    layout: Layout,
    seed: int,
) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """Compute the asymmetry's measures and, by row, the bound on the batch gradient's error.

    ||nu + dJ/dtheta|| <= mean over rows of ||J^-1||^2 ||J - J^T|| ||c|| ||dmu/dtheta||, from
    J^-T - J^-1 = J^-T (J - J^T) J^-1 and the triangle inequality over the rows. Where the local
    rule sees D ds (activity coordinates), D J^-1 takes the place of J^-1, and
    J^-T - D J^-1 = J^-T (D J - J^T D) J^-1 + J^-T (1 - D), whose last term acts on c: zero on
    linear outputs. For several parameters ||dmu/dtheta||^2 is at most the sum over them.

    All are None if a row of the free phase has not converged, since the Jacobian is then taken
    at the wrong point.
    """
    s, rng = free.s, torch.Generator().manual_seed(seed)
    found = dict.fromkeys(("ratio", "standard_error", "symmetry_share", "probes"))
    known: dict[str, float | None] = {
        "free_residual": float(free.residual.max()),
        "free_converged": float(free.converged.double().mean()),
        "stability": stability([free]),
    }
    if known["free_converged"] != 1:
        measured = {**found, **weight_angles(field), "spectral_radius": None, **known}
        return measured, dict.fromkeys(layout.rows)
    at = field.linearise(s, field.drive(x))
    if field.n <= EXACT_UP_TO:
        found = dataclasses.asdict(exact_asymmetry(at))
    else:
        found = dataclasses.asdict(hutchinson_asymmetry(at, generator=rng))
    c = cost_slope(field, s, target, cost)
    size = torch.linalg.vector_norm(c, dim=1)
    inverse = inverse_norm(at, generator=rng)
    d = field.displacement_slope(at)
    common = inverse**2 * asymmetry_norm(at, d, generator=rng) * size
    if d is not None:
        common += inverse * torch.linalg.vector_norm(c - d * c, dim=1)
    norms = field.parameter_norms(x, s)
    bounds: dict[str, float | None] = dict.fromkeys(layout.rows)
    for row in layout.rows:
        if norms is None:
            break
        squares = torch.stack([norms[name].square() for name in layout.members(row)]).sum(0)
        norm = torch.minimum(squares.sqrt(), norms["all"])
        bounds[row] = _known(float((common * norm).mean()))
    some = at if field.n <= EXACT_UP_TO else at.take(slice(LARGE_ROWS))
    radius = _known(float(spectral_radius(some, generator=rng).max()))
    return {**found, **weight_angles(field), "spectral_radius": radius, **known}, bounds


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def weight_angles(field: VectorField) -> dict[str, float | None]:
    """Degrees between each feedback matrix and its transposed feedforward partner.

    An angle is None if one of the two is zero.
    """
    angles = {}
    for name, partner in field.partners().items():
        back, forward = field.parameters[name], field.mirror(name, field.parameters[partner])
        found, _ = measures(back.reshape(-1).double(), forward.reshape(-1).double())
        angles[f"weight_angle.{name.partition('.')[2]}"] = found["angle_degrees"]
    return angles


def _compare(
    name: str,
    beta: float,
    estimate: Estimate,
    truth: Truth,
    layout: Layout,
    bounds: Mapping[str, float | None],
    agreement: float,
) -> list[GradientRow]:
    """Compare one estimate with one oracle, row by row."""
    converged, residual = convergence(estimate)
    phases = [estimate.free, *estimate.nudged]
    common: dict[str, Any] = {
        "estimator": name,
        "beta": beta,
        "oracle": truth.name,
        "residual": max(residual, truth.residual),
        "converged": converged,
        "steps": sum(float(p.n_steps.double().mean()) for p in phases),
        "oracle_residual": truth.residual,
        "oracle_converged": truth.converged,
        "stability": stability(phases),
    }
    unfit = _unfit(estimate, truth)
    if unfit is not None:
        return [GradientRow(**common, parameter=row, reason=unfit) for row in layout.rows]
    update = layout.flat(estimate.updates)
    rows = []
    for row, here in layout.rows.items():
        found, wrong = measures(update[here], truth.gradient[here])
        difference = truth.differences[row]
        if wrong is None and difference is not None and not difference <= agreement:
            wrong = DISAGREEMENT
        error, bound = found["relative_error"], _over(bounds[row], truth.gradient[here])
        ratio = bound / error if bound is not None and error else None
        found |= {"oracle_difference": difference, "bound": bound, "bound_over_error": ratio}
        rows.append(GradientRow(**common, **found, parameter=row, reason=wrong))
    return rows


def _over(bound: float | None, gradient: Tensor) -> float | None:
    size = float(torch.linalg.vector_norm(gradient))
    return None if bound is None or size == 0 else _known(bound / size)


def _unfit(estimate: Estimate, truth: Truth) -> str | None:
    """Why an estimate and an oracle cannot be compared at all, or None."""
    if any(bool((p.status == Status.UNSTABLE).any()) for p in [estimate.free, *estimate.nudged]):
        return UNSTABLE
    if not bool(estimate.free.converged.all()):
        return FREE_UNSETTLED
    if not all(bool(phase.converged.all()) for phase in estimate.nudged):
        return ESTIMATE_UNSETTLED
    return None if truth.converged == 1 else ORACLE_UNSETTLED
