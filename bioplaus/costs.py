"""Costs C(s) of the output layer and their slopes dC/ds. J is the mean of C over the batch."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import vjp

from bioplaus.errors import InputError
from bioplaus.registry import find


class AbstractCost(ABC):
    """A cost of the output state `s` [B, m] and targets `y` [B, m] (one-hot rows for labels).

    A subclass implements `value`. The slope follows by autograd unless the subclass overrides it.
    """

    name: str
    curvature: float = 1.0
    """A typical d2C/ds2 of one unit; it scales the steps of nudged outputs."""
    steepest: float | None = None
    """The largest eigenvalue that d2C/ds2 has at any s; None means `curvature`."""

    def __init_subclass__(cls) -> None:
        if not hasattr(cls, "name"):
            cls.name = cls.__name__
        # a parent's formulas for what the subclass states anew no longer hold
        own, parents = vars(cls), cls.__mro__[1:]
        parent = next(vars(each)["value"] for each in parents if "value" in vars(each))
        anew = "value" in own and not getattr(parent, "__isabstractmethod__", False)
        if anew and "slope" not in own:
            cls.slope = AbstractCost.slope  # type: ignore[method-assign]
        if (anew or "slope" in own) and "slope_at" not in own:
            cls.slope_at = AbstractCost.slope_at  # type: ignore[method-assign]

    @abstractmethod
    def value(self, s: Tensor, y: Tensor) -> Tensor:
        """C of each row, [B]."""

    def slope(self, s: Tensor, y: Tensor) -> Tensor:
        """dC/ds, [B, m]."""
        ones = torch.ones(s.shape[:1], dtype=s.dtype, device=s.device)
        (slope,) = vjp(lambda state: self.value(state, y), s)[1](ones)
        return slope.conj() if slope.is_complex() else slope

    def slope_at(self, y: Tensor) -> Callable[[Tensor], Tensor]:
        """`slope` as a function of s, for a phase: what depends on `y` alone is computed once."""
        return lambda s: self.slope(s, y)


class FunctionCost(AbstractCost):
    """A cost given as a function C(s, y) that returns one number per row, in any torch code.

    Attributes:
        function: (s [B, m], y [B, m]) -> [B]. If it has attributes `curvature` and `steepest`,
            the cost adopts them.

    Examples:
        >>> cost = FunctionCost(lambda s, y: (s - y).abs().pow(3).sum(1))
        >>> cost.slope(torch.full((1, 2), 2.0), torch.zeros(1, 2))
        tensor([[12., 12.]])
    """

    name = "function"

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Wrap the function."""
        self.function = function
        self.name = getattr(function, "__name__", type(function).__name__)
        self.curvature = getattr(function, "curvature", AbstractCost.curvature)
        self.steepest = getattr(function, "steepest", AbstractCost.steepest)

    def __repr__(self) -> str:
        return f"FunctionCost({self.name})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FunctionCost) and self.function == other.function

    def __hash__(self) -> int:
        return hash(self.function)

    def value(self, s: Tensor, y: Tensor) -> Tensor:
        """C of each row, [B].

        Raises:
            InputError: the function returned anything else.
        """
        found = self.function(s, y)
        if not isinstance(found, Tensor) or found.shape != s.shape[:1]:
            what = f"shape {list(found.shape)}" if isinstance(found, Tensor) else repr(found)
            raise InputError(
                f"cost {self.name} gave {what[:100]} for {len(s)} rows; it must give one number a "
                f"row, [{len(s)}] (sum over the outputs, not over the rows)"
            )
        return found


@dataclass(frozen=True)
class SquaredError(AbstractCost):
    """C(s) = ||s - y||^2 / 2."""

    name = "squared-error"
    curvature = steepest = 1.0

    def value(self, s: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (s - y).square().sum(-1)

    def slope(self, s: Tensor, y: Tensor) -> Tensor:
        return s - y


@dataclass(frozen=True)
class CrossEntropy(AbstractCost):
    """C(s) = -sum_k y_k log softmax(s)_k: the output state holds the logits.

    The slope is softmax(s) sum_k y_k - y. `curvature` and `steepest` are those of targets that sum
    to 1.
    """

    name = "cross-entropy"
    curvature = 0.25
    steepest = 0.5  # of diag(p) - p p^T, at p = (1/2, 1/2)

    def value(self, s: Tensor, y: Tensor) -> Tensor:
        return torch.logsumexp(s, -1) * y.sum(-1) - (y * s).sum(-1)

    def slope(self, s: Tensor, y: Tensor) -> Tensor:
        return CrossEntropy.slope_at(self, y)(s)

    def slope_at(self, y: Tensor) -> Callable[[Tensor], Tensor]:
        minus, mass = -y, y.sum(-1, keepdim=True)
        return lambda s: torch.addcmul(minus, _shares(s), mass)


def _shares(s: Tensor) -> Tensor:
    """softmax(s) of each row, [B, m]; `s` may be complex, which torch.softmax does not support."""
    if not s.is_complex():
        return torch.softmax(s, -1)
    weights = torch.exp(s - s.real.amax(-1, keepdim=True))
    return weights / weights.sum(-1, keepdim=True)


@dataclass(frozen=True)
class GivenSlope(AbstractCost):
    """C(s) = <y, s>: the target is the slope, whatever the outputs are.

    Objectives that give a direction in place of a target use it, see
    `bioplaus.training.AbstractObjective`. It has no name, because labels are not slopes.
    """

    name = "given-slope"
    curvature = steepest = 0.0

    def value(self, s: Tensor, y: Tensor) -> Tensor:
        return (y * s).sum(-1)

    def slope(self, s: Tensor, y: Tensor) -> Tensor:
        return y.to(s.dtype)


COSTS: dict[str, AbstractCost] = {c.name: c for c in (SquaredError(), CrossEntropy())}
GROUP = "bioplaus.costs"
"""The entry-point group under which installed packages register costs."""

CostLike = str | AbstractCost | type[AbstractCost] | Callable[[Tensor, Tensor], Tensor]
"""A cost: its name, an object, a class, or a function of states and targets."""


def get_cost(cost: CostLike) -> AbstractCost:
    """Look up a cost by name; return an object as it is, make one of a class, wrap a function.

    Raises:
        InputError: the name is unknown, or the value is none of these.
    """
    if isinstance(cost, str):
        return get_cost(find("cost", cost, COSTS, GROUP))
    if isinstance(cost, AbstractCost):
        return cost
    if inspect.isclass(cost) and issubclass(cost, AbstractCost):
        try:
            return cost()
        except TypeError as error:
            raise InputError(f"cost={cost.__name__} cannot be made: {error}") from None
    if inspect.isclass(cost) or not callable(cost):
        what = cost.__name__ if inspect.isclass(cost) else type(cost).__name__
        raise InputError(
            f"cost is no cost but {what}; give a name, an AbstractCost, or a function "
            "(s, y) -> one number a row"
        )
    return FunctionCost(cost)


def one_hot(labels: Tensor, num_classes: int, dtype: torch.dtype) -> Tensor:
    """Convert integer labels [B] to one-hot targets [B, num_classes]."""
    return torch.nn.functional.one_hot(labels, num_classes).to(dtype)
