"""The config of `gradcheck`, and the comparison that it describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

import numpy as np
import torch
from pydantic import Field, create_model
from torch import Tensor

from bioplaus.config.choices import BrianConfig, make_engine
from bioplaus.config.data import DataConfig, make_dataset
from bioplaus.config.eqprop import restore_field
from bioplaus.config.fields import (
    ActivationName,
    Coordinates,
    CostName,
    Count,
    Degrees,
    Engine,
    EstimatorName,
    NonNegative,
    Nudge,
    OracleName,
    Positive,
    Solver,
)
from bioplaus.costs import get_cost
from bioplaus.errors import InputError
from bioplaus.estimators import ESTIMATORS
from bioplaus.fields import LeakyField, VectorField
from bioplaus.gradient_check import default_settling, variants
from bioplaus.phases import Settling
from bioplaus.solvers import get_solver
from bridge.config import Config, either, load_config, plain_fields
from bridge.seeding import generator


def _offered() -> dict[str, tuple[Any, Any]]:
    """What the estimators have of their own, but for beta and their regularisers.

    A comparison is of the estimate of -dJ/dtheta alone, see `check_gradients`.
    """
    found: dict[str, tuple[Any, Any]] = {}
    for kind in ESTIMATORS.values():
        with_all = kind()
        plain = with_all.without_regulariser()
        for name, field in plain_fields(kind, ("gate", "beta")).items():
            if getattr(plain, name) == getattr(with_all, name):
                found.setdefault(name, field)
    return found


SETTINGS = _offered()
_Offered: type[Config] = create_model("_Offered", __base__=Config, **cast(Any, SETTINGS))


class GradcheckConfig(_Offered):
    """A comparison of gradients on a fresh network; see `bioplaus.gradient_check`.

    Without an oracle those of `default_oracles` are taken. The settings of all estimators are
    among its keys: each is passed to those that have it.
    """

    sizes: tuple[Count, ...] = (20, 30, 10)
    activation: ActivationName = "tanh"
    coordinates: Coordinates = "membrane"
    gain: Positive = 0.35
    asymmetry: NonNegative | None = None
    angle: Degrees | None = None
    cost: CostName = "squared-error"
    estimator: tuple[EstimatorName, ...] = ("vector-field", "asym-ep")
    beta: tuple[Nudge, ...] = (1e-2,)
    oracle: tuple[OracleName, ...] = ()
    batch: Count = 10
    engine: Engine = "torch"
    brian2: BrianConfig = BrianConfig()
    dt: Annotated[float, Field(gt=0, le=1)] = 0.5
    solver: Solver = "sweeps"
    tolerance: Positive | None = None
    steps: Count = 2000
    dtype: Literal["float32", "float64"] = "float64"
    seed: Annotated[int, Field(ge=0)] = 0

    def idle(self) -> dict[str, str]:
        found = {}
        here = f"with estimator={', '.join(self.estimator)}"
        for setting in ("beta", *SETTINGS):
            users = [n for n, kind in ESTIMATORS.items() if setting in kind.__dataclass_fields__]
            if not set(users) & set(self.estimator):
                found[setting] = f"{here}; it is read with estimator={either(users)}"
        if self.engine == "torch":
            found["brian2"] = "with engine=torch; it is read with engine=brian2"
        if self.engine == "torch" and self.solver != "euler":
            found["dt"] = (
                f"with solver={self.solver}; it is read with solver=euler or engine=brian2"
            )
        if len(self.sizes) == 2:
            why = "without a hidden layer, and so without feedback; give three or more sizes"
            found |= dict.fromkeys(("asymmetry", "angle"), why)
            why = "without a hidden layer, for outputs are linear; give three or more sizes"
            found |= dict.fromkeys(("activation", "coordinates"), why)
        return found


def restore_check(
    config: GradcheckConfig, run: Mapping[str, Any], weights: Mapping[str, np.ndarray]
) -> tuple[VectorField, Tensor, Tensor]:
    """A run's network with test images of its data set and their labels."""
    dtype = getattr(torch, config.dtype)
    field = restore_field(run, weights)
    field = field.with_parameters({k: p.to(dtype) for k, p in field.parameters.items()})
    data = load_config(DataConfig, base=run["data"], base_name="this log")
    data = data.model_copy(update={"train_size": 1, "test_size": config.batch})
    dataset = make_dataset(data, dtype)
    require_servable(config, field)
    return field, dataset.shown.inputs, dataset.shown.targets


def make_check(config: GradcheckConfig) -> tuple[VectorField, Tensor, Tensor]:
    """A fresh network, inputs in [0, 1] and labels, drawn from the config's seed."""
    if config.asymmetry is not None and config.angle is not None:
        raise InputError("asymmetry and angle both say where the feedback weights start; give one")
    dtype = getattr(torch, config.dtype)
    field = LeakyField(
        config.sizes,
        config.activation,
        coordinates=config.coordinates,
        gain=config.gain,
        angle=0.0 if config.angle is None else config.angle,
        asymmetry=0.5 if config.asymmetry is None and config.angle is None else config.asymmetry,
        generator=generator(config.seed, "weights"),
        dtype=dtype,
    )
    require_servable(config, field)
    draw = generator(config.seed, "inputs")
    x = torch.rand(config.batch, config.sizes[0], generator=draw, dtype=dtype)
    return field, x, torch.randint(config.sizes[-1], (config.batch,), generator=draw)


def check_settings(config: GradcheckConfig) -> dict[str, Any]:
    """The fields that the compared estimators may have beside their phases and beta."""
    chosen = config.model_dump(include=set(SETTINGS))
    return chosen | {"generator": generator(config.seed, "nudging")}


def require_servable(config: GradcheckConfig, field: VectorField) -> None:
    """Refuse a comparison with an estimator that cannot serve the field.

    Raises:
        InputError: with the reason.
    """
    for name in config.estimator:
        for estimator, _ in variants(
            name, config.beta, check_settling(config), check_settings(config)
        ):
            estimator.check(field, get_cost(config.cost))


def check_settling(config: GradcheckConfig, engine: Engine | None = None) -> Settling:
    """How the phases of a comparison settle; those of its oracles do so in the engine torch."""
    tight = default_settling(getattr(torch, config.dtype)).tolerance
    tolerance = tight if config.tolerance is None else config.tolerance
    if (engine or config.engine) == "torch":
        own = {"dt": config.dt} if config.solver == "euler" else {}
        solver = get_solver(config.solver, **own)
    else:
        solver = make_engine(config.brian2, config.dt, config.estimator)
    return Settling(solver, tolerance, config.steps, config.steps, verify=True)
