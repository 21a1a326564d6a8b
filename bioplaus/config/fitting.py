"""What `bioplaus.fit` was given, in what a log can keep."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from bioplaus.config.additions import addition_settings
from bioplaus.config.loop import LoopConfig, written
from bioplaus.contraction import Contraction
from bioplaus.costs import AbstractCost
from bioplaus.data import Augment, Dataset
from bioplaus.estimators import AbstractEstimator
from bioplaus.fields import VectorField
from bridge.config import is_plain, load_config
from bridge.optim import Optimizer
from bridge.schedules import Schedule, course


class FitConfig(LoopConfig):
    """A run of `fit`: the objects that it was given, by name and plain settings."""

    data: dict[str, Any]
    network: dict[str, Any]
    phases: dict[str, Any]
    estimator: dict[str, Any]
    optimizer: dict[str, Any]
    objective: dict[str, Any] = Field(default_factory=dict)
    dtype: str = "float32"

    def courses(self, steps: int) -> Mapping[str, Schedule]:
        kept = self.optimizer
        return course(kept["schedule"], steps, kept["warmup_steps"]) if "schedule" in kept else {}

    def as_written(self, settings: Mapping[str, float | str]) -> str:
        phases = {k: v for k, v in settings.items() if k.startswith("phases.")}
        given = [f"{key.rpartition('.')[2]}={written(value)}" for key, value in settings.items()]
        return f"settling=Settling({', '.join(given)})" if phases else ", ".join(given)


def fit_config(
    field: VectorField,
    dataset: Dataset,
    objective: Mapping[str, Any],
    cost: AbstractCost,
    estimator: AbstractEstimator,
    optimizer: Mapping[str, Any],
    loop: Mapping[str, Any],
) -> FitConfig:
    """Describe a run of `fit`.

    Args:
        field, dataset: what learns from what.
        objective: its settings, by name; none of a cost's.
        cost, estimator: by which rule.
        optimizer: its settings, by name.
        loop: see `loop_settings`.
    """
    settling = estimator.settling
    own = {"name": estimator.name, "cost": cost.name, **_plain(estimator, ("gate",))}
    phases = {
        "solver": type(settling.solver).__name__.lower(),
        **_plain(settling.solver),
        **_plain(settling),
        "gate": None if math.isinf(estimator.gate) else estimator.gate,
    }
    return FitConfig(
        data={"dataset": dataset.name},
        network={"field": type(field).__name__, "repr": repr(field)},
        phases=phases,
        estimator=own,
        objective=dict(objective),
        optimizer=dict(optimizer),
        dtype=str(field.dtype).removeprefix("torch."),
        **loop,
    )


def loop_settings(
    contraction: Contraction | None = None, augment: Augment | None = None, **others: object
) -> dict[str, Any]:
    """The settings of `LoopConfig` as they were given, checked.

    Raises:
        InputError: one of them is out of range, a line each; or is another object than it must be.
    """
    given = addition_settings(contraction, augment, **others)
    checked = load_config(LoopConfig, base=given)
    return checked.model_dump(include=set(given), exclude_unset=True)


def _plain(of: object, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields of a dataclass that JSON can hold; none of what is no dataclass."""
    if not dataclasses.is_dataclass(of):
        return {}
    values = {
        f.name: getattr(of, f.name) for f in dataclasses.fields(of) if f.name not in leave_out
    }
    return {
        name: value
        for name, value in values.items()
        if is_plain(type(value)) and not (isinstance(value, float) and not math.isfinite(value))
    }


def optimizer_settings(optimizer: Optimizer) -> dict[str, Any]:
    """What a log keeps of an optimizer that the user has made."""
    return {
        "method": optimizer.method,
        "learning_rate": optimizer.base_rate,
        "weight_decay": optimizer.weight_decay,
        "clip_norm": optimizer.clip_norm,
    }
