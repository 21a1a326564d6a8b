"""A simulator of biologically plausible learning."""

from bioplaus.activations import Activation
from bioplaus.costs import AbstractCost
from bioplaus.data import Dataset
from bioplaus.estimators import (
    ESTIMATORS,
    ORACLES,
    AbstractEstimator,
    AsymEP,
    Estimate,
    VectorFieldEP,
    estimate_gradient,
)
from bioplaus.field_check import check_field
from bioplaus.fields import (
    Connection,
    Conv,
    Dense,
    FunctionField,
    Lateral,
    Layer,
    LayeredField,
    LeakyField,
    Tied,
    VectorField,
)
from bioplaus.gradient_check import GradientReport, check_gradients
from bioplaus.phases import Settling, free_phase, nudged_phase
from bioplaus.solvers import Solution, Status
from bioplaus.supporting import supports

__all__ = [
    "ESTIMATORS",
    "ORACLES",
    "AbstractCost",
    "AbstractEstimator",
    "Activation",
    "AsymEP",
    "Connection",
    "Conv",
    "Dataset",
    "Dense",
    "Estimate",
    "FunctionField",
    "GradientReport",
    "Lateral",
    "Layer",
    "LayeredField",
    "LeakyField",
    "Settling",
    "Solution",
    "Status",
    "Tied",
    "VectorField",
    "VectorFieldEP",
    "check_field",
    "check_gradients",
    "estimate_gradient",
    "free_phase",
    "nudged_phase",
    "supports",
]
