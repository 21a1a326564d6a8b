"""The two settlings of equilibrium propagation: the free phase and the nudged phases."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bioplaus.calling import Answered, answered
from bioplaus.costs import AbstractCost
from bioplaus.device.resident import solve
from bioplaus.errors import InputError
from bioplaus.fields import VectorField, energy
from bioplaus.nudging import AbstractDeviations, Nudge, absolute, deviations
from bioplaus.solvers import AbstractSolver, Solution, Sweeps, get_solver

FULL_NUDGE = 0.1
"""The |beta| from which on nudged phases use the tolerance unscaled."""

ROUNDINGS = 4
"""The lowest residual that absolute states can reach, in units of the machine precision."""

DynamicsFactory = Callable[[VectorField, Tensor, Nudge, Tensor], AbstractDeviations]
"""Makes the dynamics of a nudged phase in deviations from s*: (field, drive, nudge, s*)."""


@dataclass(frozen=True)
class Settling(metaclass=Answered):
    """How phases settle.

    Attributes:
        solver: the kind of step: a solver, its name or its class.
        tolerance: relative residual ||F||/||s|| at which a row is done; 0 takes exactly the
            step limits. In nudged phases with |beta| below 0.1 it is smaller, see `nudged`.
        free_steps, nudged_steps: step limits of the two phases.
        check_every: number of steps between checks of the residual.
        verify: whether converged rows must rest at an attractor, see `Solution.abscissa`. None
            checks small networks only, since in a large one the check costs ten times the phase.
    """

    solver: AbstractSolver = field(default_factory=Sweeps)
    tolerance: float = 1e-4
    free_steps: int = 1000
    nudged_steps: int = 1000
    check_every: int = 1
    verify: bool | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.solver, AbstractSolver):  # a name, or a class
            object.__setattr__(self, "solver", get_solver(self.solver))
        if not 0 <= self.tolerance < math.inf:
            raise InputError(f"tolerance={self.tolerance} must be >= 0 and finite")
        for name in ("free_steps", "nudged_steps", "check_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} must be at least 1")

    def nudged(self, beta: float | Tensor, absolute: torch.dtype | None = None) -> float:
        """The tolerance of a nudged phase: scaled by |beta| / 0.1 if |beta| is below 0.1.

        A nudge moves the state by about beta ||s||. At a fixed tolerance, a weakly nudged phase
        would count as settled before it has moved.

        Args:
            beta: strength of the nudge.
            absolute: dtype of states that are not stored as deviations; rounding bounds their
                residual from below.
        """
        if self.solver.absolute:  # the residual of the free phase remains in the nudged ones
            return self.tolerance
        size = float(beta.abs().min()) if isinstance(beta, Tensor) else abs(beta)
        made = self.tolerance * min(1.0, size / FULL_NUDGE)
        if absolute is None:
            return made
        return max(made, min(self.tolerance, ROUNDINGS * torch.finfo(absolute).eps))


@answered
@torch.no_grad()
def free_phase(
    field: VectorField,
    x: Tensor,
    *,
    settling: Settling | None = None,
    start: Tensor | None = None,
    drive: Tensor | None = None,
) -> Solution:
    """Settle to s* with mu(x, s*) = 0.

    Args:
        field: the vector field.
        x: clamped input, one per row.
        settling: solver, tolerance and step limits.
        start: initial state [B, n] (a warm start); None starts from a feedforward pass.
        drive: `field.drive(x)` if it is known already.

    Source: Scellier et al. 2018 (arXiv 1808.04873), section 3.
    """
    settling = settling or Settling()
    drive = field.drive(x) if drive is None else drive
    made = absolute(field, drive)
    if start is None and settling.solver.from_rest and made.links() is not None:
        made, start = made.from_rest(), VectorField.initial_state(field, drive)
    return solve(
        made,
        field.initial_state(drive) if start is None else start,
        settling.solver,
        tolerance=settling.tolerance,
        max_steps=settling.free_steps,
        check_every=settling.check_every,
        verify=settling.verify,
    )


@answered
@torch.no_grad()
def free_energies(
    field: VectorField,
    x: Tensor,
    *,
    settling: Settling | None = None,
    start: Tensor | None = None,
) -> tuple[Solution, Tensor]:
    """Run a free phase, and record the energy at its start and after each step.

    The energy does not rise: sweeps minimise it layer by layer, and small Euler steps descend it.

    Args:
        field: a field that has an energy, see `bioplaus.fields.energy`.
        x: clamped input, one per row.
        settling: solver, tolerance and step limits.
        start: initial state [B, n]; None starts from a feedforward pass.

    Returns:
        The phase, and the energies, [T + 1, B].

    Raises:
        InputError: the field has no energy; one line that says why.
    """
    settling, drive = settling or Settling(), field.drive(x)
    s = field.initial_state(drive) if start is None else start
    found = [energy(field, x, s)]
    while True:
        end = solve(
            absolute(field, drive),
            s,
            settling.solver,
            tolerance=settling.tolerance,
            max_steps=1,
            check_every=1,
            verify=False,
        )
        s = end.s
        found.append(energy(field, x, s))
        if len(found) > settling.free_steps or bool(end.converged.all()):
            steps = torch.full_like(end.n_steps, len(found) - 1)
            return dataclasses.replace(end, n_steps=steps), torch.stack(found)


@answered
@torch.no_grad()
def nudged_phase(
    field: VectorField,
    drive: Tensor,
    free: Tensor,
    cost: AbstractCost,
    target: Tensor,
    beta: float | Tensor,
    *,
    settling: Settling | None = None,
    dynamics: DynamicsFactory = deviations,
) -> Solution:
    """Settle to s_beta with mu(x, s) - beta dC/ds = 0, starting from the free fixed point.

    The solver works on the deviation d = s_beta - s*, which is returned along with the state. The
    residual mu(x, s*) of the free phase is subtracted.

    Args:
        field: the vector field.
        drive: `field.drive(x)`.
        free: s*, [B, n].
        cost: C.
        target: y, [B, m].
        beta: strength of the nudge, not zero; one for all rows or one per row [B, 1].
        settling: solver, tolerance and step limits.
        dynamics: makes the dynamics of the phase.

    Raises:
        InputError: beta is zero.
    """
    strength = per_row(beta, free)
    made = dynamics(field, drive, Nudge(cost, target, strength), free)
    return _settled(made, free, settling or Settling(), beta)


def _settled(
    dynamics: AbstractDeviations,
    free: Tensor,
    settling: Settling,
    beta: float | Tensor,
    times: int = 1,
) -> Solution:
    """Settle the deviations of all rows of `free`, which occur `times` in the dynamics."""
    end = solve(
        dynamics.from_rest(),
        free.new_zeros(times * len(free), free.shape[1]),
        settling.solver,
        tolerance=settling.nudged(beta),
        max_steps=settling.nudged_steps,
        check_every=settling.check_every,
        verify=settling.verify,
    )
    s = (free + end.s.view(times, *free.shape)).view(end.s.shape)
    return dataclasses.replace(end, s=s, deviation=end.s)


@torch.no_grad()
def phase_pair(
    field: VectorField,
    drive: Tensor,
    free: Tensor,
    cost: AbstractCost,
    target: Tensor,
    beta: float,
    *,
    settling: Settling | None = None,
    dynamics: DynamicsFactory = deviations,
) -> tuple[Solution, Solution]:
    """The nudged phases at +beta and -beta, both from s*, settled as one batch of 2B rows."""
    strength, rows = per_row(beta, free), torch.arange(len(free), device=free.device)
    # terms that depend only on the free state are computed once for both signs
    both = Nudge(cost, torch.cat((target, target)), torch.cat((strength, -strength)))
    pair = dynamics(field, drive, Nudge(cost, target, strength), free).take(
        torch.cat((rows, rows)), both
    )
    plus, minus = _settled(pair, free, settling or Settling(), beta, times=2).chunk(2)
    return plus, minus


def per_row(beta: float | Tensor, s: Tensor) -> Tensor:
    """The strength of the nudge as a column [B, 1] with the dtype of `s`.

    Raises:
        InputError: beta is zero.
    """
    if isinstance(beta, Tensor):
        return beta.to(torch.promote_types(beta.dtype, s.dtype) if beta.is_complex() else s.dtype)
    if beta == 0:
        raise InputError(
            'beta=0 has no nudge; use beta != 0, or estimator="implicit" for the exact gradient'
        )
    return torch.full((s.shape[0], 1), beta, dtype=s.dtype, device=s.device)
