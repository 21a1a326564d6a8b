"""Optimizers over torch.optim for updates that autograd did not make; defines the update sign."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bridge.calling import Answered
from bridge.errors import InputError, RunFailed
from bridge.schedules import learning_rate_schedule

METHODS = ("sgd", "momentum", "adam")


class Optimizer(metaclass=Answered):
    """Move named parameters along updates, in place and without an autograd graph.

    Sign: a parameter moves by **+ learning_rate * update**. An update is an estimate of
    -dJ/dtheta, so that following it lowers the cost J. With r = learning_rate * rate of the
    parameter and d the weight decay, one step is

        theta <- (1 - r d) theta                          (decoupled, the same for every method)
        sgd:       theta <- theta + r u
        momentum:  m <- momentum m + u,  theta <- theta + r m
        adam:      theta <- theta + r m_hat / (sqrt(v_hat) + eps), moments of u by `betas`

    Source: torch.optim.SGD and torch.optim.AdamW with maximize=True do the last two; decoupled
    decay after Loshchilov and Hutter 2019 (arXiv 1711.05101).

    Attributes:
        members: whose parameters they are, along the first dimension; 0 if there are no members.
    """

    members: int = 0

    def __init__(
        self,
        params: Mapping[str, Tensor],
        *,
        method: str = "sgd",
        learning_rate: float,
        rates: Mapping[str, float] | None = None,
        momentum: float = 0.9,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        schedule: str = "constant",
        total_steps: int | None = None,
        warmup_steps: int = 0,
        milestones: Sequence[float] = (0.5, 0.75),
        factor: float = 0.1,
        clip_norm: float | None = None,
    ) -> None:
        """Set up the optimizer for these parameters.

        Args:
            params: floating-point tensors by name, changed in place by `step`.
            method: "sgd", "momentum" or "adam".
            learning_rate: the rate before schedule and `rates`, >= 0.
            rates: multipliers >= 0 of the learning rate by parameter. A key is the name of a
                parameter or a prefix of several names ("feedback" means feedback.0 and
                feedback.1). The longest matching key applies; without a match, the multiplier is 1.
            momentum: decay of the velocity, in [0, 1); used by `momentum`.
            betas: decays of the two moments, in [0, 1); used by `adam`.
            eps: added to the root of the second moment; used by `adam`.
            weight_decay: decoupled weight decay, >= 0.
            schedule: "constant", "cosine", "linear", "step" or "inverse", see `bridge.schedules`.
            total_steps: steps of the whole run; all schedules but "constant" need it.
            warmup_steps: steps over which the rate rises linearly.
            milestones: fractions of the run at which "step" multiplies by `factor`.
            factor: the factor of "step".
            clip_norm: largest Euclidean norm of all updates together, > 0; None means no limit.

        Raises:
            InputError: a value outside its range, or a key of `rates` that matches no parameter.
        """
        _check(method, learning_rate, momentum, betas, weight_decay, clip_norm)
        self.params = dict(params)
        self.method = method
        self.base_rate = float(learning_rate)
        self.weight_decay = float(weight_decay)
        self.clip_norm = clip_norm
        self.steps = 0
        self._schedule = learning_rate_schedule(
            schedule, total_steps, warmup_steps=warmup_steps, milestones=milestones, factor=factor
        )
        self._groups = _groups(self.params, rates or {})
        self._inner = _inner(method, self.params, self._groups, momentum, betas, eps)

    @property
    def learning_rate(self) -> float:
        """The rate of the next step, before the multipliers of individual parameters."""
        return self.base_rate * self._schedule(self.steps)

    @property
    def learning_rates(self) -> list[float]:
        """The same for each member."""
        return [self.learning_rate]

    @torch.no_grad()
    def step(self, updates: Mapping[str, Tensor]) -> None:
        """Move every parameter by + rate * update (see the class); the updates stay unchanged.

        Args:
            updates: one tensor per parameter, with its name, shape, dtype and device.

        Raises:
            InputError: updates are missing, unknown or of the wrong shape.
            RunFailed: the norm of the updates is not finite (checked only with `clip_norm`).
        """
        if updates.keys() != self.params.keys() or any(
            updates[name].shape != param.shape for name, param in self.params.items()
        ):
            raise InputError(_mismatch(updates, self.params))
        if self.clip_norm is not None:
            updates = _clipped(updates, self.clip_norm, self.steps)
        rate = self.learning_rate
        # The fused kernels do not count their in-place changes, which `bridge.held` relies on.
        for param in self.params.values():
            torch.autograd.graph.increment_version(param)
        for i, (multiplier, names) in enumerate(self._groups):
            own_rate = rate * multiplier
            if self._inner is not None:
                self._inner.param_groups[i]["lr"] = own_rate
            for name in names:
                param = self.params[name]
                if self.weight_decay:
                    param.mul_(1.0 - own_rate * self.weight_decay)
                if self._inner is None:
                    # Cheaper than torch.optim.SGD, whose step also runs hooks and checks.
                    param.add_(updates[name], alpha=own_rate)
                else:
                    param.grad = updates[name]
        if self._inner is not None:
            self._inner.step()
            self._inner.zero_grad(set_to_none=True)
        self.steps += 1

    @torch.no_grad()
    def step_on_device(self, updates: Mapping[str, Tensor], rate: Tensor) -> None:
        """Take a step with device operations only, so that it can be captured and replayed.

        The caller must call `counted` afterwards. `step` must have run once: it makes the buffers.

        Args:
            updates: as for `step`, within `clip_norm`, see `clipped_on_device`.
            rate: the `learning_rate`, a tensor []; for joined optimizers one per member, [M].
        """
        for multiplier, names in self._groups:
            own = rate * multiplier
            for name in names:
                param, moved = self.params[name], updates[name]
                wide = _wide(own, param)
                if self.weight_decay:
                    param.mul_(1.0 - wide * self.weight_decay)
                if self._inner is not None:
                    moved = _moved(self._inner, param, moved)
                param.addcmul_(moved, wide)

    def counted(self) -> None:
        """Count a step that was taken on the device, and its change of the parameters."""
        for param in self.params.values():
            torch.autograd.graph.increment_version(param)
        self.steps += 1

    def clipped_on_device(
        self, updates: Mapping[str, Tensor]
    ) -> tuple[Mapping[str, Tensor], Tensor | None]:
        """Clip updates to `clip_norm`; also count the norms that are not finite, a tensor [].

        Args:
            updates: as for `step_on_device`.
        """
        if self.clip_norm is None:
            return updates, None
        flat = (update.flatten(int(self.members > 0)) for update in updates.values())
        norms = [torch.linalg.vector_norm(each, dim=-1) for each in flat]
        norm = torch.linalg.vector_norm(torch.stack(norms), dim=0)
        share = (self.clip_norm / norm).clamp_max(1.0)
        within = {k: update * _wide(share, update) for k, update in updates.items()}
        return within, (~torch.isfinite(norm)).sum()

    def state_dict(self) -> dict[str, Any]:
        """Give the state for resuming: {"steps": int, "buffers": {"parameter/buffer": tensor}}.

        The tensors are the optimizer's own, not copies.
        """
        inner = {} if self._inner is None else self._inner.state
        buffers = {
            f"{name}/{key}": value
            for name, param in self.params.items()
            for key, value in inner.get(param, {}).items()
            if value is not None
        }
        return {"steps": self.steps, "buffers": buffers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the result of `state_dict`; the tensors are copied.

        Raises:
            InputError: the buffers are not those of this method and these parameters.
        """
        buffers: dict[str, dict[str, Tensor]] = {}
        for path, tensor in state["buffers"].items():
            name, _, key = path.rpartition("/")
            buffers.setdefault(name, {})[key] = tensor
        known = set() if self._inner is None else set(self.params)
        if not buffers.keys() <= known:
            raise InputError(
                f"optimizer state of {', '.join(sorted(buffers))} does not fit method="
                f"{self.method!r} with parameters {', '.join(self.params)}"
            )
        self.steps = int(state["steps"])
        if self._inner is None:
            return
        for name, param in self.params.items():
            kept = {k: torch.clone(v).to(param.device) for k, v in buffers.get(name, {}).items()}
            self._inner.state[param] = kept


class Joined(Optimizer):
    """The optimizers of many members as one, each with its own rates.

    Its tensors have an additional first dimension. The members' tensors become views of them, so
    that a step of the joined optimizer is a step of each member. It takes steps only on the device.
    """

    def __init__(self, some: Sequence[Optimizer]) -> None:
        """Join optimizers.

        Args:
            some: with equal settings except rate and schedule; each has taken one step.
        """
        first = some[0]
        vars(self).update(vars(first))
        self.of, self.members = tuple(some), len(some)
        self.params = {name: _joined([o.params[name] for o in some]) for name in first.params}
        if first._inner is None:
            return
        settings = {k: v for k, v in first._inner.param_groups[0].items() if k != "params"}
        self._inner = torch.optim.SGD([torch.zeros(1)], lr=0.0)  # for its state and its settings
        self._inner.param_groups[0] |= settings
        for name, param in self.params.items():
            states = [o._inner.state[o.params[name]] for o in some if o._inner is not None]
            own = {k: v for k, v in states[0].items() if v is not None}
            self._inner.state[param] = {k: _joined([s[k] for s in states]) for k in own}

    @property
    def learning_rates(self) -> list[float]:
        return [each.learning_rate for each in self.of]

    def step(self, updates: Mapping[str, Tensor]) -> None:
        raise NotImplementedError("joined optimizers take their steps on the device")

    def counted(self) -> None:
        for each in self.of:
            each.counted()


def _check(
    method: str,
    learning_rate: float,
    momentum: float,
    betas: tuple[float, float],
    weight_decay: float,
    clip_norm: float | None,
) -> None:
    if method not in METHODS:
        raise InputError(f"method={method!r} is unknown; use one of {', '.join(METHODS)}")
    for name, value in (("learning_rate", learning_rate), ("weight_decay", weight_decay)):
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"{name}={value} must be a number >= 0")
    for name, value in (("momentum", momentum), ("betas", betas[0]), ("betas", betas[1])):
        if not 0 <= value < 1:
            raise InputError(f"{name}={value} must lie in [0, 1)")
    if clip_norm is not None and not clip_norm > 0:
        raise InputError(f"clip_norm={clip_norm} must be > 0; leave it out for no limit")


def _groups(
    params: Mapping[str, Tensor], rates: Mapping[str, float]
) -> list[tuple[float, list[str]]]:
    """Group the parameters by the multiplier of their learning rate."""
    groups: dict[float, list[str]] = {}
    used = set()
    for name in params:
        key = max((k for k in rates if name.startswith(k)), key=len, default=None)
        multiplier = 1.0
        if key is not None:
            multiplier = float(rates[key])
        groups.setdefault(multiplier, []).append(name)
        used |= {k for k in rates if name.startswith(k)}
    for key, multiplier in rates.items():
        if not (math.isfinite(multiplier) and multiplier >= 0):
            raise InputError(f"rates: {key}={multiplier} must be a number >= 0")
        if key not in used:
            close = difflib.get_close_matches(key, params, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"names: {', '.join(params)}"
            raise InputError(f"rates: {key!r} is no parameter's name or its beginning; {hint}")
    return list(groups.items())


def _inner(
    method: str,
    params: Mapping[str, Tensor],
    groups: Sequence[tuple[float, list[str]]],
    momentum: float,
    betas: tuple[float, float],
    eps: float,
) -> torch.optim.Optimizer | None:
    if method == "sgd":
        return None
    # The fused kernels negate nothing, read the update once and leave it unchanged.
    settings: dict[str, Any] = {"lr": 0.0, "maximize": True, "weight_decay": 0.0, "fused": True}
    listed = [{"params": [params[name] for name in names]} for _, names in groups]
    if method == "momentum":
        return torch.optim.SGD(listed, momentum=momentum, **settings)
    return torch.optim.AdamW(listed, betas=betas, eps=eps, **settings)


def _moved(inner: torch.optim.Optimizer, param: Tensor, update: Tensor) -> Tensor:
    """Give the direction of a parameter's step, before the rate, from momentum's or adam's buffers.

    The buffers are those of torch.optim with maximize=True, which hold the negated updates.
    """
    own, settings = inner.state[param], inner.param_groups[0]
    if "momentum_buffer" in own:
        return own["momentum_buffer"].mul_(settings["momentum"]).sub_(update).neg()
    first, second = settings["betas"]
    own["step"].add_(1)
    step = _wide(own["step"], param).to(param.dtype)  # a whole number in float32
    mean = own["exp_avg"].lerp_(-update, 1 - first)
    square = own["exp_avg_sq"].mul_(second).addcmul_(update, update, value=1 - second)
    root = (square / (1 - second**step)).sqrt_().add_(settings["eps"])
    return -mean / (1 - first**step) / root


def _joined(some: Sequence[Tensor]) -> Tensor:
    """Stack the tensors into one, [M, ...]; each becomes a view of it."""
    whole = torch.stack(list(some))
    for each, part in zip(some, whole, strict=True):
        each.data = part
    return whole


def _wide(values: Tensor, like: Tensor) -> Tensor:
    """Reshape a number, or one number per member [M], so that it broadcasts to [M, ...]."""
    return values.view(-1, *(1 for _ in like.shape[1:])) if values.ndim else values


def _whole(value: Tensor) -> Tensor:
    """Gather a sharded value, of which float() would give this process's part only."""
    # only a DTensor has the method; importing its class takes as long as half of torch
    gather = getattr(value, "full_tensor", None)
    return value if gather is None else gather()


def _clipped(updates: Mapping[str, Tensor], limit: float, step: int) -> Mapping[str, Tensor]:
    norms = [torch.linalg.vector_norm(update) for update in updates.values()]
    norm = float(torch.linalg.vector_norm(torch.stack([_whole(norm) for norm in norms])))
    if not math.isfinite(norm):
        raise RunFailed(f"the norm of the updates is {norm} at step {step}; lower learning_rate")
    if norm <= limit:
        return updates
    return {name: update * (limit / norm) for name, update in updates.items()}


def _mismatch(updates: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> str:
    missing = [name for name in params if name not in updates]
    extra = [name for name in updates if name not in params]
    shapes = [
        f"{name} {tuple(updates[name].shape)}, not {tuple(param.shape)}"
        for name, param in params.items()
        if name in updates and updates[name].shape != param.shape
    ]
    parts = {"missing": missing, "unknown": extra, "shape": shapes}
    listed = [f"{kind}: {', '.join(names)}" for kind, names in parts.items() if names]
    return f"updates do not fit the parameters; {'; '.join(listed)}"
