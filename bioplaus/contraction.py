"""Contraction: bound the spectral radius of a field's feedback loop during training."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus.calling import Answered
from bioplaus.errors import InputError
from bioplaus.fields import LayeredField, VectorField
from bioplaus.fields.connections import Connection, Tied
from bioplaus.linear import ritz_values
from bioplaus.phases import Settling, free_phase
from bioplaus.solvers import Sweeps

HARDEST = 0.5
"""The smallest factor by which one measurement may shrink the feedback."""


@dataclass(frozen=True)
class Contraction(metaclass=Answered):
    """How a training run keeps its field contracting; by default it does nothing.

    If the loop has spectral radius r, a phase of k steps leaves a residual of about r^k; k sweeps
    over two groups of layers leave r^(2k). Choose the limit, the number of steps and the gate
    together.

    Attributes:
        limit: largest spectral radius of J + 1, > 0; above it, feedback weights shrink.
        residual: residual that a free phase should leave after the given number of steps, in (0,
            1). It determines `limit` and replaces it.
        every: largest number of updates between measurements of the radius. The first comes after
            the first update; the next comes 1 update after a shrinkage, and otherwise after twice
            as many updates as the last. Feedback that grows fast is thus measured often.
        shrink: factor by which feedback weights are multiplied if the radius is slightly above the
            limit, in (0, 1); smaller if it is further above.
        rows: number of examples of the batch at which the radius is measured; the largest counts.
        products: number of products with the Jacobian per row and measurement.
        cap: largest norm of the feedback weights onto one unit (for a channel, of its kernels).
        standardise: whether to keep the forward weights onto each unit (or channel) below the
            outputs at mean zero and at their initial norm.
    """

    limit: float | None = None
    residual: float | None = None
    every: int = 20
    shrink: float = 0.97
    rows: int = 16
    products: int = 12
    cap: float | None = None
    standardise: bool = False

    def __post_init__(self) -> None:
        for name, most in (("limit", math.inf), ("cap", math.inf), ("residual", 1), ("shrink", 1)):
            value = getattr(self, name)
            if value is not None and not 0 < value < most:
                bounds = "> 0" if most == math.inf else "between 0 and 1"
                raise InputError(f"contraction: {name}={value!r} must be {bounds}")
        for name in ("every", "rows", "products"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"contraction: {name}={value!r} must be a whole number >= 1")
        if self.limit is not None and self.residual is not None:
            raise InputError("contraction: limit follows from residual; give one of the two")

    @property
    def looks(self) -> bool:
        """Whether the radius is measured."""
        return self.limit is not None or self.residual is not None

    @property
    def acts(self) -> bool:
        """Whether any setting is active."""
        return self.looks or self.cap is not None or self.standardise


@dataclass(frozen=True)
class Act:
    """Record of one time that feedback was shrunk.

    Attributes:
        step: the update after which it happened.
        radius: spectral radius of the loop before it.
        limit: limit of the radius.
        factor: factor by which the feedback weights were multiplied.
    """

    step: int
    radius: float
    limit: float
    factor: float


@torch.no_grad()
def loop_radius(field: VectorField, s: Tensor, drive: Tensor, *, products: int = 12) -> Tensor:
    """The largest |eigenvalue| of J_s + 1 at each row, [B].

    It is computed from the Ritz values of an Arnoldi process. Unlike power iteration, the process
    uses every product and also works if the eigenvalues come in pairs +-r, as they do in layers
    that act on each other.

    Args:
        field: the vector field.
        s: states, [B, n].
        drive: `field.drive(x)` of each state.
        products: number of products with J; 12 come within a few percent of the result of 150.

    Source: Saad, Numerical Methods for Large Eigenvalue Problems, section 6.2.
    """
    at = field.linearise(s, drive)
    start = torch.randn(s.shape, generator=torch.Generator().manual_seed(0), dtype=s.dtype)
    values = ritz_values(lambda v: at.jvp(v) + v, start.to(s.device), products=products)
    return values.abs().amax(1)


def limit_for(residual: float, settling: Settling, field: VectorField) -> float:
    """The spectral radius at which a free phase leaves a given residual.

    It is residual^(1/k), where k is the number of applications of J + 1. A sweep over two groups
    of layers counts as two, since each group sees the newest state of the other. A field that
    amplifies signals transiently leaves a larger residual.
    """
    two = (
        isinstance(settling.solver, Sweeps)
        and isinstance(field, LayeredField)
        and len(field.groups) == 2
        and not any(field.acts_on_itself(k) for k in range(len(field.layers)))
    )
    return residual ** (1 / ((2 if two else 1) * settling.free_steps))


class Controller:
    """Applies a `Contraction` to a field after each update.

    Attributes:
        due: number of the update, counted from 1, after which the radius is to be measured.
        gap: number of updates from the last measurement to that one.
    """

    def __init__(self, settings: Contraction, field: VectorField, settling: Settling) -> None:
        """Find the weights that the settings constrain.

        Raises:
            InputError: the field has no weights to which a setting applies.
        """
        self.settings, self.field, self.settling = settings, field, settling
        self.due = self.gap = 1
        self.limit = settings.limit or (
            limit_for(settings.residual, settling, field) if settings.residual else math.inf
        )
        self._back, self._cap = field.feedback(), settings.cap or math.inf
        if (settings.looks or settings.cap) and not self._back:
            raise InputError(
                f"contraction shrinks feedback weights, and {field!r} has none; leave its limit, "
                "residual and cap out"
            )
        self._capped = _named(field, self._back) if settings.cap else []
        self._standard = _forward(field) if settings.standardise else []
        self._norms = {
            c.name: _unit_norms(c, _centred(c, field.parameters[c.name])).mean()
            for c in self._standard
        }

    @torch.no_grad()
    def constrain(self) -> None:
        """Project the weights back onto their constraints after an update, in place."""
        for c in self._standard:
            centred = _centred(c, self.field.parameters[c.name])
            norms = _unit_norms(c, centred)
            centred *= self._norms[c.name] / norms.clamp_min(_tiny(norms))
            self.field.parameters[c.name].copy_(centred)
        for c in self._capped:
            weight = self.field.parameters[c.name]
            norms = _unit_norms(c, weight)
            weight.mul_((self._cap / norms.clamp_min(_tiny(norms))).clamp_max(1.0))

    @torch.no_grad()
    def look(self, step: int, x: Tensor) -> tuple[float, Act | None]:
        """Measure the loop's radius on a batch, and shrink the feedback if it exceeds the limit.

        A loop of two layers shrinks by the square root of the factor of its feedback, so that the
        factor (limit / radius)^2 reaches the limit at once. The factor is clipped to
        [HARDEST, `shrink`].

        Args:
            step: number of updates done.
            x: the batch; only its first rows are used.

        Returns:
            The radius, infinite if it is not a number, and the action taken, if any.
        """
        x = x[: self.settings.rows]
        drive = self.field.drive(x)
        free = free_phase(self.field, x, settling=self.settling, drive=drive)
        sound = torch.isfinite(free.s).all(1)
        radius = math.inf
        if bool(sound.all()):
            found = loop_radius(self.field, free.s, drive, products=self.settings.products)
            radius = float(found.max())
        over = radius > self.limit
        self.gap = 1 if over else min(2 * self.gap, self.settings.every)
        self.due = step + self.gap
        if not over:
            return radius, None
        share = min(self.settings.shrink, (self.limit / radius) ** 2)
        factor = max(HARDEST, share)
        for name in self._back:
            self.field.parameters[name].mul_(factor)
        return radius, Act(step, radius, self.limit, factor)


def _named(field: VectorField, names: list[str]) -> list[Connection]:
    if not isinstance(field, LayeredField):
        raise InputError(f"contraction: cap is about units of layers, and {field!r} has none")
    return [c for c in field.connections if c.name in names]


def _forward(field: VectorField) -> list[Connection]:
    """The connections whose weights are standardised.

    Raises:
        InputError: there are none, or their weights have a prescribed sign.
    """
    connections = field.connections if isinstance(field, LayeredField) else ()
    last = len(getattr(field, "layers", ()))
    found = [
        c
        for c in connections
        if c.source < c.target < last and not isinstance(c, Tied) and c.name in field.parameters
    ]
    if not found:
        raise InputError(
            f"contraction: standardise is about forward weights below the outputs, and {field!r} "
            "has none that learn; leave it out"
        )
    signed = next((c.name for c in found if c.signs is not None), None)
    if signed is not None:
        raise InputError(
            f"contraction: standardise gives weights of both signs, and {signed} has signs of its "
            "own; leave one out"
        )
    return found


def _over(c: Connection, weight: Tensor) -> tuple[int, ...]:
    """The dimensions of a weight that run over the synapses onto one unit."""
    unit = 1 if getattr(c, "feedback", False) else 0
    return tuple(d for d in range(weight.ndim) if d != unit)


def _unit_norms(c: Connection, weight: Tensor) -> Tensor:
    return torch.linalg.vector_norm(weight, dim=_over(c, weight), keepdim=True)


def _centred(c: Connection, weight: Tensor) -> Tensor:
    """Subtract from the weights onto each unit their mean over the existing synapses."""
    over = _over(c, weight)
    if c.mask is None:
        return weight - weight.mean(over, keepdim=True)
    mask = c.mask.to(weight).expand_as(weight)
    mean = (weight * mask).sum(over, keepdim=True) / mask.sum(over, keepdim=True).clamp_min(1)
    return (weight - mean) * mask


def _tiny(of: Tensor) -> float:
    return torch.finfo(of.dtype).tiny
