"""Layered leaky integrators with separate feedforward and feedback weights (the 2018 model)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, final, get_args

import torch
from torch import Tensor

from bioplaus.activations import Activation, get_activation
from bioplaus.errors import InputError
from bioplaus.fields.connections import Connection, Dense, Tied
from bioplaus.fields.drawing import require_angle, require_scale, turned
from bioplaus.fields.layered import Layer, LayeredField

Coordinates = Literal["membrane", "activity", "clipped"]
COORDINATES = get_args(Coordinates)


@final
class LeakyField(LayeredField):
    """mu_i(x, s) = sum_j W_ij rho(s_j) + b_i - s_i, in units of the membrane time constant.

    Layer k receives `forward.k` [n_k, n_{k-1}] from below (layer 0 is the clamped input) and,
    below the output, `feedback.k` [n_k, n_{k+1}] from above, and `bias.k` [n_k]. With tied
    weights the feedback is the transpose of the forward weight above and not a parameter.

    The coordinates determine which state the local rule sees:

    - `membrane`: as above; the rule is dW_ij ~ rho(s_j) ds_i (Scellier et al. 2018).
    - `activity`: the same dynamics; the rule is dW_ij ~ rho(s_j) d rho(s_i), which is exact for
      tied weights with linear output units, where the membrane form is not.
    - `clipped`: the state lives in the box [0, 1] (rho is the identity there) and
      mu(s) = clip(W s + b) - s, a nudge acting inside the clip. Needs `hard-sigmoid`.

    Output units are linear (rho(s) = s, no box) unless `linear_output` is off.

    Source: Scellier, Goyal, Binas, Mesnard, Bengio 2018 (arXiv 1808.04873), section 4.
    """

    name = "leaky"

    def __init_subclass__(cls) -> None:
        raise InputError(
            f"{cls.__name__} extends LeakyField, whose current, its transpose and its update "
            "belong together: one written anew contradicts the others; use a LayeredField with "
            "connections of your own or a FunctionField, or extend VectorField"
        )

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str | Activation = "tanh",
        *,
        tied: bool = False,
        coordinates: str = "membrane",
        linear_output: bool = True,
        gain: float = 1.0,
        feedback_gain: float = 1.0,
        angle: float | None = None,
        asymmetry: float | None = None,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """Draw the weights.

        Args:
            sizes: units per layer, the input first; hidden layers are optional.
            activation: rho, by name or as an object, see `bioplaus.activations`.
            tied: feedback weights are the transposed feedforward weights.
            coordinates: `membrane`, `activity` or `clipped`.
            linear_output: whether output units are linear.
            gain: feedforward weights are drawn from N(0, gain^2 / fan_in).
            feedback_gain: norm of a feedback matrix over that of its feedforward partner.
            angle: initial angle in degrees, 0 to 180, between each feedback matrix and the
                transpose of its feedforward partner; 0 and 180 exactly. Between two layers of one
                unit there are no other angles. None means 90, if `asymmetry` is None too.
            asymmetry: A >= 0, instead of `angle`: feedback = transposed feedforward + A times an
                independent draw of the same scale.
            generator: source of the random numbers (on the CPU); None means torch's global one.
            dtype: float32 or float64.
            device: where the parameters live.

        Raises:
            InputError: a value is outside its range, or another argument leaves it without effect.
        """
        _check(sizes, coordinates, activation, angle, asymmetry, gain, feedback_gain, tied)
        angle = 90.0 if angle is None else angle
        self.sizes = tuple(int(size) for size in sizes)
        self.activation: Activation = get_activation(activation)
        self.linear_output = linear_output
        self.tied = tied
        drawn: dict[str, Tensor] = {}
        for k, (fan_in, fan_out) in enumerate(zip(self.sizes, self.sizes[1:], strict=False), 1):
            forward = torch.randn(fan_out, fan_in, generator=generator, dtype=dtype)
            drawn[f"forward.{k}"] = forward * (gain / math.sqrt(fan_in))
            drawn[f"bias.{k}"] = torch.zeros(fan_out, dtype=dtype)
        last = len(self.sizes) - 1
        for k in range(1, last) if not tied else ():
            mirror = drawn[f"forward.{k + 1}"].T
            draw = torch.randn(mirror.shape, generator=generator, dtype=dtype)
            draw *= gain / math.sqrt(self.sizes[k])
            back = turned(mirror, draw, angle) if asymmetry is None else mirror + asymmetry * draw
            drawn[f"feedback.{k}"] = (feedback_gain * back).contiguous()
        settings = f"gain={gain}, feedback_gain={feedback_gain}, asymmetry={asymmetry}"
        require_scale(drawn, settings)
        clipped = coordinates == "clipped"
        hidden = "clipped" if clipped else self.activation
        layers = [
            Layer(size, "linear" if linear_output and k == last else hidden)
            for k, size in enumerate(self.sizes[1:], 1)
        ]
        connections: list[Connection] = [Dense(k, k + 1) for k in range(last)]
        back_kind = Tied if tied else Dense
        connections += [back_kind(k + 1, k) for k in range(1, last)]
        super().__init__(
            self.sizes[0],
            layers,
            connections,
            coordinates="membrane" if clipped else coordinates,
            weights={name: p.to(device) for name, p in drawn.items()},
            dtype=dtype,
            device=device,
        )
        self.coordinates = coordinates

    def description(self) -> dict[str, Any] | None:
        """Describe the network in JSON values; None if rho is the user's code."""
        if any(layer.description() is None for layer in self.specs):
            return None
        return {
            "kind": "LeakyField",
            "sizes": list(self.sizes),
            "activation": self.activation.name,
            "tied": self.tied,
            "coordinates": self.coordinates,
            "linear_output": self.linear_output,
        }

    def forward_weight(self, layer: int) -> Tensor:
        """The weight into `layer` (index into `layers`) from below, [n_layer, n_below]."""
        return self.parameters[f"forward.{layer + 1}"]

    def feedback_weight(self, layer: int) -> Tensor:
        """The weight into `layer` from the layer above, [n_layer, n_above]."""
        if self.tied:
            return self.parameters[f"forward.{layer + 2}"].T
        return self.parameters[f"feedback.{layer + 1}"]

    def symmetrising_update(
        self, s: Tensor, drive: Tensor, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        # with W = forward.{k+1}, B = feedback.k and d = rho'(s), the block of J - J^T between two
        # layers is B D_above - D_below W^T; in a box, where D stands left of the weights,
        # D_below B - W^T D_above. Half the squared norm counts each block once.
        slopes, boxed = self.split(self.slope(s, drive)), self.coordinates == "clipped"
        updates = {}
        for k in range(len(self.layers) - 1):
            below, above = slopes[k], slopes[k + 1]
            weight, back = self.forward_weight(k + 1).T, self.feedback_weight(k)
            both = below.T @ above / len(below)
            own, other = below.square().mean(0)[:, None], above.square().mean(0)
            own, other = (own, other) if boxed else (other, own)
            on_back = 2 * (weight * both - back * own)
            on_weight = 2 * (back * both - weight * other).T
            if self.tied:
                updates[f"forward.{k + 2}"] = on_back.T + on_weight
            else:
                updates[f"feedback.{k + 1}"], updates[f"forward.{k + 2}"] = on_back, on_weight
        return updates

    def parameter_norms(self, x: Tensor, s: Tensor) -> dict[str, Tensor]:
        # untied, a unit's parameters move that unit alone: dmu/dtheta (dmu/dtheta)^T is diagonal
        # with |r_below|^2 + |r_above|^2 + 1. Tied, |d_k r_{k-1}^T + r_k d_{k-1}^T|^2 is at most
        # (|r_{k-1}|^2 + |r_k|^2) (|d_k|^2 + |d_{k-1}|^2).
        sizes = [x.square().sum(1), *(r.square().sum(1) for r in self.split(self.activities(s)))]
        one = torch.ones_like(sizes[0])
        squares = {f"bias.{k}": one for k in range(1, len(sizes))}
        total = [one.clone() for _ in self.layers]
        for k in range(1, len(sizes)):
            shared = self.tied and k > 1
            weight = sizes[k - 1] + sizes[k] if shared else sizes[k - 1]
            squares[f"forward.{k}"] = weight
            total[k - 1] += weight
            if shared:
                total[k - 2] += weight
            if not self.tied and k + 1 < len(sizes):
                squares[f"feedback.{k}"] = sizes[k + 1]
                total[k - 1] += sizes[k + 1]
        squares["all"] = torch.stack(total).amax(0)
        return {name: square.sqrt() for name, square in squares.items()}


def _check(
    sizes: Sequence[int],
    coordinates: str,
    activation: str | Activation,
    angle: float | None,
    asymmetry: float | None,
    gain: float,
    feedback_gain: float,
    tied: bool,
) -> None:
    if len(sizes) < 2 or any(int(size) != size or size < 1 for size in sizes):
        raise InputError(f"sizes={list(sizes)} must be two or more positive whole numbers")
    if coordinates not in COORDINATES:
        raise InputError(f"coordinates={coordinates!r}: use one of {', '.join(COORDINATES)}")
    name = get_activation(activation).name
    if coordinates == "clipped" and name != "hard-sigmoid":
        raise InputError(
            f'coordinates="clipped" with activation={name!r}: the box [0, 1] is that of '
            'hard-sigmoid; use activation="hard-sigmoid" or coordinates="membrane"'
        )
    if angle is not None and not 0.0 <= angle <= 180.0:
        raise InputError(f"angle={angle} must lie between 0 and 180 degrees")
    if asymmetry is not None and not 0.0 <= asymmetry < math.inf:
        raise InputError(f"asymmetry={asymmetry} must be finite, 0 (transposed weights) or more")
    _require_start(tied, angle, asymmetry)
    if not tied and asymmetry is None:
        require_angle(sizes, 90.0 if angle is None else angle)
    if not (0 < gain < math.inf and 0 < feedback_gain < math.inf):
        both = f"gain={gain} and feedback_gain={feedback_gain}"
        raise InputError(f"{both} must be positive and finite")
    if tied and (feedback_gain != 1.0):
        raise InputError(f"feedback_gain={feedback_gain} has no meaning with tied weights; use 1")


def _require_start(tied: bool, angle: float | None, asymmetry: float | None) -> None:
    """Reject what says where the feedback weights start if another argument settles that.

    Raises:
        InputError: the angle or the asymmetry has no effect.
    """
    if tied and asymmetry is not None:
        raise InputError(f"asymmetry={asymmetry} has no effect with tied=True; leave one out")
    if angle is not None and (tied or asymmetry is not None):
        other = "tied=True" if tied else f"asymmetry={asymmetry}"
        raise InputError(f"angle={angle} has no effect with {other}; leave one out")
