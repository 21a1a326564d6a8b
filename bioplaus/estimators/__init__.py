"""Estimators of dJ/dtheta behind one interface, each in its own file."""

from typing import Any

from bioplaus.arguments import as_inputs, as_targets
from bioplaus.calling import answered
from bioplaus.costs import CostLike, get_cost
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
from bioplaus.estimators.registry import (
    ESTIMATORS,
    ORACLES,
    EstimatorLike,
    estimator_with,
    get_estimator,
    get_oracle,
    make_estimator,
    require_settings,
)
from bioplaus.estimators.unrolled import Unrolled
from bioplaus.estimators.vector_field import VectorFieldEP
from bioplaus.fields.base import VectorField


@answered
def estimate_gradient(
    field: VectorField,
    x: Any,
    y: Any,
    cost: CostLike = "squared-error",
    estimator: EstimatorLike = "vector-field",
    **settings: Any,
) -> Estimate:
    """Estimate -dJ/dtheta on a batch; gradient descent adds rate * update to the parameters.

    Args:
        field: the network.
        x: clamped input, [B, n_in]: a tensor or array-like.
        y: labels [B] or targets [B, m], likewise.
        cost: name or object.
        estimator: name, class or object of an estimator or an oracle.
        settings: fields of the estimator: `beta`, `nudging`, `settling`, `gate`, ...

    Raises:
        InputError: an unknown name, or a value outside its range.
    """
    x = as_inputs(x, field)
    chosen = estimator_with(estimator, settings)
    return chosen(field, x, as_targets(y, field, len(x)), get_cost(cost))


__all__ = [
    "ESTIMATORS",
    "NUDGINGS",
    "ORACLES",
    "AbstractEstimator",
    "AsymEP",
    "Continual",
    "Dyadic",
    "Estimate",
    "EstimatorLike",
    "FiniteDifference",
    "Holomorphic",
    "Homeostasis",
    "Implicit",
    "KolenPollack",
    "RecurrentBackprop",
    "Unrolled",
    "VectorFieldEP",
    "estimate_gradient",
    "estimator_with",
    "get_estimator",
    "get_oracle",
    "make_estimator",
    "require_settings",
]
