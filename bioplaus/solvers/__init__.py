"""Solvers of F(s) = 0: one loop, several kinds of step."""

from bioplaus.errors import InputError
from bioplaus.solvers.anderson import Anderson
from bioplaus.solvers.base import AbstractDynamics, AbstractSolver, Solution, Status
from bioplaus.solvers.loop import solve
from bioplaus.solvers.relaxation import Euler
from bioplaus.solvers.sweeps import Sweeps

SOLVERS: dict[str, type[AbstractSolver]] = {"euler": Euler, "sweeps": Sweeps, "anderson": Anderson}


def get_solver(name: str, **settings: float) -> AbstractSolver:
    """Make a solver by name: `euler` (dt), `sweeps`, `anderson` (memory).

    Raises:
        InputError: the name is unknown, or a setting is outside its range.
    """
    if name not in SOLVERS:
        raise InputError(f"solver={name!r} is unknown; use one of {', '.join(SOLVERS)}")
    return SOLVERS[name](**settings)


__all__ = [
    "SOLVERS",
    "AbstractDynamics",
    "AbstractSolver",
    "Anderson",
    "Euler",
    "Solution",
    "Status",
    "Sweeps",
    "get_solver",
    "solve",
]
