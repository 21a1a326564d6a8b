"""Estimators of dJ/dtheta, one file each, behind one interface."""

from bioplaus.errors import InputError
from bioplaus.estimators.asymmetric import AsymEP
from bioplaus.estimators.base import AbstractEstimator, Estimate
from bioplaus.estimators.difference import NUDGINGS
from bioplaus.estimators.finite_difference import FiniteDifference
from bioplaus.estimators.implicit import Implicit
from bioplaus.estimators.recurrent_backprop import RecurrentBackprop
from bioplaus.estimators.unrolled import Unrolled
from bioplaus.estimators.vector_field import VectorField

ESTIMATORS: dict[str, type[AbstractEstimator]] = {e.name: e for e in (VectorField, AsymEP)}
ORACLES: dict[str, type[AbstractEstimator]] = {
    e.name: e for e in (Implicit, RecurrentBackprop, Unrolled, FiniteDifference)
}


def get_estimator(name: str) -> type[AbstractEstimator]:
    """Look up an estimator's class by name.

    Raises:
        InputError: the name is unknown.
    """
    known = ESTIMATORS | ORACLES
    if name not in known:
        raise InputError(f"estimator={name!r} is unknown; use one of {', '.join(known)}")
    return known[name]


def get_oracle(name: str) -> type[AbstractEstimator]:
    """Look up an oracle's class by name.

    Raises:
        InputError: the name is unknown.
    """
    if name not in ORACLES:
        raise InputError(f"oracle={name!r} is unknown; use one of {', '.join(ORACLES)}")
    return ORACLES[name]


__all__ = [
    "ESTIMATORS",
    "NUDGINGS",
    "ORACLES",
    "AbstractEstimator",
    "AsymEP",
    "Estimate",
    "FiniteDifference",
    "Implicit",
    "RecurrentBackprop",
    "Unrolled",
    "VectorField",
    "get_estimator",
    "get_oracle",
]
