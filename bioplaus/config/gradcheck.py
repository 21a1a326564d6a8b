"""The config of `gradcheck`, and the comparison that it describes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from bioplaus.config.eqprop import BrianConfig, DataConfig, make_engine, make_solver, restore_field
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
    Nudging,
    OracleName,
    Positive,
    Solver,
)
from bioplaus.costs import get_cost
from bioplaus.datasets import load_dataset
from bioplaus.errors import InputError
from bioplaus.fields import LeakyField
from bioplaus.gradient_check import default_settling, variants
from bioplaus.phases import Settling
from bridge.config import Config
from bridge.seeding import generator


class GradcheckConfig(Config):
    """A comparison of gradients on a fresh network; see `bioplaus.gradient_check`.

    Without an oracle those of `default_oracles` are taken.
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
    nudging: Nudging = "centered"
    points: Count = 4
    rate: NonNegative = 0.01
    batch: Count = 10
    engine: Engine = "torch"
    brian2: BrianConfig = BrianConfig()
    dt: Annotated[float, Field(gt=0, le=1)] = 0.5
    solver: Solver = "sweeps"
    tolerance: Positive | None = None
    steps: Count = 2000
    dtype: Literal["float32", "float64"] = "float64"
    seed: Annotated[int, Field(ge=0)] = 0


def restore_check(
    config: GradcheckConfig, run: Mapping[str, Any], weights: Mapping[str, np.ndarray]
) -> tuple[LeakyField, Tensor, Tensor]:
    """A run's network with test images of its data set and their labels."""
    dtype = getattr(torch, config.dtype)
    field = restore_field(run, weights)
    field = field.with_parameters({k: p.to(dtype) for k, p in field.parameters.items()})
    data = DataConfig(**run["data"])
    folder = Path(data.data_dir) if data.data_dir else None
    dataset = load_dataset(data.dataset, folder, dtype, 1, config.batch)
    require_servable(config, field)
    return field, dataset.test_images, dataset.test_labels


def make_check(config: GradcheckConfig) -> tuple[LeakyField, Tensor, Tensor]:
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
    chosen = config.model_dump(include={"nudging", "points", "rate"})
    return chosen | {"generator": generator(config.seed, "nudging")}


def require_servable(config: GradcheckConfig, field: LeakyField) -> None:
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
        solver = make_solver(config.solver, config.dt)
    else:
        solver = make_engine(config.brian2, config.dt, config.estimator)
    return Settling(solver, tolerance, config.steps, config.steps, verify=True)
