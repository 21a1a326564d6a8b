"""A simulator of biologically plausible learning.

A name is imported when it is first used, so that `import bioplaus` costs little more than torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bioplaus.activations import Activation
    from bioplaus.contraction import Contraction
    from bioplaus.costs import AbstractCost
    from bioplaus.data import Augment, Dataset
    from bioplaus.errors import InputError
    from bioplaus.estimators import (
        ESTIMATORS,
        ORACLES,
        AbstractEstimator,
        AsymEP,
        Continual,
        Dyadic,
        Estimate,
        FiniteDifference,
        Holomorphic,
        Homeostasis,
        Implicit,
        KolenPollack,
        RecurrentBackprop,
        Unrolled,
        VectorFieldEP,
        estimate_gradient,
    )
    from bioplaus.field_check import FieldReport, check_field
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
        energy,
        hopfield,
    )
    from bioplaus.fields.stored import load
    from bioplaus.gradient_check import GradientReport, check_gradients
    from bioplaus.phases import Settling, free_energies, free_phase, nudged_phase
    from bioplaus.solvers import AbstractSolver, Anderson, Euler, Solution, Status, Sweeps
    from bioplaus.supporting import supports
    from bioplaus.training import History, fit

    __version__: str

_HOMES = {
    "bioplaus.activations": "Activation",
    "bioplaus.costs": "AbstractCost",
    "bioplaus.contraction": "Contraction",
    "bioplaus.data": "Augment Dataset",
    "bioplaus.errors": "InputError",
    "bioplaus.estimators": (
        "ESTIMATORS ORACLES AbstractEstimator AsymEP Continual Dyadic Estimate "
        "FiniteDifference Holomorphic Homeostasis Implicit KolenPollack RecurrentBackprop "
        "Unrolled VectorFieldEP estimate_gradient"
    ),
    "bioplaus.field_check": "FieldReport check_field",
    "bioplaus.fields": (
        "Connection Conv Dense FunctionField Lateral Layer LayeredField LeakyField Tied "
        "VectorField energy hopfield"
    ),
    "bioplaus.fields.stored": "load",
    "bioplaus.gradient_check": "GradientReport check_gradients",
    "bioplaus.phases": "Settling free_energies free_phase nudged_phase",
    "bioplaus.solvers": "AbstractSolver Anderson Euler Solution Status Sweeps",
    "bioplaus.supporting": "supports",
    "bioplaus.training": "History fit",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = [
    "ESTIMATORS",
    "ORACLES",
    "AbstractCost",
    "AbstractEstimator",
    "AbstractSolver",
    "Activation",
    "Anderson",
    "AsymEP",
    "Augment",
    "Connection",
    "Continual",
    "Contraction",
    "Conv",
    "Dataset",
    "Dense",
    "Dyadic",
    "Estimate",
    "Euler",
    "FieldReport",
    "FiniteDifference",
    "FunctionField",
    "GradientReport",
    "History",
    "Holomorphic",
    "Homeostasis",
    "Implicit",
    "InputError",
    "KolenPollack",
    "Lateral",
    "Layer",
    "LayeredField",
    "LeakyField",
    "RecurrentBackprop",
    "Settling",
    "Solution",
    "Status",
    "Sweeps",
    "Tied",
    "Unrolled",
    "VectorField",
    "VectorFieldEP",
    "check_field",
    "check_gradients",
    "energy",
    "estimate_gradient",
    "fit",
    "free_energies",
    "free_phase",
    "hopfield",
    "load",
    "nudged_phase",
    "supports",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from bioplaus.version import version

        return version()
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(importlib.import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
