"""The config of a network, what it is drawn for, and the leaky integrators'."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from bioplaus.config.fields import (
    ActivationName,
    Count,
    Degrees,
    NonNegative,
    Positive,
)
from bioplaus.config.resolving import resolve
from bioplaus.fields import LayeredField, LeakyField, VectorField
from bioplaus.fields.coupling import Coupling
from bioplaus.fields.leaky import Coordinates
from bridge.config import Config
from bridge.seeding import generator


@dataclass(frozen=True)
class Task:
    """What a network is drawn for.

    Attributes:
        shape: of an input.
        n_output: outputs: classes, or the length of a target vector.
        name: of the data set, for messages.
        seed: of the run.
        dtype: of the parameters.
        device: where they live.
    """

    shape: tuple[int, ...]
    n_output: int
    name: str = "the task"
    seed: int = 0
    dtype: torch.dtype = torch.float32
    device: torch.device | str = "cpu"

    @property
    def n_input(self) -> int:
        """Numbers of an input."""
        return math.prod(self.shape)

    def given(self, hidden: tuple[int, ...]) -> dict[str, Callable[[], Any]]:
        """By parameter what a class or a function of a field is given, if it has the parameter."""
        picture = (1, *self.shape) if len(self.shape) == 2 else self.shape
        found: dict[str, Callable[[], Any]] = {
            "sizes": lambda: [self.n_input, *hidden, self.n_output],
            "seed": lambda: self.seed,
            "generator": lambda: generator(self.seed, "weights"),
            "dtype": lambda: self.dtype,
            "device": lambda: self.device,
        }
        found |= dict.fromkeys(("input", "shape", "input_shape"), lambda: picture)
        found |= dict.fromkeys(("n_input", "n_inputs", "n_in", "input_size"), lambda: self.n_input)
        return found | dict.fromkeys(
            ("n_output", "n_outputs", "n_out", "num_outputs"), lambda: self.n_output
        )


class NetworkConfig(Config):
    """Which field, by name or `module:name`; each has its own settings too.

    Attributes:
        field: the network: leaky, convolutional, or your own as module:Class or file.py:Class.
    """

    field: Any  # which one, each choice says

    def draw(self, task: Task) -> VectorField:
        """Draw the network.

        Raises:
            InputError: it cannot be, or does not fit the task.
        """
        raise NotImplementedError

    def coupling(self, n_output: int | None) -> Coupling:
        """How the units will act on one another, as far as the settings tell.

        Args:
            n_output: number of outputs; None if it is not known.
        """
        return Coupling()


class LeakyConfig(NetworkConfig):
    """The leaky integrators; see `bioplaus.fields.LeakyField`.

    Attributes:
        hidden: number of units of each hidden layer, from the lowest up.
        activation: activation function rho of the hidden units, e.g. tanh, hard-sigmoid; or your
            own as module:function.
        coordinates: which change of a unit the local rule sees; clipped also keeps states in [0,
            1].
        linear_output: whether output units are linear, rho(s) = s, and unbounded.
        tied: whether feedback weights are the transposed forward weights.
        gain: scale of the forward weights, which are drawn from N(0, gain^2 / fan_in).
        feedback_gain: initial norm of the feedback weights relative to the forward weights.
        angle: initial angle between feedback and transposed forward weights, in degrees.
        asymmetry: A, an alternative to the angle: feedback weights are the transposed forward
            weights plus A times an independent draw.
    """

    field: Literal["leaky"] = "leaky"
    hidden: tuple[Count, ...] = (512,)
    activation: ActivationName = "hard-sigmoid"
    coordinates: Coordinates = "clipped"
    linear_output: bool = True
    tied: bool = False
    gain: Positive = 1.0
    feedback_gain: Positive = 0.5
    angle: Degrees = 90.0
    asymmetry: NonNegative | None = None

    def idle(self) -> dict[str, str]:
        found = {}
        if self.asymmetry is not None:
            found["angle"] = "with asymmetry; leave out one"
        if self.tied:
            why = "with tied=true; leave out one"
            found |= dict.fromkeys(("feedback_gain", "angle", "asymmetry"), why)
        if not self.hidden:
            why = "without a hidden layer, and so without feedback; give hidden"
            found |= dict.fromkeys(("tied", "feedback_gain", "angle", "asymmetry"), why)
            if self.linear_output:
                why = "without a hidden layer and with linear outputs; give hidden"
                found |= dict.fromkeys(("activation", "coordinates"), why)
            if self.coordinates == "membrane":
                found["linear_output"] = (
                    "without a hidden layer in membrane coordinates; give hidden"
                )
        if self.activation == "linear" and self.coordinates != "clipped":
            found["linear_output"] = "with activation=linear"
        return found

    def coupling(self, n_output: int | None) -> Coupling:
        n = None if n_output is None else sum(self.hidden) + n_output
        if not self.hidden:
            why = "without a hidden layer, where no unit acts on another; give network.hidden"
            return Coupling(n, alone=why, unpaired=why)
        if not self.tied:
            return Coupling(n)
        read, linear = "it is read with network.tied=false", None
        if self.activation == "linear" and self.linear_output:
            linear = f"with network.tied=true and linear units, which act symmetrically; {read}"
        unpaired = f"with network.tied=true, which leaves no weights of the feedback's own; {read}"
        return Coupling(n, unpaired=unpaired, symmetric=linear)

    def start(self) -> dict[str, Any]:
        """Where feedback weights of their own start, see `LeakyField`."""
        if self.asymmetry is not None:
            return {"asymmetry": self.asymmetry}
        return {"angle": self.angle}

    def draw(self, task: Task) -> LeakyField:
        return LeakyField(
            [task.n_input, *self.hidden, task.n_output],
            resolve("activation", self.activation),
            coordinates=self.coordinates,
            linear_output=self.linear_output,
            tied=self.tied,
            gain=self.gain,
            **({} if self.tied else {"feedback_gain": self.feedback_gain, **self.start()}),
            generator=generator(task.seed, "weights"),
            dtype=task.dtype,
            device=task.device,
        )


def as_inputs(field: VectorField, x: Tensor) -> Tensor:
    """Flat inputs [N, D] in the shape that a field says; layered ones take them as they are."""
    if field.input is None or len(field.input) == 1 or isinstance(field, LayeredField):
        return x
    return x.view(-1, *field.input)
