"""Solvers of F(s) = 0: one loop and several kinds of step."""

import inspect
from typing import Any

from bioplaus.calling import answered
from bioplaus.errors import InputError
from bioplaus.registry import unknown
from bioplaus.solvers.anderson import Anderson
from bioplaus.solvers.base import AbstractDynamics, AbstractSolver, Solution, Status
from bioplaus.solvers.entry import solve
from bioplaus.solvers.relaxation import Euler
from bioplaus.solvers.sweeps import DampedSweeps, Sweeps
from bioplaus.solvers.symmetric import SymmetricSweeps

SOLVERS: dict[str, type[AbstractSolver]] = {
    "euler": Euler,
    "sweeps": Sweeps,
    "symmetric-sweeps": SymmetricSweeps,
    "anderson": Anderson,
    "damped-sweeps": DampedSweeps,
}
"""The solvers of this package, by name."""


@answered
def get_solver(name: str | type[AbstractSolver], **settings: Any) -> AbstractSolver:
    """Make a solver from its name or class.

    The names and settings are `euler` (dt), `sweeps`, `symmetric-sweeps` (repeats), `anderson`
    (memory) and `damped-sweeps` (omega).

    Raises:
        InputError: the name is unknown, or a setting is outside its range.
    """
    if isinstance(name, str):
        if name not in SOLVERS:
            raise unknown("solver", name, SOLVERS)
        name = SOLVERS[name]
    if not (inspect.isclass(name) and issubclass(name, AbstractSolver)):
        what = name.__name__ if inspect.isclass(name) else type(name).__name__
        raise InputError(
            f"solver is no solver but {what}; give one of {', '.join(SOLVERS)}, or an "
            "AbstractSolver or its class"
        )
    return name(**settings)


__all__ = [
    "SOLVERS",
    "AbstractDynamics",
    "AbstractSolver",
    "Anderson",
    "DampedSweeps",
    "Euler",
    "Solution",
    "Status",
    "Sweeps",
    "SymmetricSweeps",
    "get_solver",
    "solve",
]
