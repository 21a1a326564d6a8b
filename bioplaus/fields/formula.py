"""One formula, one place: layers and connections alone state what a layered field computes."""

from __future__ import annotations

import inspect

from bioplaus.errors import InputError

# mu, its parts and its Jacobian: a solver, an estimator and a check each use other ones of them
FORMULA = (
    "field",
    "drive",
    "driven",
    "explicit_field",
    "base",
    "current",
    "transposed_current",
    "activity",
    "activities",
    "confine",
    "confine_state",
    "layer_slope",
    "slope",
    "linearise",
    "split",
    "wires",
    "wires_at",
    "with_parameters",
)


def require_one_formula(cls: type, base: type) -> None:
    """Refuse a class that states a part of its base's formula anew.

    Raises:
        InputError: `cls` defines or inherits another method in place of one in `FORMULA`; the
            message names it and what to write instead.
    """
    for name in FORMULA:
        if inspect.getattr_static(cls, name) is not inspect.getattr_static(base, name):
            raise InputError(
                f"{cls.__name__} replaces {base.__name__}.{name}, which solvers and estimators do "
                "not all call: the states found would not be those of the new formula; give the "
                "layers activations and connections of your own, or extend VectorField"
            )
