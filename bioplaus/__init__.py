"""A simulator of biologically plausible learning."""

from bioplaus.estimators import ESTIMATORS, Estimate
from bioplaus.fields import LeakyField
from bioplaus.phases import Settling, free_phase, nudged_phase
from bioplaus.solvers import Solution, Status

__all__ = [
    "ESTIMATORS",
    "Estimate",
    "LeakyField",
    "Settling",
    "Solution",
    "Status",
    "free_phase",
    "nudged_phase",
]
