"""Layered leaky integrators with separate feedforward and feedback weights (the 2018 model)."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from bioplaus.activations import ACTIVATIONS, Activation, get_activation
from bioplaus.errors import InputError
from bioplaus.fields.base import AbstractField
from bioplaus.fields.drawing import require_angle, require_scale, turned
from bioplaus.fields.linearisation import AbstractLinearisation, LayeredLinearisation
from bioplaus.fields.parameters import Parameters

COORDINATES = ("membrane", "activity", "clipped")

NARROW = 32
"""Below this width a product is faster written by columns, also with a copy into the rows."""


@final
class LeakyField(AbstractField):
    """mu_i(x, s) = sum_j W_ij rho(s_j) + b_i - s_i, in units of the membrane time constant.

    Layer k receives `forward.k` [n_k, n_{k-1}] from below (layer 0 is the clamped input) and,
    below the output, `feedback.k` [n_k, n_{k+1}] from above, and `bias.k` [n_k]. With tied
    weights the feedback is the transpose of the forward weight above and is no parameter.

    Coordinates say which state the local rule sees:

    - `membrane`: as above; the rule is dW_ij ~ rho(s_j) ds_i (Scellier et al. 2018).
    - `activity`: the same dynamics; the rule is dW_ij ~ rho(s_j) d rho(s_i), which is exact for
      tied weights with linear output units, where the membrane form is not.
    - `clipped`: the state lives in the box [0, 1] (rho is the identity there) and
      mu(s) = clip(W s + b) - s, a nudge acting inside the clip. Needs `hard-sigmoid`.

    Output units are linear (rho(s) = s, no box) unless `linear_output` is off.

    Source: Scellier, Goyal, Binas, Mesnard, Bengio 2018 (arXiv 1808.04873), section 4.
    """

    def __init_subclass__(cls) -> None:
        raise InputError(
            f"{cls.__name__} extends LeakyField, whose current, its transpose and its update "
            "belong together: one written anew contradicts the others; extend AbstractField"
        )

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str = "tanh",
        *,
        tied: bool = False,
        coordinates: str = "membrane",
        linear_output: bool = True,
        gain: float = 1.0,
        feedback_gain: float = 1.0,
        angle: float = 90.0,
        asymmetry: float | None = None,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """Draw the weights.

        Args:
            sizes: units a layer, the input first; at least one hidden layer is not required.
            activation: name of rho, see `bioplaus.activations`.
            tied: feedback weights are the transposed feedforward weights.
            coordinates: `membrane`, `activity` or `clipped`.
            linear_output: whether output units are linear.
            gain: feedforward weights are drawn from N(0, gain^2 / fan_in).
            feedback_gain: norm of a feedback matrix over that of its feedforward partner.
            angle: initial angle in degrees, 0 to 180, between each feedback matrix and the
                transpose of its feedforward partner; 0 and 180 exactly. Between two layers of one
                unit there is no other.
            asymmetry: A >= 0, instead of `angle`: feedback = transposed feedforward + A times an
                independent draw of the same scale.
            generator: source of the random numbers (on the CPU); None is torch's global one.
            dtype: float32 or float64.
            device: where the parameters live.

        Raises:
            InputError: a value is outside its range.
        """
        _check(sizes, coordinates, activation, angle, asymmetry, gain, feedback_gain, tied)
        self.sizes = tuple(int(size) for size in sizes)
        self.activation: Activation = get_activation(activation)
        self.coordinates = coordinates
        self.linear_output = linear_output
        self.tied = tied
        bounds = [0]
        for size in self.sizes[1:]:
            bounds.append(bounds[-1] + size)
        self.layers = tuple(slice(a, b) for a, b in itertools.pairwise(bounds))
        last = len(self.layers) - 1
        even, odd = tuple(range(0, last + 1, 2)), tuple(range(1, last + 1, 2))
        self.groups = (even, odd) if odd else (even,)
        drawn: dict[str, Tensor] = {}
        for k, (fan_in, fan_out) in enumerate(zip(self.sizes, self.sizes[1:], strict=False), 1):
            forward = torch.randn(fan_out, fan_in, generator=generator, dtype=dtype)
            drawn[f"forward.{k}"] = forward * (gain / math.sqrt(fan_in))
            drawn[f"bias.{k}"] = torch.zeros(fan_out, dtype=dtype)
        for k in range(1, len(self.layers)) if not tied else ():
            mirror = drawn[f"forward.{k + 1}"].T
            draw = torch.randn(mirror.shape, generator=generator, dtype=dtype)
            draw *= gain / math.sqrt(self.sizes[k])
            back = turned(mirror, draw, angle) if asymmetry is None else mirror + asymmetry * draw
            drawn[f"feedback.{k}"] = (feedback_gain * back).contiguous()
        said = f"gain={gain}, feedback_gain={feedback_gain}, asymmetry={asymmetry}"
        require_scale(drawn, said)
        self._wire({name: p.to(device) for name, p in drawn.items()})

    def with_parameters(self, parameters: Mapping[str, Tensor]) -> LeakyField:
        field = copy.copy(self)
        field._wire(parameters)
        return field

    def __getstate__(self) -> dict[str, Any]:
        # the views of the wiring would come back from a pickle as copies
        return {name: value for name, value in vars(self).items() if name != "_wiring"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._wire(self.parameters)

    def _wire(self, parameters: Mapping[str, Tensor]) -> None:
        """Keep the parameters and, for each layer, what its current is made of.

        Looking up and transposing costs as much as a small product, so it is done once, and again
        where a tensor was given other storage (`tensor.data = ...`).
        """
        self._parameters = Parameters(parameters)
        self._storage = [p.data_ptr() for p in self._parameters.values()]
        self._wiring = [
            (
                parameters[f"bias.{k + 1}"],
                self.forward_weight(k),
                self.forward_weight(k).T,
                self.feedback_weight(k).T if k + 1 < len(self.layers) else None,
                self.sizes[k + 1] < NARROW,
            )
            for k in range(len(self.layers))
        ]
        self._boxed = [
            self.coordinates == "clipped" and not (self.linear_output and k == len(self.layers) - 1)
            for k in range(len(self.layers))
        ]

    def forward_weight(self, layer: int) -> Tensor:
        """The weight into `layer` (index into `layers`) from below, [n_layer, n_below]."""
        return self.parameters[f"forward.{layer + 1}"]

    def feedback_weight(self, layer: int) -> Tensor:
        """The weight into `layer` from the layer above, [n_layer, n_above]."""
        if self.tied:
            return self.parameters[f"forward.{layer + 2}"].T
        return self.parameters[f"feedback.{layer + 1}"]

    def is_linear(self, layer: int | None = None) -> bool:
        if layer is None:
            return all(self.is_linear(k) for k in range(len(self.layers)))
        if layer == len(self.layers) - 1 and self.linear_output:
            return True
        return self.coordinates == "clipped" or self.activation.name == "linear"

    def is_boxed(self, layer: int) -> bool:
        """Whether a layer's state lives in the box [0, 1]."""
        return self._boxed[layer]

    def drive(self, x: Tensor) -> Tensor:
        if self._storage != [p.data_ptr() for p in self._parameters.values()]:
            self._wire(self._parameters)
        bias, _, forward, *_ = self._wiring[0]
        return torch.addmm(bias, x, forward)

    def initial_state(self, drive: Tensor) -> Tensor:
        s = drive.new_empty(len(drive), self.n)
        s[:, self.layers[0]] = drive
        self.confine(s[:, self.layers[0]], 0)
        for k, (below, here) in enumerate(zip(self.layers, self.layers[1:], strict=False), 1):
            r = self.activity(s[:, below], k - 1)
            weight, bias = self.forward_weight(k), self.parameters[f"bias.{k + 1}"]
            torch.addmm(bias, r, weight.T, out=s[:, here])
            self.confine(s[:, here], k)
        return s

    def activity(self, s: Tensor, layer: int, out: Tensor | None = None) -> Tensor:
        if self.is_linear(layer):
            return s if out is None else out.copy_(s)
        return self.activation(s, out)

    def activities(self, s: Tensor, out: Tensor | None = None) -> Tensor:
        """rho(s) of all layers, [B, n]; `s` itself where rho is the identity everywhere."""
        if self.is_linear():
            return s
        out = torch.empty_like(s) if out is None else out
        for k, here in enumerate(self.layers):
            self.activity(s[:, here], k, out[:, here])
        return out

    def current(
        self, r: Sequence[Tensor], drive: Tensor, layer: int, out: Tensor | None = None
    ) -> Tensor:
        bias, weight, forward, feedback, narrow = self._wiring[layer]
        if layer > 0:
            if narrow:
                out = torch.add(bias, torch.mm(weight, r[layer - 1].T).T, out=out)
            else:
                out = torch.addmm(bias, r[layer - 1], forward, out=out)
            return out if feedback is None else out.addmm_(r[layer + 1], feedback)
        if feedback is None:
            return drive.clone() if out is None else out.copy_(drive)
        return torch.addmm(drive, r[1], feedback, out=out)

    def transposed_current(self, v: Sequence[Tensor], layer: int, out: Tensor) -> Tensor:
        if layer + 1 < len(self.layers):
            torch.mm(v[layer + 1], self.forward_weight(layer + 1), out=out)
        else:
            out.zero_()
        if layer > 0:
            out.addmm_(v[layer - 1], self.feedback_weight(layer - 1))
        return out

    def confine(self, s: Tensor, layer: int) -> Tensor:
        return s.clamp_(0.0, 1.0) if self._boxed[layer] else s

    def layer_slope(self, own: Tensor, current: Tensor, layer: int) -> Tensor:
        if self._boxed[layer]:
            return ((current > 0) & (current < 1)).to(own.dtype)
        return torch.ones_like(own) if self.is_linear(layer) else self.activation.slope(own)

    def slope(self, s: Tensor, drive: Tensor) -> Tensor:
        """D of all layers, [B, n]; see `layer_slope`."""
        out, parts = torch.empty_like(s), self.split(s)
        r = [self.activity(own, k) for k, own in enumerate(parts)]
        for k, there in enumerate(self.split(out)):
            current = self.current(r, drive, k, there) if self._boxed[k] else there
            there.copy_(self.layer_slope(parts[k], current, k))
        return out

    def linearise(self, s: Tensor, drive: Tensor) -> LayeredLinearisation:
        boxed = self.coordinates == "clipped"
        slope = self.slope(s, drive)
        return LayeredLinearisation(
            slope, self._recurrent, self.transposed_current, self.split, boxed
        )

    def partners(self) -> dict[str, str]:
        if self.tied:
            return {}
        return {f"feedback.{k}": f"forward.{k + 1}" for k in range(1, len(self.layers))}

    def symmetrising_update(self, at: AbstractLinearisation) -> dict[str, Tensor]:
        # with W = forward.{k+1}, B = feedback.k and d = rho'(s), the block of J - J^T between two
        # layers is B D_above - D_below W^T; in a box, where D stands left of the weights,
        # D_below B - W^T D_above. Half the squared norm counts each block once.
        slopes, boxed = self.split(at.slope), self.coordinates == "clipped"
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

    def not_holomorphic(self) -> str | None:
        if self.activation.holomorphic:
            return None
        smooth = ", ".join(name for name, a in ACTIVATIONS.items() if a.holomorphic)
        return (
            f"activation={self.activation.name!r} has corners; use one of {smooth}, in membrane "
            "coordinates"
        )

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

    def displacement(self, s_plus: Tensor, s_minus: Tensor) -> Tensor:
        if self.coordinates == "activity":
            return self.activities(s_plus) - self.activities(s_minus)
        return s_plus - s_minus

    def seen(self, at: AbstractLinearisation) -> Tensor | None:
        return at.slope if self.coordinates == "activity" else None

    def local_update(
        self, x: Tensor, s: Tensor, delta: Tensor, out: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        if out is None:
            out = {name: torch.empty_like(p) for name, p in self.parameters.items()}
        r, scale = self.activities(s), 1.0 / x.shape[0]
        delta = delta * scale
        for k, here in enumerate(self.layers):
            post = delta[:, here].T
            below = x if k == 0 else r[:, self.layers[k - 1]]
            torch.mm(post, below, out=out[f"forward.{k + 1}"])
            torch.sum(post, 1, out=out[f"bias.{k + 1}"])
            if k + 1 < len(self.layers):
                above = r[:, self.layers[k + 1]]
                if not self.tied:
                    torch.mm(post, above, out=out[f"feedback.{k + 1}"])
            if self.tied and k > 0:
                out[f"forward.{k + 1}"].addmm_(r[:, here].T, delta[:, self.layers[k - 1]])
        return out

    def _recurrent(self, r: Sequence[Tensor], layer: int, out: Tensor) -> Tensor:
        """sum_j W_ij r_j without bias and drive."""
        if layer > 0:
            torch.mm(r[layer - 1], self.forward_weight(layer).T, out=out)
        else:
            out.zero_()
        if layer + 1 < len(self.layers):
            out.addmm_(r[layer + 1], self.feedback_weight(layer).T)
        return out


def _check(
    sizes: Sequence[int],
    coordinates: str,
    activation: str,
    angle: float,
    asymmetry: float | None,
    gain: float,
    feedback_gain: float,
    tied: bool,
) -> None:
    if len(sizes) < 2 or any(int(size) != size or size < 1 for size in sizes):
        raise InputError(f"sizes={list(sizes)} must be two or more positive whole numbers")
    if coordinates not in COORDINATES:
        raise InputError(f"coordinates={coordinates!r}: use one of {', '.join(COORDINATES)}")
    if coordinates == "clipped" and activation != "hard-sigmoid":
        raise InputError(
            f'coordinates="clipped" with activation={activation!r}: the box [0, 1] is that of '
            'hard-sigmoid; use activation="hard-sigmoid" or coordinates="membrane"'
        )
    if not 0.0 <= angle <= 180.0:
        raise InputError(f"angle={angle} must lie between 0 and 180 degrees")
    if asymmetry is not None and not 0.0 <= asymmetry < math.inf:
        raise InputError(f"asymmetry={asymmetry} must be finite, 0 (transposed weights) or more")
    if not tied and asymmetry is None:
        require_angle(sizes, angle)
    if not (0 < gain < math.inf and 0 < feedback_gain < math.inf):
        both = f"gain={gain} and feedback_gain={feedback_gain}"
        raise InputError(f"{both} must be positive and finite")
    if tied and (feedback_gain != 1.0):
        raise InputError(f"feedback_gain={feedback_gain} has no meaning with tied weights; use 1")
