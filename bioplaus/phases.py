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
"""The |beta| from which on the tolerance holds as it is."""

ROUNDINGS = 4
"""A residual of so many machine precisions is as low as absolute states get."""

DynamicsFactory = Callable[[VectorField, Tensor, Nudge, Tensor], AbstractDeviations]
"""Makes a nudged phase's dynamics, in deviations from s*, from field, drive, nudge and s*."""


@dataclass(frozen=True)
class Settling(metaclass=Answered):
    """How phases settle.

    Attributes:
        solver: the kind of step; also by its name or its class.
        tolerance: relative residual ||F||/||s|| at which a row is done; 0 takes exactly the
            step limits. In nudged phases with |beta| below 0.1 it is smaller, see `nudged`.
        free_steps, nudged_steps: step limits of the two phases.
        check_every: number of steps between checks of the residual.
        verify: whether rows that converge must rest at an attractor, see `Solution.abscissa`.
            None asks it of small networks only: of a large one it costs ten times the phase.
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
        """The tolerance of a nudged phase: times |beta| / 0.1 where |beta| is below 0.1.

        A nudge moves the state by about beta ||s||: held to the same residual, a weak one would
        be taken for settled before it has moved anything.

        Args:
            beta: strength of the nudge.
            absolute: of states that are not kept as deviations: their residual does not fall
                below what rounding leaves of it.
        """
        if self.solver.absolute:  # what the free phase has left stays in the nudged ones
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
        x: clamped input, one a row.
        settling: solver, tolerance and step limits.
        start: first state [B, n] (a warm start); None starts from one pass upwards.
        drive: `field.drive(x)` if it is known already.

    Source: Scellier et al. 2018 (arXiv 1808.04873), section 3.
    """
    settling = settling or Settling()
    drive = field.drive(x) if drive is None else drive
    return solve(
        absolute(field, drive),
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
    """A free phase, and the energy at its start and after each of its steps.

    It does not rise: sweeps minimise it layer by layer, Euler's steps follow it down while they
    are small.

    Args:
        field: one that has an energy, see `bioplaus.fields.energy`.
        x: clamped input, one a row.
        settling: solver, tolerance and step limits.
        start: first state [B, n]; None starts from one pass upwards.

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

    What is settled is the deviation d = s_beta - s*, and given back beside the state. What the
    free phase has left of mu(x, s*) is left out.

    Args:
        field: the vector field.
        drive: `field.drive(x)`.
        free: s*, [B, n].
        cost: C.
        target: y, [B, m].
        beta: strength of the nudge, not zero; one for all or one a row [B, 1].
        settling: solver, tolerance and step limits.
        dynamics: what to settle in.

    Raises:
        InputError: beta is zero.
    """
    strength = per_row(beta, free)
    made = dynamics(field, drive, Nudge(cost, target, strength), free)
    return _settled(made, free, settling or Settling(), beta)


def _settled(
    dynamics: AbstractDeviations, free: Tensor, settling: Settling, beta: float | Tensor
) -> Solution:
    """Settle the deviations of as many rows as `free` has."""
    end = solve(
        dynamics.from_rest(),
        torch.zeros_like(free),
        settling.solver,
        tolerance=settling.nudged(beta),
        max_steps=settling.nudged_steps,
        check_every=settling.check_every,
        verify=settling.verify,
    )
    return dataclasses.replace(end, s=free + end.s, deviation=end.s)


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
    # what depends on the free state alone is computed once for both signs
    both = Nudge(cost, torch.cat((target, target)), torch.cat((strength, -strength)))
    pair = dynamics(field, drive, Nudge(cost, target, strength), free).take(
        torch.cat((rows, rows)), both
    )
    plus, minus = _settled(pair, torch.cat((free, free)), settling or Settling(), beta).chunk(2)
    return plus, minus


def per_row(beta: float | Tensor, s: Tensor) -> Tensor:
    """The strength of the nudge as a column [B, 1] of the dtype of `s`.

    Raises:
        InputError: beta is zero.
    """
    if isinstance(beta, Tensor):
        return beta
    if beta == 0:
        raise InputError(
            'beta=0 has no nudge; use beta != 0, or estimator="implicit" for the exact gradient'
        )
    return torch.full((s.shape[0], 1), beta, dtype=s.dtype, device=s.device)
