"""The origin of user code that is passed to `fit`."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from bioplaus.estimators import AbstractEstimator
from bioplaus.fields import FunctionField, VectorField
from bioplaus.training.objective import AbstractObjective
from bridge.usercode import Provenance, provenance_of

_OWN = Path(__file__).parents[1]


def code_of(
    field: VectorField, estimator: AbstractEstimator, objective: AbstractObjective
) -> tuple[Provenance, ...]:
    """The file and sha256 of each object that is not part of this package."""
    named = {
        "field": field.mu if isinstance(field, FunctionField) else type(field),
        "estimator": type(estimator),
        **objective.code,
    }
    found = []
    for what, code in named.items():
        home = _file(code)
        if home is None or not home.is_relative_to(_OWN):
            spec = f"{getattr(code, '__module__', '')}:{getattr(code, '__qualname__', repr(code))}"
            found.append(provenance_of(code, what, spec))
    return tuple(found)


def _file(code: Any) -> Path | None:
    try:
        file = inspect.getsourcefile(inspect.unwrap(code))
    except (TypeError, OSError):
        return None
    return None if file is None else Path(file).resolve()
