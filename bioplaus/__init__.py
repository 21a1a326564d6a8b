"""A simulator of biologically plausible learning."""

from bioplaus.data import Dataset
from bioplaus.estimators import ESTIMATORS, ORACLES, Estimate, estimate_gradient
from bioplaus.fields import LeakyField
from bioplaus.gradient_check import GradientReport, check_gradients
from bioplaus.phases import Settling, free_phase, nudged_phase
from bioplaus.solvers import Solution, Status
from bioplaus.supporting import supports

__all__ = [
    "ESTIMATORS",
    "ORACLES",
    "Dataset",
    "Estimate",
    "GradientReport",
    "LeakyField",
    "Settling",
    "Solution",
    "Status",
    "check_gradients",
    "estimate_gradient",
    "free_phase",
    "nudged_phase",
    "supports",
]
