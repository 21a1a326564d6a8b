"""A vector field mu(x, s; theta): the user gives the formula, and all derivatives follow."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Self

import torch
from torch import Tensor
from torch.func import vjp

from bioplaus.calling import Answered, answered
from bioplaus.errors import InputError
from bioplaus.fields.kept import Kept
from bioplaus.fields.linearisation import AbstractLinearisation, FunctionalLinearisation
from bioplaus.fields.norms import parameter_norms
from bioplaus.fields.parameters import Parameters
from bioplaus.fields.symmetry import symmetrising_update
from bioplaus.precision import double

_PREDICTING = "bioplaus.predicting"


class VectorField(Kept, metaclass=Answered):
    """ds/dt = mu(x, s; theta); the zero s* of mu is the network's answer to the input x.

    A subclass defines its parameters and `field(x, s)`, in any torch code that treats the rows of a
    batch independently, follows the dtype and device of its arguments and reads `self.parameters`
    in each call. Jacobian products, the local update, norms and the symmetrising update follow by
    `torch.func`. A subclass may override any of these with a faster method; `check_field` compares
    each with the default.

    Parameters are plain tensors that are changed in place and never replaced (`with_parameters`
    makes a field with others). They carry no autograd graph.

    Attributes:
        n: number of state variables.
        n_output: number of outputs, which are the last state variables.
        depth: number of steps after which a signal has crossed the network; no phase ends earlier.
        input: shape of a row of x, or None if it is not specified.
        box: bounds (lo, hi) of the states, or None.

    Examples:
        >>> class Gated(VectorField):
        ...     def field(self, x, s):
        ...         p = self.parameters
        ...         gate = torch.sigmoid(s @ p["gate"].T)
        ...         return gate * torch.tanh(s @ p["w"].T + x @ p["u"].T) - s
        >>> g = torch.Generator().manual_seed(0)
        >>> draw = {"gate": (5, 5), "w": (5, 5), "u": (5, 3)}
        >>> weights = {k: 0.3 * torch.randn(*v, generator=g) for k, v in draw.items()}
        >>> Gated(weights, n=5, n_output=2)
        Gated(n=5, n_output=2, parameters=65)
    """

    input: tuple[int, ...] | None = None
    box: tuple[float, float] | None = None

    def __init__(
        self, parameters: Mapping[str, Tensor], *, n: int, n_output: int, depth: int = 4
    ) -> None:
        """Set the parameters and the size of the state.

        Raises:
            InputError: a size is out of range, or a parameter is not a tensor of real floats.
        """
        for name, value in (("n", n), ("n_output", n_output), ("depth", depth)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name}={value!r} must be a whole number of at least 1")
        if n_output > n:
            raise InputError(f"n_output={n_output} outputs are more than the n={n} state variables")
        self._parameters = Parameters(checked(parameters))
        self.n, self.n_output, self.depth = n, n_output, depth

    @abstractmethod
    def field(self, x: Tensor, s: Tensor) -> Tensor:
        """mu(x, s) = ds/dt.

        Args:
            x: the clamped input, one per row.
            s: the state, [B, n].

        Returns:
            [B, n], per unit of time; differentiable by autograd.
        """

    @property
    def parameters(self) -> Parameters:
        """name -> tensor; an estimator returns its update under the same names."""
        return self._parameters

    @property
    def output(self) -> slice:
        """The columns of the outputs."""
        return slice(self.n - self.n_output, self.n)

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' dtype."""
        return next(iter(self.parameters.values())).dtype

    @property
    def device(self) -> torch.device:
        """The parameters' device."""
        return next(iter(self.parameters.values())).device

    def __repr__(self) -> str:
        count = sum(p.numel() for p in self.parameters.values())
        return f"{type(self).__name__}(n={self.n}, n_output={self.n_output}, parameters={count})"

    def with_parameters(self, parameters: Mapping[str, Tensor]) -> Self:
        """The same field with other tensors of the same names and shapes (any dtype, device)."""
        other = copy.copy(self)
        other._parameters = Parameters(parameters)
        return other

    def to(self, device: torch.device | str) -> Self:
        """The same field with its parameters on another device."""
        return self.with_parameters({k: p.to(device) for k, p in self.parameters.items()})

    def precise(self) -> Self:
        """The same field in double precision."""
        return self.with_parameters({k: double(p) for k, p in self.parameters.items()})

    @answered
    def predict(self, x: Any, *, settling: Any = None) -> Tensor:
        """The outputs of s* with mu(x, s*) = 0; in classification the largest one gives the label.

        A warning gives cause and remedy if a row does not settle.

        Args:
            x: inputs, one per row: a tensor or array-like (numpy, lists, a data frame).
            settling: a `Settling`: solver, tolerance and step limit of the free phase.

        Returns:
            [B, n_output].

        Raises:
            InputError: x does not match the field's `input`, or is not an array of floats.
        """
        # imported on demand, because the phases depend on the fields
        return import_module(_PREDICTING).predict(self, x, settling=settling)

    def of_rows(self, rows: Tensor) -> Self:
        """The field for some rows of a batch, given by index; by default `self`."""
        return self

    def arranged(self, rows: Tensor) -> Tensor:
        """Order row indices so that computing is fastest; the default leaves them as they are."""
        return rows

    def drive(self, x: Tensor) -> Tensor:
        """The part of the effect of `x` computed once per batch, one per row; by default `x`."""
        return x

    def driven(self, drive: Tensor, s: Tensor) -> Tensor:
        """mu(x, s) from `drive(x)`, [B, n]."""
        return self.field(drive, s)

    def explicit_field(self, parameters: Mapping[str, Tensor], x: Tensor, s: Tensor) -> Tensor:
        """mu(x, s; parameters), differentiable by the parameters, [B, n]."""
        return self.with_parameters(parameters).field(x, s)

    def initial_state(self, drive: Tensor) -> Tensor:
        """The initial state of the free phase, [B, n]: at rest."""
        s = torch.zeros(len(drive), self.n, dtype=drive.dtype, device=drive.device)
        return self.confine_state(s)

    def confine_state(self, s: Tensor) -> Tensor:
        """Clip states [B, n] to the box, in place."""
        return s if self.box is None else s.clamp_(*self.box)

    def linearise(self, s: Tensor, drive: Tensor) -> AbstractLinearisation:
        """J_s = dmu/ds at each row of `s` [B, n] under its drive."""
        return FunctionalLinearisation(s, drive, self.driven)

    def local_update(
        self, x: Tensor, s: Tensor, delta: Tensor, out: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """(dmu/dtheta)^T delta, averaged over the batch.

        Args:
            x: the clamped input, one per row.
            s: the presynaptic state, the free fixed point, [B, n].
            delta: the postsynaptic change, an estimate of ds/dbeta, [B, n].
            out: buffers named and shaped like the parameters.
        """
        pull = vjp(lambda theta: self.explicit_field(theta, x, s), dict(self.parameters))[1]
        (updates,) = pull(delta / len(delta))
        if out is None:
            return {name: updates[name] for name in self.parameters}
        for name, buffer in out.items():
            buffer.copy_(updates[name])
        return out

    def displacement(self, s: Tensor, d: Tensor) -> Tensor:
        """What the local rule sees of a deviation `d` from `s`, [B, n]; by default d itself."""
        return d

    def displacement_slope(self, at: AbstractLinearisation) -> Tensor | None:
        """D such that `displacement` = D d for small d, [B, n]; None if it is d itself."""
        if type(self).displacement is VectorField.displacement:
            return None
        rest = torch.zeros_like(at.s)
        return vjp(lambda d: self.displacement(at.s, d), rest)[1](torch.ones_like(rest))[0]

    def partners(self) -> dict[str, str]:
        """Maps each feedback parameter to the feedforward one that it would mirror if symmetric."""
        return {}

    def feedback(self) -> list[str]:
        """The names of the feedback parameters, which close the loop."""
        return list(self.partners())

    def lacks_partners(self) -> bool:
        """Whether there is feedback but none of it has a partner."""
        return not self.partners()

    def tied_pairs(self) -> int:
        """Number of pairs of layers whose feedback is the feedforward weight itself."""
        return 0

    def mirror(self, feedback: str, values: Tensor) -> Tensor:
        """Rearrange values of a feedback parameter's partner to the feedback parameter's layout."""
        return values.T if values.ndim == 2 else values

    def symmetrising_update(
        self, s: Tensor, drive: Tensor, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """-d/dtheta of the mean over rows of ||J_s - J_s^T||_F^2 / 2 at fixed `s` and slopes.

        Args:
            s: the states, [B, n].
            drive: the drive of each state.
            generator: source of random probes, which are drawn if the state is large.
        """
        return symmetrising_update(
            lambda theta, z: self.with_parameters(theta).driven(drive, z),
            self.parameters,
            s,
            generator,
        )

    def constrain(self) -> None:
        """Project the parameters onto their constraints after an optimizer's step, in place."""
        return

    def parameter_norms(self, x: Tensor, s: Tensor) -> dict[str, Tensor] | None:
        """Upper bounds of ||dmu/dtheta||_2 of each row, [B], by parameter and for "all".

        None if the field is too large for them.
        """
        return parameter_norms(self.explicit_field, self.parameters, x, s)

    def not_holomorphic(self) -> str | None:
        """Why the field has no analytic extension to complex states; None if it has one."""
        return f"{type(self).__name__} does not say that it has one"


def checked(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Check that a field can learn the given parameters, and return them.

    Raises:
        InputError: there are none, or one is not a tensor of floats; the message names it.
    """
    if not isinstance(parameters, Mapping) or not parameters:
        raise InputError("parameters must be a dict of at least one tensor by name")
    for name, p in parameters.items():
        if not isinstance(p, Tensor):
            raise InputError(f"parameter {name!r} is a {type(p).__name__}; give a torch tensor")
        if not (p.is_floating_point() or p.is_complex()):
            raise InputError(f"parameter {name!r} is of {p.dtype}; give float32 or float64")
    dtypes = {p.dtype for p in parameters.values()}
    if len(dtypes) > 1:
        raise InputError(
            f"parameters are of several dtypes ({', '.join(sorted(map(str, dtypes)))}); "
            "give them one"
        )
    return {name: p.detach() for name, p in parameters.items()}
