"""Validation of games and policies; errors name the offending argument."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from nlhf.errors import InputError

Tau = float | Tensor
"""The weight of the KL to the reference: one number, or one per game."""
A = ParamSpec("A")
R = TypeVar("R")

NORMALISED = 1e-4
"""Tolerance on the sum of the probabilities; a float32 softmax needs it.

The error in `exploitability` and `kl` of such a policy is at most half its square.
"""


def check_game(P: Tensor, log_mu: Tensor, tau: Tau) -> None:
    """Raise unless the arguments form a regularised preference game.

    Raises:
        InputError: P is not a float32 or float64 tensor, is not square, has fewer than two
            actions, contains NaN or entries outside 0..1, or P + P^T != 1 beyond rounding;
            tau <= 0; the reference is not a distribution over the actions, see `check_policy`.
    """
    check_preferences(P)
    _check_tau(tau)
    check_policy("log_mu", log_mu, P)


def check_preferences(P: Tensor) -> None:
    """Raise unless P holds win probabilities; see `check_game`."""
    _check_numbers("P", P, "probabilities of winning, [..., K, K]")
    if P.ndim < 2 or P.shape[-1] != P.shape[-2]:
        raise InputError(f"P has shape {list(P.shape)}; it must be square: [..., K, K]")
    if P.shape[-1] < 2:
        raise InputError(f"P has {P.shape[-1]} action; a game needs two or more")
    if not bool(torch.isfinite(P).all()):
        raise InputError("P holds NaN or infinite entries; give probabilities between 0 and 1")
    low, high = (float(end) for end in P.aminmax()) if P.numel() else (0.5, 0.5)
    if low < 0 or high > 1:
        raise InputError(f"P has entries from {low:g} to {high:g}; they must lie between 0 and 1")
    off = float((P + P.mT - 1).abs().max()) if P.numel() else 0.0
    if off > 16 * torch.finfo(P.dtype).eps:
        raise InputError(f"P + P^T differs from 1 by up to {off:.3g}; one of i > j, j > i must win")


def check_policy(name: str, log_pi: Tensor, P: Tensor | None = None) -> None:
    """Raise unless log_pi holds log-probabilities.

    Args:
        name: the argument's name, for the message.
        log_pi: [..., K]; -inf is the logarithm of zero.
        P: the games in which the policy is played, if any.

    Raises:
        InputError: log_pi is not a float32 or float64 tensor, has a different number of actions
            than P, contains NaN or entries above zero (as plain probabilities would), or its
            probabilities do not sum to 1.
    """
    _check_numbers(name, log_pi, "log-probabilities, [..., K]")
    if log_pi.ndim < 1 or log_pi.shape[-1] < 1:
        raise InputError(f"{name} has shape {list(log_pi.shape)}; give one entry an action")
    if P is not None and log_pi.shape[-1] != P.shape[-1]:
        raise InputError(f"{name} has {log_pi.shape[-1]} actions and P {P.shape[-1]}")
    if not log_pi.numel():
        return
    largest = float(log_pi.max())
    if largest != largest:
        raise InputError(f"{name} holds NaN; give log-probabilities")
    if largest > NORMALISED:
        raise InputError(
            f"{name} has the entry {largest:.4g}, and a log-probability is at most 0; policies are "
            "log-probabilities here, so of probabilities p give p.log()"
        )
    total = log_pi.double().exp().sum(-1).flatten()
    off = (total - 1).abs()
    if float(off.max()) > NORMALISED:
        worst = int(off.argmax())
        raise InputError(
            f"{name} is no distribution: the probabilities of row {worst} sum to "
            f"{float(total[worst]):.6g}, not 1; log_softmax makes them"
        )


def _check_numbers(name: str, tensor: Tensor, what: str) -> None:
    if not isinstance(tensor, Tensor):
        kind = type(tensor).__name__
        raise InputError(f"{name} is of type {kind}; give a torch tensor of {what}")
    if tensor.dtype not in (torch.float32, torch.float64):
        kind = str(tensor.dtype).removeprefix("torch.")
        raise InputError(f"{name} has dtype {kind}; give {what}, as float32 or float64")


def _check_tau(tau: Tau) -> None:
    try:
        taus = torch.as_tensor(tau, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"tau={tau!r} is no number; give one > 0, or a tensor of them") from None
    if not bool((torch.isfinite(taus) & (taus > 0)).all()):
        bad = taus[~(torch.isfinite(taus) & (taus > 0))].flatten()[0]
        raise InputError(f"tau={float(bad)} must be positive and finite")


class Checked(Generic[A, R]):
    """A function that validates its games and policies; `unchecked` skips the validation.

    The names of the arguments decide what is checked: P, tau, and log_... for policies.
    """

    def __init__(self, function: Callable[A, R]) -> None:
        self.unchecked = function
        self._signature = inspect.signature(function)
        functools.update_wrapper(self, function)

    def __call__(self, *args: A.args, **kwargs: A.kwargs) -> R:
        """Check the arguments and call the function."""
        given = self._signature.bind(*args, **kwargs).arguments
        P = given.get("P")
        if "P" in given:
            check_preferences(given["P"])
        if "tau" in given:
            _check_tau(given["tau"])
        policies = {name: value for name, value in given.items() if name.startswith("log_")}
        for name, value in policies.items():
            check_policy(name, value, P)
        tensors = {**({} if P is None else {"P": P}), **policies}
        _check_together(tensors, given.get("tau"))
        return self.unchecked(*args, **kwargs)


def _check_together(tensors: dict[str, Tensor], tau: Tau | None) -> None:
    """Raise if the tensors differ in dtype or device, or their shapes do not broadcast."""
    (first, one), *others = tensors.items()
    for name, other in others:
        for what in ("dtype", "device"):
            mine, its = getattr(other, what), getattr(one, what)
            if mine != its:
                raise InputError(f"{name} has {what} {mine} and {first} {its}; give both the same")
    shapes = {name: t.shape[: -2 if name == "P" else -1] for name, t in tensors.items()}
    if isinstance(tau, Tensor):
        shapes["tau"] = tau.shape
    common_shape(shapes)


def common_shape(shapes: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
    """The common shape to which all shapes broadcast.

    Raises:
        InputError: the shapes do not broadcast.
    """
    try:
        # torch.broadcast_shapes spends half a second on imports
        return np.broadcast_shapes(*map(tuple, shapes.values()))
    except ValueError:
        listed = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise InputError(f"the leading dimensions do not broadcast: {listed}") from None
