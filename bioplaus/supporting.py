"""Whether an estimator can serve a field and a cost: `supports`."""

from __future__ import annotations

from bioplaus.calling import answered
from bioplaus.costs import CostLike, get_cost
from bioplaus.estimators import EstimatorLike, estimator_with
from bioplaus.fields.base import VectorField


@answered
def supports(
    field: VectorField,
    cost: CostLike = "squared-error",
    estimator: EstimatorLike = "vector-field",
    **settings: object,
) -> str | None:
    """Report in advance why an estimator or an oracle cannot serve a field and a cost.

    The estimator raises an `InputError` with the same line when it is called.

    Args:
        field: the vector field.
        cost: name or object.
        estimator: name, class or object of an estimator or an oracle.
        settings: fields of the estimator: `beta`, `nudging`, `settling` (whose solver may be
            another simulator), ...

    Returns:
        One line that names what is missing and the remedy; None if nothing is missing.

    Raises:
        InputError: an unknown name, or a value outside its range.

    Examples:
        >>> from bioplaus import LeakyField
        >>> supports(LeakyField([4, 5, 3]), estimator="holomorphic") is None
        True
        >>> print(supports(LeakyField([4, 3]), estimator="dyadic", beta=3.0).split("; ")[1])
        use a beta below 2
    """
    chosen = estimator_with(estimator, settings)
    return chosen.missing(field, get_cost(cost))
