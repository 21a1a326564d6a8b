"""The interface of a vector field mu(x, s; theta) whose zero is the network's answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Self, final

import torch
from torch import Tensor

from bioplaus.errors import InputError
from bioplaus.fields.linearisation import AbstractLinearisation
from bioplaus.fields.parameters import Parameters
from bioplaus.precision import double


class AbstractField(ABC):
    """A layered vector field. The state of a batch is one tensor `s` [B, n].

    mu of a layer is `change(current, s)`, its current confined to the state space minus its state:
    phases, oracles and `field` all evaluate this one formula, and no class may write another.

    The clamped input `x` enters only through `drive(x)`, computed once a batch. Parameters are
    plain tensors, changed in place and never replaced (`with_parameters` gives a field with
    others); no autograd graph is ever built over them.

    Attributes:
        layers: the columns of `s` that belong to each layer, input excluded, output last.
        groups: layers (by index) that do not act on one another, so that a group can be settled
            at once while the others are held.
    """

    layers: tuple[slice, ...]
    groups: tuple[tuple[int, ...], ...]
    _parameters: Parameters

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in ("field", "explicit_field", "change"):
            if name in vars(cls):
                raise InputError(
                    f"{cls.__name__} writes `{name}` anew, which the phases would not see; say "
                    "what mu is in `current`, `activity` and `confine`"
                )

    @property
    def parameters(self) -> Parameters:
        """name -> tensor; an estimator returns its update under the same names."""
        return self._parameters

    @property
    def n(self) -> int:
        """Number of state variables."""
        return self.layers[-1].stop

    @property
    def output(self) -> slice:
        """The columns of the output layer."""
        return self.layers[-1]

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' dtype."""
        return next(iter(self.parameters.values())).dtype

    @property
    def device(self) -> torch.device:
        """The parameters' device."""
        return next(iter(self.parameters.values())).device

    @abstractmethod
    def with_parameters(self, parameters: Mapping[str, Tensor]) -> Self:
        """The same field over other tensors of the same names and shapes (any dtype, device)."""

    def to(self, device: torch.device | str) -> Self:
        """The same field with its parameters on another device."""
        return self.with_parameters({k: p.to(device) for k, p in self.parameters.items()})

    def precise(self) -> Self:
        """The same field in double precision."""
        return self.with_parameters({k: double(p) for k, p in self.parameters.items()})

    @abstractmethod
    def drive(self, x: Tensor) -> Tensor:
        """The constant input current that `x` [B, n_in] causes."""

    @abstractmethod
    def initial_state(self, drive: Tensor) -> Tensor:
        """A start for the free phase, [B, n]: one pass upwards without feedback."""

    @abstractmethod
    def is_linear(self, layer: int | None = None) -> bool:
        """Whether rho is the identity on the state space of a layer (None: of all layers)."""

    @abstractmethod
    def activity(self, s: Tensor, layer: int, out: Tensor | None = None) -> Tensor:
        """rho(s) of one layer's columns [B, n_layer]."""

    def split(self, s: Tensor) -> list[Tensor]:
        """The columns of each layer, as views."""
        return [s[:, here] for here in self.layers]

    @abstractmethod
    def current(
        self, r: Sequence[Tensor], drive: Tensor, layer: int, out: Tensor | None = None
    ) -> Tensor:
        """The input current of one layer, sum_j W_ij r_j + b_i.

        Args:
            r: activities, a tensor a layer; only the layers that act on `layer` are read.
            drive: what `drive(x)` returned.
            layer: index into `layers`.
            out: [B, n_layer], where the current is written; without it, autograd can go through.
        """

    @abstractmethod
    def transposed_current(self, v: Sequence[Tensor], layer: int, out: Tensor) -> Tensor:
        """sum_j W_ji v_j of one layer, written to `out` [B, n_layer]; `v` a tensor a layer."""

    @abstractmethod
    def confine(self, s: Tensor, layer: int) -> Tensor:
        """Bring a layer's columns back into the state space, in place (a box, or everything)."""

    @final
    def change(self, current: Tensor, own: Tensor, layer: int) -> Tensor:
        """mu of one layer from its current, in place: confine(current) - s."""
        return self.confine(current, layer).sub_(own)

    @final
    def field(self, s: Tensor, drive: Tensor) -> Tensor:
        """mu(x, s), [B, n]; autograd can go through it."""
        parts = self.split(s)
        r = [self.activity(own, k) for k, own in enumerate(parts)]
        return torch.cat(
            [self.change(self.current(r, drive, k), own, k) for k, own in enumerate(parts)], 1
        )

    @final
    def explicit_field(self, parameters: Mapping[str, Tensor], x: Tensor, s: Tensor) -> Tensor:
        """mu(x, s; parameters), so that autograd can go through the parameters, [B, n]."""
        other = self.with_parameters(parameters)
        return other.field(s, other.drive(x))

    @abstractmethod
    def layer_slope(self, own: Tensor, current: Tensor, layer: int) -> Tensor:
        """D of one layer, [B, n_layer]: rho'(s); in a box, 1 where the current lies inside it.

        A unit in a box follows its current, not its own state, so that a state near a wall says
        nothing about the slope.

        Args:
            own: the layer's columns of the state.
            current: its `current` there, read in a box only.
            layer: index into `layers`.
        """

    @abstractmethod
    def linearise(self, s: Tensor, drive: Tensor) -> AbstractLinearisation:
        """J_s = dmu/ds at each row of `s` [B, n] under its drive."""

    def partners(self) -> dict[str, str]:
        """Feedback parameters, and the feedforward ones whose transposes would be symmetric."""
        return {}

    @abstractmethod
    def symmetrising_update(self, at: AbstractLinearisation) -> dict[str, Tensor]:
        """-d/dtheta of the mean over rows of ||J_s - J_s^T||_F^2 / 2, with D held.

        Only parameters that the Jacobian depends on are named.
        """

    @abstractmethod
    def not_holomorphic(self) -> str | None:
        """Why the field has no analytic extension to complex states; None where it has one."""

    @abstractmethod
    def parameter_norms(self, x: Tensor, s: Tensor) -> dict[str, Tensor]:
        """Upper bounds of ||dmu/dtheta||_2 of each row, [B], by parameter and for "all"."""

    def displacement(self, s_plus: Tensor, s_minus: Tensor) -> Tensor:
        """The change of state that the local rule sees, [B, n]."""
        return s_plus - s_minus

    def seen(self, at: AbstractLinearisation) -> Tensor | None:
        """D with `displacement` = D ds for small ds, [B, n]; None where it is ds itself."""
        return None

    @abstractmethod
    def local_update(
        self, x: Tensor, s: Tensor, delta: Tensor, out: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """(dmu/dtheta)^T delta in closed form, averaged over the batch.

        Args:
            x: the clamped input [B, n_in].
            s: the presynaptic state, the free fixed point, [B, n].
            delta: the postsynaptic change, an estimate of ds/dbeta, [B, n].
            out: buffers named and shaped like the parameters.
        """
