"""The config of `gradcheck`, and the comparison that it describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, cast

import numpy as np
import torch
from pydantic import Field, create_model, model_validator
from torch import Tensor

from bioplaus.config.choices import NETWORK_CONFIGS, BrianConfig, estimator_code, make_engine
from bioplaus.config.code_network import field_config
from bioplaus.config.data import DataConfig, make_dataset
from bioplaus.config.eqprop import EqpropConfig, origins, restore_field
from bioplaus.config.fields import (
    ActivationName,
    CostName,
    Count,
    Degrees,
    Dtype,
    Engine,
    EstimatorName,
    NonNegative,
    Nudge,
    OracleName,
    Positive,
    SolverName,
)
from bioplaus.config.network import LeakyConfig, NetworkConfig, Task, as_inputs
from bioplaus.config.resolving import origins_of, resolve
from bioplaus.estimators import ESTIMATORS, AbstractEstimator, make_estimator
from bioplaus.fields import VectorField
from bioplaus.fields.leaky import Coordinates
from bioplaus.gradient_check import default_settling, variants
from bioplaus.phases import Settling
from bridge.config import Config, Others, choice, described_by, either, load_config, plain_fields
from bridge.seeding import generator
from bridge.usercode import Provenance


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
_Offered: type[Config] = described_by(
    create_model("_Offered", __base__=Config, **cast(Any, SETTINGS)), *ESTIMATORS.values()
)


class CheckedLeaky(LeakyConfig):
    """The leaky integrators of a comparison: smooth, weak, and with half an asymmetry."""

    hidden: tuple[Count, ...] = (30,)
    activation: ActivationName = "tanh"
    coordinates: Coordinates = "membrane"
    gain: Positive = 0.35
    feedback_gain: Positive = 1.0
    angle: Degrees | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    asymmetry: NonNegative | None = None

    def start(self) -> dict[str, float | None]:
        if self.angle is None and self.asymmetry is None:
            return {"asymmetry": 0.5}
        return super().start()


if TYPE_CHECKING:
    NetworkOf = NetworkConfig
else:
    NetworkOf = choice(
        "field",
        "leaky",
        {**NETWORK_CONFIGS, "leaky": CheckedLeaky},
        Others("field", "leaky", NetworkConfig, field_config),
    )


class GradcheckConfig(_Offered):
    """A comparison of gradients on a fresh network; see `bioplaus.gradient_check`.

    `network` is that of `eqprop-run`, with other defaults. The settings of all estimators are
    among the keys: each is passed to those that have it.

    Attributes:
        sizes: number of units per layer: the inputs, the hidden layers, the outputs. A field of
            your own needs the first and the last.
        targets: type of targets: class labels, or vectors in [0, 1].
        cost: cost function C(s, y): squared-error, cross-entropy, or your own as module:function.
        estimator: the estimators to compare.
        beta: the nudges; each is tried with every estimator that uses one.
        oracle: the oracles that give the true gradient; those of `default_oracles` if none is
            named.
        batch: number of inputs; for a new network, they are drawn uniformly from [0, 1].
        engine: what simulates the phases of the estimators; those of the oracles run in torch.
        dt: step size of euler and of brian2, in membrane time constants.
        solver: how a state is moved to its fixed point.
        tolerance: relative residual at which a phase has converged; 1e-10 in float64 and 1e-6 in
            float32 if not set.
        steps: largest number of steps of a phase.
        dtype: precision of parameters and states; oracles compute in float64.
        seed: seed of the network, the inputs and the targets.
    """

    moved: ClassVar[Mapping[str, str]] = {
        name: f"network.{name}"
        for name in ("activation", "coordinates", "gain", "asymmetry", "angle")
    }

    sizes: tuple[Count, ...] = (20, 30, 10)
    network: NetworkOf = CheckedLeaky()
    targets: Literal["labels", "vectors"] = "labels"
    cost: CostName = "squared-error"
    estimator: tuple[EstimatorName, ...] = ("vector-field", "asym-ep")
    beta: tuple[Nudge, ...] = (1e-2,)
    oracle: tuple[OracleName, ...] = ()
    batch: Count = 10
    engine: Engine = "torch"
    brian2: BrianConfig = BrianConfig()
    dt: Annotated[float, Field(gt=0, le=1)] = 0.5
    solver: SolverName = "sweeps"
    tolerance: Positive | None = None
    steps: Count = 2000
    dtype: Dtype = "float64"
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _say_hidden_once(self) -> Self:
        """Bring `sizes` and `network.hidden` to say the same."""
        if len(self.sizes) < 2:
            raise ValueError(f"sizes={list(self.sizes)} must be two or more whole numbers")
        n_input, *middle, n_output = self.sizes
        sizes, hidden = self.sizes, getattr(self.network, "hidden", None)
        given = "sizes" in self.model_fields_set
        if hidden is None:
            if given and middle:
                raise ValueError(
                    f"sizes={list(sizes)}: field={self.network.field} takes no hidden layers; give "
                    f"inputs and outputs alone, e.g. sizes=[{n_input}, {n_output}]"
                )
            sizes = (n_input, n_output)
        elif not given and "hidden" in self.network.model_fields_set:
            sizes = (n_input, *hidden, n_output)
        elif "hidden" not in self.network.model_fields_set:
            network = self.network.model_copy(update={"hidden": tuple(middle)})
            object.__setattr__(self, "network", network)  # frozen for others
        elif tuple(middle) != hidden:
            raise ValueError(
                f"sizes={list(sizes)} has other hidden layers than network.hidden={list(hidden)}; "
                "give one of the two"
            )
        object.__setattr__(self, "sizes", sizes)
        return self

    def idle(self) -> dict[str, str]:
        found = {}
        here = f"with estimator={', '.join(self.estimator)}"
        kinds = [kind_of(estimator_code(name)) for name in self.estimator]
        for setting in ("beta", *SETTINGS):
            if not any(setting in kind.__dataclass_fields__ for kind in kinds):
                all_kinds = ESTIMATORS.items()
                users = [n for n, kind in all_kinds if setting in kind.__dataclass_fields__]
                found[setting] = f"{here}; it is read with estimator={either(users)}"
        if self.engine == "torch":
            found["brian2"] = "with engine=torch; it is read with engine=brian2"
        if self.engine == "torch" and self.solver != "euler":
            found["dt"] = (
                f"with solver={self.solver}; it is read with solver=euler or engine=brian2"
            )
        return found


def kind_of(found: AbstractEstimator | type[AbstractEstimator]) -> type[AbstractEstimator]:
    """The class of an estimator, or of one with its settings."""
    return type(found) if isinstance(found, AbstractEstimator) else found


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
    return field, as_inputs(field, dataset.shown.inputs), dataset.shown.targets


def make_check(config: GradcheckConfig) -> tuple[VectorField, Tensor, Tensor]:
    """A fresh network, inputs in [0, 1] and labels or target vectors, drawn from the seed.

    Raises:
        InputError: the network cannot be drawn, or does not fit its inputs and outputs.
    """
    dtype = getattr(torch, config.dtype)
    n_input, n_output = config.sizes[0], config.sizes[-1]
    name = f"sizes={[n_input, n_output]}"
    field = config.network.draw(Task((n_input,), n_output, name, config.seed, dtype))
    require_servable(config, field)
    draw = generator(config.seed, "inputs")
    x = as_inputs(field, torch.rand(config.batch, n_input, generator=draw, dtype=dtype))
    if config.targets == "vectors":
        return field, x, torch.rand(config.batch, n_output, generator=draw, dtype=dtype)
    return field, x, torch.randint(n_output, (config.batch,), generator=draw)


def compared(config: GradcheckConfig) -> list[AbstractEstimator | type[AbstractEstimator]]:
    """What is compared: classes, and of users' objects one for each beta."""
    found: list[AbstractEstimator | type[AbstractEstimator]] = []
    for name in config.estimator:
        made = estimator_code(name)
        if isinstance(made, AbstractEstimator) and "beta" in made.__dataclass_fields__:
            found += [make_estimator(made, beta=beta) for beta in config.beta]
        else:
            found.append(made)
    return found


def check_origins(config: GradcheckConfig) -> tuple[Provenance, ...]:
    """Where the users' code comes from that a comparison on a fresh network is made of."""
    named = [("field", config.network.field), ("cost", config.cost)]
    named += [("activation", getattr(config.network, "activation", ""))]
    named += [("estimator", name) for name in config.estimator]
    named += [("oracle", name) for name in config.oracle]
    return origins_of((what, name) for what, name in named if name)


def restored_origins(config: GradcheckConfig, run: Mapping[str, Any]) -> tuple[Provenance, ...]:
    """The same of a comparison on a run's network: of the run, and of what is compared."""
    own = (each for each in check_origins(config) if each.what not in ("field", "activation"))
    return tuple(dict.fromkeys((*origins(load_config(EqpropConfig, base=run)), *own)))


def check_settings(config: GradcheckConfig) -> dict[str, Any]:
    """The fields that the compared estimators may have beside their phases and beta."""
    chosen = config.model_dump(include=set(SETTINGS))
    return chosen | {"generator": generator(config.seed, "nudging")}


def require_servable(config: GradcheckConfig, field: VectorField) -> None:
    """Refuse a comparison with an estimator that cannot serve the field.

    Raises:
        InputError: with the reason.
    """
    cost, settling = resolve("cost", config.cost), check_settling(config)
    for each in compared(config):
        for estimator, _ in variants(each, config.beta, settling, check_settings(config)):
            estimator.check(field, cost)


def check_settling(config: GradcheckConfig, engine: Engine | None = None) -> Settling:
    """How the phases of a comparison settle; those of its oracles do so in the engine torch."""
    tight = default_settling(getattr(torch, config.dtype)).tolerance
    tolerance = tight if config.tolerance is None else config.tolerance
    if (engine or config.engine) == "torch":
        own = {"dt": config.dt} if config.solver == "euler" else {}
        solver = resolve("solver", config.solver, **own)
    else:
        solver = make_engine(config.brian2, config.dt, config.estimator)
    return Settling(solver, tolerance, config.steps, config.steps, verify=True)
