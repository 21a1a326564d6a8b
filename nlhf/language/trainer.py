"""Train a language model against a preference, step by step; one object holds the full state."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from nlhf.errors import InputError
from nlhf.language.decoders import Decoder
from nlhf.language.decoding import Sampling, draw_uniforms
from nlhf.language.judging import AbstractJudge
from nlhf.language.objectives import Objective, Plan, Sampled, returns, value_loss
from nlhf.language.objectives.base import MIXTURE, POLICY, Held, Parameters, copied
from nlhf.language.parallel import AbstractGroup, synchronising
from nlhf.language.policy import Policy
from nlhf.language.prompts import Prompt
from nlhf.language.reference import FIXED, Reference
from nlhf.language.rewards import Reward
from nlhf.language.rollout import Batch, Rollout
from nlhf.language.stopwatch import Stopwatch


class AbstractOptimizer(Protocol):
    """Moves parameters along updates, estimates of minus the gradient; see `bridge.optim`."""

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        ...

    def step(self, updates: Mapping[str, Tensor]) -> None:
        """Move every parameter along its update."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        ...


@dataclass(frozen=True)
class Batching:
    """The size of one step.

    Attributes:
        prompts: prompts per pass, over all processes, >= 1.
        accumulation: number of passes whose gradients are averaged in one step, >= 1.
        autocast: dtype of the scoring passes; None uses the dtype of the weights.
        missing_end: penalty on an answer that has not ended, >= 0; see `Rollout`.
    """

    prompts: int
    accumulation: int = 1
    autocast: torch.dtype | None = None
    missing_end: float = 0.0


@dataclass
class Trainer:
    """The state of a run, and its steps.

    Attributes:
        policy: trained in place.
        prompts: prompts of the whole run; every epoch uses a new order.
        judge: P(y > y' | x); None only if the objective asks for `reward` alone.
        reward: r(x, y), only used by rlhf.
        value: the learned baseline, from hidden states to one number; or None.
        reference: whether and how mu follows the policy.
        held: policies that the objective keeps.
        order, draws: random generators for the order of prompts and for the answers.
        group: the processes that share the work.
        decoder: samples the answers.
        watch: measures the time of each part of the steps.
    """

    policy: Policy
    prompts: Sequence[Prompt]
    judge: AbstractJudge | None
    reward: Reward | None
    objective: Objective
    sampling: Sampling
    batching: Batching
    optimizer: AbstractOptimizer
    order: torch.Generator
    draws: torch.Generator
    group: AbstractGroup
    value: nn.Linear | None = None
    value_optimizer: AbstractOptimizer | None = None
    steps: int = 0
    num_tokens: int = 0
    reference: Reference = FIXED
    held: Held = dataclasses.field(default_factory=dict)
    decoder: Decoder = dataclasses.field(default_factory=Decoder)
    watch: Stopwatch = dataclasses.field(default_factory=Stopwatch)
    _queue: list[int] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.watch.device = self.policy.device
        if self.batching.prompts % self.group.size:
            raise InputError(
                f"{self.batching.prompts} prompts a pass cannot be shared evenly by "
                f"{self.group.size} processes; use a multiple"
            )
        sampling, objective = self.sampling, self.objective
        if sampling.limits.cut and not (objective.reads_cuts or sampling.truncate_own):
            raise InputError(
                f"{sampling} has cuts, which have no effect with {objective.name}: it draws every "
                "answer whole, because its loss takes all of them; leave the cuts out"
            )
        self.reference.check(self.policy, self.group.size)
        if not self.held:
            self.held = self.objective.start(self.policy.trainable())

    @property
    def rollout(self) -> Rollout:
        """The rollout: who answers, who judges, and how answers are sampled."""
        given = (self.policy, self.judge, self.reward, self.sampling, self.group)
        batching = self.batching.autocast, self.batching.missing_end
        return Rollout(*given, *batching, self.decoder, self.watch)

    def step(self) -> dict[str, float]:
        """Sample, judge, and update the policy once; return the step's measures."""
        updates, measures = self.objective.updates(self, self.steps)
        with self.watch.part("update"):
            measures["grad_norm"] = _norm(updates)
            measures["learning_rate"] = self.optimizer.learning_rate
            self.optimizer.step(updates)
            self.steps += 1
            self.objective.after(self.held, self.policy.trainable(), self.steps)
            self.reference.after(self.policy, self.steps)
        return measures | {"num_tokens": float(self.num_tokens)}

    def state_dict(self) -> dict[str, Any]:
        """The state needed for a bitwise-identical continuation; tensors are shared, not copied."""
        state: dict[str, Any] = {
            "steps": self.steps,
            "num_tokens": self.num_tokens,
            "queue": list(self._queue),
            "order": self.order.get_state(),
            "draws": self.draws.get_state(),
            "parameters": {name: p.detach() for name, p in self.policy.trainable().items()},
            "held": {name: dict(each) for name, each in self.held.items()},
            "reference": self.reference.state(self.policy, self.steps),
            "optimizer": self.optimizer.state_dict(),
        }
        if self.policy.dropout is not None:
            state["dropout"] = self.policy.dropout.state()
        if self.value is not None and self.value_optimizer is not None:
            state["value"] = {name: p.detach() for name, p in self.value.named_parameters()}
            state["value_optimizer"] = self.value_optimizer.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.steps, self.num_tokens = int(state["steps"]), int(state["num_tokens"])
        self._queue = [int(i) for i in state["queue"]]
        self.order.set_state(state["order"])
        self.draws.set_state(state["draws"])
        self.policy.load(state["parameters"])
        here = self.policy.trainable()
        self.held = {
            name: {key: tensor.to(here[key], copy=True) for key, tensor in each.items()}
            for name, each in state["held"].items()
        }
        self.reference.load(self.policy, state["reference"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.policy.dropout is not None:
            self.policy.dropout.load(state["dropout"])
        if self.value is not None and self.value_optimizer is not None:
            with torch.no_grad():
                for name, parameter in self.value.named_parameters():
                    parameter.copy_(state["value"][name])
            self.value_optimizer.load_state_dict(state["value_optimizer"])

    def ahead(self, updates: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The parameters after an optimizer step along the updates; nothing is modified."""
        here, state = copied(self.policy.trainable()), _copied(self.optimizer.state_dict())
        self.optimizer.step(updates)
        found = copied(self.policy.trainable())
        self.policy.load(here)
        self.optimizer.load_state_dict(state)
        return found

    def estimate(
        self, plan: Plan, held: Mapping[str, Parameters] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Minus the gradient over all passes of a step, and their mean measures.

        Args:
            plan: what is sampled, judged and scored.
            held: further policies that the plan names.
        """
        trainable = self.policy.trainable()
        for parameter in trainable.values():
            parameter.grad = None
        passes = self.batching.accumulation
        sums: dict[str, float] = {}
        for i in range(passes):
            batch = self.sample(plan, held)
            with synchronising(self.policy.forward_model, self.group, i + 1 == passes):
                loss, measures = self.loss(batch, held)
                with self.watch.part("update"):
                    (loss / passes).backward()
            weights = [each.weight for each in (*plan.opponents, *plan.scored)]
            measures["mixture_coef"] = max(weights)
            for name, value in measures.items():
                sums[name] = sums.get(name, 0.0) + value / passes
        updates = {}
        for name, parameter in trainable.items():
            grad = parameter.grad
            updates[name] = torch.zeros_like(parameter) if grad is None else -grad
            parameter.grad = None
        return updates, self.group.mean(sums)

    def sample(self, plan: Plan, held: Mapping[str, Parameters] | None = None) -> Batch:
        """The next prompts with judged answers; see `estimate`."""
        mine = self.group.own_part(self._next_prompts())
        prompts = [self.prompts[i] for i in mine]
        batch = self.rollout.sample(plan, prompts, {**self.held, **(held or {})}, self._draws)
        self.num_tokens += self.group.total(batch.tokens)
        return batch

    def loss(
        self, batch: Batch, held: Mapping[str, Parameters] | None = None
    ) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch and its measures; see `estimate`."""
        objective, tau = self.objective, self.objective.tau(self.steps)
        policies = {**self.held, **(held or {})}
        scored = self.rollout.score(batch, policies, hidden=self.value is not None)
        sampled, kl = scored.sampled, scored.kl
        if self.value is not None and scored.states is not None:
            value = self.value(scored.states.to(self.value.weight.dtype))[..., 0]
            target = returns(sampled, tau)
            sampled = dataclasses.replace(sampled, value=value.detach().to(target.dtype))
            self._fit_value(value, target.to(value.dtype), sampled.mask)
        loss = objective.loss(sampled, self.steps)
        return loss, _measures(batch, sampled, loss, kl, tau)

    def _fit_value(self, value: Tensor, target: Tensor, mask: Tensor) -> None:
        assert self.value is not None
        assert self.value_optimizer is not None
        named = dict(self.value.named_parameters())
        grads = torch.autograd.grad(value_loss(value, target, mask), list(named.values()))
        updates = {name: -grad for name, grad in zip(named, grads, strict=True)}
        self.value_optimizer.step(self.group.mean_tensors(updates))

    def _draws(self, rows: int) -> Tensor:
        """This process's share of the random numbers for the answers."""
        b, length = self.batching.prompts, self.sampling.max_new_tokens
        drawn = draw_uniforms(b * rows, length, self.draws).reshape(b, rows, length)
        return self.group.own_part(drawn).reshape(-1, length)

    def _next_prompts(self) -> list[int]:
        """The indices of the next prompts, over all processes."""
        while len(self._queue) < self.batching.prompts:
            self._queue += torch.randperm(len(self.prompts), generator=self.order).tolist()
        taken = self._queue[: self.batching.prompts]
        del self._queue[: self.batching.prompts]
        return taken


def _measures(
    batch: Batch, sampled: Sampled, loss: Tensor, kl: Tensor, tau: float
) -> dict[str, float]:
    p = batch.preference
    return {
        "loss": float(loss.detach()),
        "loss_score": float(-sampled.reward.mean()),
        "loss_kl": float(tau * kl.mean()),
        "objective_kl": float(kl.mean()),
        "objective_entropy": float(-sampled.log_pi.detach().sum(-1).mean()),
        "rewards_probabilities": float(p.mean()),
        "rewards_accuracies": float((p > 0.5).double().mean()),
        "rewards_margins": float((2 * p - 1).mean()),
        "reward": float(batch.reward.mean()),
        "completions_mean_length": float(batch.own.mask.sum(-1).double().mean()),
        "val_model_contain_eos_token": float(batch.own.ended.double().mean()),
        "val_ref_contain_eos_token": batch.log_other,
        "beta": tau,
        "sampling_logp_difference": _logp_difference(batch, sampled),
    }


def _logp_difference(batch: Batch, sampled: Sampled) -> float:
    """The mean of |log pi drawn - log pi scored| over tokens that pi drew; NaN if it drew none."""
    # others were drawn from a held policy, whose log-probabilities these are not
    counts = torch.tensor([each.count for each in batch.plan.scored])
    live = torch.tensor([each.policy in (POLICY, MIXTURE) for each in batch.plan.scored])
    rows = live.repeat_interleave(counts).to(sampled.mask.device)
    off = (batch.own.log_pi.reshape(sampled.mask.shape) - sampled.log_pi.detach()).abs()
    counted = sampled.mask & rows[:, None] & ~off.isnan()
    return float(off[counted].double().mean())


def _norm(updates: Mapping[str, Tensor]) -> float:
    norms = (update.norm() for update in updates.values())
    # for a sharded tensor, float() would return this process's part
    whole = (n.full_tensor() if isinstance(n, DTensor) else n for n in norms)
    return sum(float(n) ** 2 for n in whole) ** 0.5


def _copied(state: object) -> Any:
    """A copy of a state that shares no tensors with the optimizer."""
    if isinstance(state, Tensor):
        return state.clone()
    if isinstance(state, Mapping):
        return {name: _copied(value) for name, value in state.items()}
    return state
