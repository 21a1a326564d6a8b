"""Estimators of dJ/dtheta, one file each, behind one interface."""

from bioplaus.errors import InputError
from bioplaus.estimators.asymmetric import AsymEP
from bioplaus.estimators.base import AbstractEstimator, Estimate
from bioplaus.estimators.difference import NUDGINGS
from bioplaus.estimators.vector_field import VectorField

ESTIMATORS: dict[str, type[AbstractEstimator]] = {e.name: e for e in (VectorField, AsymEP)}


def get_estimator(name: str) -> type[AbstractEstimator]:
    """Look up an estimator's class by name.

    Raises:
        InputError: the name is unknown.
    """
    if name not in ESTIMATORS:
        raise InputError(f"estimator={name!r} is unknown; use one of {', '.join(ESTIMATORS)}")
    return ESTIMATORS[name]


__all__ = [
    "ESTIMATORS",
    "NUDGINGS",
    "AbstractEstimator",
    "AsymEP",
    "Estimate",
    "VectorField",
    "get_estimator",
]
