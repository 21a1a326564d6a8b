"""Estimators of dJ/dtheta, one file each, behind one interface."""

from typing import Any

from torch import Tensor

from bioplaus.costs import AbstractCost, get_cost, one_hot
from bioplaus.errors import InputError
from bioplaus.estimators.asymmetric import AsymEP
from bioplaus.estimators.base import AbstractEstimator, Estimate
from bioplaus.estimators.continual import Continual
from bioplaus.estimators.difference import NUDGINGS
from bioplaus.estimators.dyadic import Dyadic
from bioplaus.estimators.finite_difference import FiniteDifference
from bioplaus.estimators.holomorphic import Holomorphic
from bioplaus.estimators.homeostasis import Homeostasis
from bioplaus.estimators.implicit import Implicit
from bioplaus.estimators.kolen_pollack import KolenPollack
from bioplaus.estimators.recurrent_backprop import RecurrentBackprop
from bioplaus.estimators.unrolled import Unrolled
from bioplaus.estimators.vector_field import VectorFieldEP
from bioplaus.fields.base import VectorField

ESTIMATORS: dict[str, type[AbstractEstimator]] = {
    e.name: e
    for e in (VectorFieldEP, AsymEP, Dyadic, Holomorphic, Continual, Homeostasis, KolenPollack)
}
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


def estimate_gradient(
    field: VectorField,
    x: Tensor,
    y: Tensor,
    cost: str | AbstractCost = "squared-error",
    estimator: str = "vector-field",
    **settings: Any,
) -> Estimate:
    """Estimate -dJ/dtheta on a batch: parameters move by + rate * update.

    Args:
        field: the network.
        x: clamped input, [B, n_in].
        y: labels [B] or targets [B, m].
        cost: name or object.
        estimator: name of an estimator or an oracle.
        settings: its fields: `beta`, `nudging`, `settling`, `gate`, ...

    Raises:
        InputError: an unknown name, or a value outside its range.
    """
    target = y if y.ndim == 2 else one_hot(y, field.n_output, field.dtype)
    return get_estimator(estimator)(**settings)(field, x, target, get_cost(cost))


__all__ = [
    "ESTIMATORS",
    "NUDGINGS",
    "ORACLES",
    "AbstractEstimator",
    "AsymEP",
    "Continual",
    "Dyadic",
    "Estimate",
    "FiniteDifference",
    "Holomorphic",
    "Homeostasis",
    "Implicit",
    "KolenPollack",
    "RecurrentBackprop",
    "Unrolled",
    "VectorFieldEP",
    "estimate_gradient",
    "get_estimator",
    "get_oracle",
]
