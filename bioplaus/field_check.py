"""Check a field's hand-written methods against its formula: `check_field`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bioplaus.activations import Activation
from bioplaus.arguments import as_inputs
from bioplaus.calling import answered
from bioplaus.costs import SquaredError, one_hot
from bioplaus.errors import InputError
from bioplaus.fields.base import VectorField
from bioplaus.fields.layered import LayeredField
from bioplaus.fields.linearisation import FunctionalLinearisation
from bioplaus.fields.norms import parameter_norms
from bioplaus.fields.symmetry import EXACT_UP_TO, symmetrising_update
from bioplaus.frames import frame
from bioplaus.nudging import Nudge, absolute, deviations, symmetrised
from bioplaus.phases import Settling, free_phase

STEP = 1e-6
"""Step of finite differences, where no other derivative is available."""

ROUGH = 1e-5
"""Tolerance of comparisons with finite differences."""


@dataclass(frozen=True)
class FieldRow:
    """Comparison of one method with the formula.

    Attributes:
        what: the method, and where it was evaluated.
        error: largest difference over the largest entry (or over 1, if that is smaller).
        tolerance: largest error that passes.
        hint: the usual cause of a failure.
    """

    what: str
    error: float
    tolerance: float
    hint: str = ""

    @property
    def passed(self) -> bool:
        """Whether the two agree; a non-finite error fails."""
        return self.error <= self.tolerance


@dataclass(frozen=True)
class FieldReport:
    """The result of `check_field`, one row per comparison."""

    rows: tuple[FieldRow, ...]

    @property
    def failures(self) -> tuple[FieldRow, ...]:
        """The rows that fail."""
        return tuple(row for row in self.rows if not row.passed)

    def to_dataframe(self) -> Any:
        """The rows as a pandas data frame.

        Raises:
            InputError: pandas is not installed.
        """
        return frame(self.rows)

    def __repr__(self) -> str:
        width = max(len(row.what) for row in self.rows)
        lines = [
            f"{row.what:<{width}}  {row.error:8.1e}  {'' if row.passed else 'WRONG: ' + row.hint}"
            for row in self.rows
        ]
        return "\n".join(line.rstrip() for line in lines)


class FieldMismatch(InputError):
    """A method of a field contradicts its formula; `report` shows which one."""

    def __init__(self, field: VectorField, report: FieldReport) -> None:
        """Compose a message that names the failing methods."""
        self.report = report
        wrong = "; ".join(
            f"{row.what} is off by {row.error:.1e} (tolerance {row.tolerance:g}): {row.hint}"
            for row in report.failures
        )
        super().__init__(f"{type(field).__name__} contradicts its own formula: {wrong}")


@answered
@torch.no_grad()
def check_field(
    field: VectorField,
    x: object = None,
    *,
    rows: int = 4,
    seed: int = 0,
    tolerance: float = 1e-10,
) -> FieldReport:
    """Compare every method of a field with `field(x, s)` and its derivatives by autograd.

    The check covers Jacobian products, the local update, drives, groups, slopes, differences of
    rho, norms, masks, and the dynamics of the phases. It evaluates them in float64 at random
    states, far from the origin, on the walls of boxes, after parameters have been changed in
    place, and with output buffers that hold NaN. A method that the field does not override passes
    trivially.

    Args:
        field: any field; it is not changed.
        x: inputs, one per row, a tensor or array-like; by default drawn from [0, 1) if the field
            declares its `input`.
        rows: number of inputs to draw.
        seed: seed of the random states.
        tolerance: relative tolerance of exact comparisons.

    Returns:
        A report with one row per comparison; its repr is a table.

    Raises:
        FieldMismatch: a method contradicts the formula; `.report` holds all comparisons.
        InputError: x is missing, or the formula itself is unusable.
    """
    if rows < 1:
        raise InputError(f"rows={rows} must be at least 1")
    g = torch.Generator().manual_seed(seed)
    field = copy.deepcopy(field).precise()
    if x is None:
        if field.input is None:
            raise InputError(
                f"{field!r} does not say the shape of its input: give x=..., or input=... where "
                "the field is made"
            )
        x = torch.rand(rows, *field.input, generator=g, dtype=torch.float64)
    x = as_inputs(x, field)
    looked = _Look(field, x, g, tolerance)
    report = FieldReport(tuple(looked.all()))
    if report.failures:
        raise FieldMismatch(field, report)
    return report


class _Look:
    """The comparisons for one field, in double precision."""

    def __init__(self, field: VectorField, x: Tensor, g: torch.Generator, tolerance: float) -> None:
        self.field, self.x, self.g, self.tolerance = field, x, g, tolerance
        self.states = {
            "near rest": 0.3 + 0.2 * self._draw(),
            "far out": 2.0 * self._draw(),
        }

    def _draw(self, *shape: int) -> Tensor:
        size = shape or (len(self.x), self.field.n)
        return torch.randn(size, generator=self.g, dtype=torch.float64)

    def _row(
        self, what: str, got: Tensor, expected: Tensor, hint: str, rough: float | None = None
    ) -> FieldRow:
        if got.shape != expected.shape:
            hint = f"of shape {tuple(got.shape)}, not {tuple(expected.shape)}"
            return FieldRow(what, float("inf"), self.tolerance, hint)
        limit = self.tolerance if rough is None else rough
        if not got.numel():
            return FieldRow(what, 0.0, limit, hint)
        size = max(1.0, float(expected.abs().max()))
        error = float((got - expected).abs().max()) / size
        return FieldRow(what, error if error == error else float("inf"), limit, hint)

    def all(self) -> Iterator[FieldRow]:
        """Yield every comparison; an unusable formula ends the check."""
        yield from self._formula()
        for where, s in self.states.items():
            yield from self._at(where, s)
        yield from self._changed()
        yield from self._copied()
        if isinstance(self.field, LayeredField):
            for k, spec in enumerate(self.field.specs, 1):
                yield from self._activation(f"layer {k}", spec.rho)
        yield from self._phases()
        if self.field.not_holomorphic() is None:
            yield self._holomorphic()

    def _formula(self) -> Iterator[FieldRow]:
        s, field = self.states["near rest"], self.field
        mu = field.field(self.x, s)
        if mu.shape != s.shape or not bool(torch.isfinite(mu).all()):
            raise InputError(
                f"field(x, s) gave {tuple(mu.shape)} {'' if mu.shape != s.shape else 'not finite '}"
                f"for states of shape {tuple(s.shape)}"
            )
        apart = torch.cat([field.field(self.x[i : i + 1], s[i : i + 1]) for i in range(len(s))])
        yield self._row("field, row by row", apart, mu, "the rows of a batch act on one another")
        hint = "it does not follow the dtype of its arguments"
        single = field.with_parameters({k: p.float() for k, p in field.parameters.items()})
        try:
            low = single.field(self.x.float(), s.float())
        except RuntimeError as error:
            hint, low = f"{hint}: {str(error).splitlines()[0]}", mu
        of_single = low.double() if low.dtype == torch.float32 else torch.full_like(mu, torch.nan)
        yield self._row("field in float32", of_single, mu, hint, rough=1e-3)

    def _at(self, where: str, s: Tensor) -> Iterator[FieldRow]:
        field, x = self.field, self.x
        drive = field.drive(x)
        yield self._row(
            f"driven, {where}",
            field.driven(drive, s),
            field.field(x, s),
            "drive and driven leave out or add a part of the formula (a bias, a mask, pooling)",
        )
        truth = FunctionalLinearisation(s, x, field.field)
        at, v = field.linearise(s, drive), self._draw()
        yield self._row(f"jvp, {where}", at.jvp(v), truth.jvp(v), "not the Jacobian times v")
        yield self._row(
            f"vjp, {where}", at.vjp(v), truth.vjp(v), "not the transposed Jacobian times v"
        )
        some = torch.tensor([len(s) - 1, 0, 0])
        yield self._row(
            f"linearise(...).take, {where}",
            at.take(some).vjp(v[some]),
            truth.vjp(v)[some],
            "rows that are taken do not keep their state",
        )
        yield from self._update(where, s, at.reached(v), v)
        yield from self._norms(where, s)
        slope, d = field.displacement_slope(at), STEP * v
        yield self._row(
            f"displacement_slope, {where}",
            v if slope is None else slope * v,
            field.displacement(s, d) / STEP,
            "not the slope of displacement",
            rough=10 * ROUGH,
        )

    def _update(self, where: str, s: Tensor, reached: Tensor, v: Tensor) -> Iterator[FieldRow]:
        field = self.field
        hint = "not (dmu/dtheta)^T delta (an outer product the wrong way round, a mask, a factor)"
        formula = _formula_of(field)
        pull = torch.func.vjp(lambda t: formula(t, self.x, s), dict(field.parameters))[1]
        truth = pull(v / len(v))[0]
        got = field.local_update(self.x, s, reached)
        if set(got) != set(field.parameters):
            yield FieldRow("local_update", float("inf"), self.tolerance, "of other names")
            return
        buffers = {k: torch.full_like(p, torch.nan) for k, p in field.parameters.items()}
        written = field.local_update(self.x, s, reached, buffers)
        for name in field.parameters:
            yield self._row(f"local_update of {name}, {where}", got[name], truth[name], hint)
            yield self._row(
                f"local_update of {name} into a buffer, {where}",
                written[name],
                truth[name],
                "a buffer keeps something of what was in it",
            )

    def _norms(self, where: str, s: Tensor) -> Iterator[FieldRow]:
        bounds = self.field.parameter_norms(self.x, s)
        truth = parameter_norms(_formula_of(self.field), self.field.parameters, self.x, s)
        if bounds is None or truth is None:
            return
        for name, exact in truth.items():
            excess = (exact - bounds[name]).clamp_min(0.0)
            hint = "below ||dmu/dtheta||"
            yield self._row(
                f"parameter_norms of {name}, {where}", excess, torch.zeros_like(exact), hint
            )

    def _changed(self) -> Iterator[FieldRow]:
        """Compare after parameters have been changed in place, and by `constrain`."""
        moved, s = copy.deepcopy(self.field), self.states["near rest"]
        moved.drive(self.x)  # fill any caches before the parameters change
        for p in moved.parameters.values():
            p.add_(0.1 * self._draw(*p.shape) if p.ndim else 0.1)
        fresh = self.field.with_parameters({k: p.clone() for k, p in moved.parameters.items()})
        expected, hint = fresh.field(self.x, s), "a weight is kept from before a change in place"
        yield self._row("field after a change in place", moved.field(self.x, s), expected, hint)
        got = moved.driven(moved.drive(self.x), s)
        yield self._row("driven after a change in place", got, expected, hint)
        at, truth = moved.linearise(s, moved.drive(self.x)), self._draw()
        product = FunctionalLinearisation(s, self.x, fresh.field).vjp(truth)
        yield self._row("vjp after a change in place", at.vjp(truth), product, hint)
        moved.constrain()
        once = {k: p.clone() for k, p in moved.parameters.items()}
        moved.constrain()
        for name, p in moved.parameters.items():
            yield self._row(f"constrain of {name}, twice", p, once[name], "not idempotent")

    def _copied(self) -> Iterator[FieldRow]:
        s, other = self.states["near rest"], copy.deepcopy(self.field)
        expected = self.field.field(self.x, s)
        for p in other.parameters.values():
            p.zero_()
        hint = "a copy shares its tensors"
        yield self._row("field beside a changed copy", self.field.field(self.x, s), expected, hint)
        drive = self.field.drive(self.x)
        start = self.field.initial_state(drive)
        inside = self.field.confine_state(start.clone())
        yield self._row("initial_state", start, inside, "outside its box")
        yield self._row("shape of initial_state", start * 0, torch.zeros_like(s), "of another size")
        if self.field.n <= EXACT_UP_TO:
            truth = symmetrising_update(
                lambda t, z: _formula_of(self.field)(t, self.x, z), self.field.parameters, s, None
            )
            for name, update in self.field.symmetrising_update(s, drive).items():
                yield self._row(
                    f"symmetrising_update of {name}",
                    update,
                    truth[name],
                    "not the gradient of ||J - J^T||^2 / 2",
                )

    def _activation(self, where: str, rho: Activation) -> Iterator[FieldRow]:
        z, d = 1.5 * self._draw(50), 0.5 * self._draw(50)
        named = f"{rho.name} of {where}"
        slope = torch.func.vjp(rho.value, z)[1](torch.ones_like(z))[0]
        yield self._row(f"derivative of {named}", rho.slope(z), slope, "not that of the value")
        change = rho.value(z + d) - rho.value(z)
        yield self._row(f"change of {named}", rho.difference(z, d), change, "not a difference")
        out = torch.full_like(z, torch.nan)
        yield self._row(f"{named} into a buffer", rho(z, out), rho.value(z), "not the value")

    def _phases(self) -> Iterator[FieldRow]:
        """Compare the dynamics, in the state and in deviations from a fixed point."""
        field, drive = self.field, self.field.drive(self.x)
        s = field.confine_state(self.states["near rest"].clone())
        free = absolute(field, drive)
        expected = field.field(self.x, s)
        nan = torch.full_like(s, torch.nan)
        yield self._row("force of the free phase", free.force(s, nan.clone()), expected, "not mu")
        for group in free.groups:
            free.settle(s, group)
            if len(free.groups) > 1:
                force = field.field(self.x, s)
                still = [k for k in group if not field.acts_on_itself(k)]  # pyright: ignore[reportAttributeAccessIssue]
                left = torch.cat([force[:, field.layers[k]] for k in still] or [force[:, :0]], 1)  # pyright: ignore[reportAttributeAccessIssue]
                yield self._row(
                    f"settling group {group}",
                    left,
                    torch.zeros_like(left),
                    "layers of one group act on one another",
                )
        settling = Settling(tolerance=1e-13, free_steps=3000, nudged_steps=3000, verify=False)
        found = free_phase(field, self.x, settling=settling)
        if bool(found.converged.all()):
            yield from self._nudged(drive, found.s)

    def _nudged(self, drive: Tensor, s: Tensor) -> Iterator[FieldRow]:
        field, m = self.field, self.field.n_output
        target = one_hot(torch.arange(len(s)) % m, m, torch.float64)
        nudge = Nudge(SquaredError(), target, torch.full((len(s), 1), 0.3, dtype=torch.float64))
        d = field.confine_state(s + 0.05 * self._draw()) - s
        nan = torch.full_like(s, torch.nan)
        expected = absolute(field, drive, nudge).force(s + d, nan.clone())
        if isinstance(field, LayeredField) and not all(
            w.connection.linear for into in field.wires_at(field.split(s)).within for _, w in into
        ):
            return  # nudged phases freeze pooling, so they differ from the field by design
        got = deviations(field, drive, nudge, s).force(d, nan.clone())
        yield self._row("force in deviations", got, expected, "not mu(s* + d)", rough=1e-9)
        boxed = field.box is not None or (
            isinstance(field, LayeredField) and any(spec.box for spec in field.specs)
        )
        if not boxed:
            at = FunctionalLinearisation(s, self.x, field.field)
            got = symmetrised(field, drive, nudge, s).force(d, nan.clone())
            expected = expected - at.jvp(d) + at.vjp(d)
            yield self._row("force of asym-ep", got, expected, "not mu - (J - J^T) d", rough=1e-9)

    def _holomorphic(self) -> FieldRow:
        field, s, v = self.field, self.states["near rest"], self._draw()
        other = field.with_parameters(
            {k: p.to(torch.complex128) for k, p in field.parameters.items()}
        )
        moved = other.field(self.x.to(torch.complex128), torch.complex(s, STEP * v)).imag / STEP
        product = FunctionalLinearisation(s, self.x, field.field).jvp(v)
        hint = "not analytic, though the field says so"
        return self._row("field at complex states", moved, product, hint, rough=ROUGH)


def _formula_of(field: VectorField) -> Callable[..., Tensor]:
    return lambda theta, x, s: field.with_parameters(theta).field(x, s)
