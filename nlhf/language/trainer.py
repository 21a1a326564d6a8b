"""One step of training a language model against a preference; its whole state in one object."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from nlhf.errors import InputError
from nlhf.language.decoding import Answers, Sampling, decode, draw_uniforms
from nlhf.language.judging import AbstractJudge
from nlhf.language.objectives import (
    Objective,
    Sampled,
    divergence,
    ipo_loss,
    policy_gradient_loss,
    returns,
    value_loss,
)
from nlhf.language.parallel import AbstractGroup, synchronising
from nlhf.language.policy import Encoded, Policy
from nlhf.language.prompts import Prompt
from nlhf.language.rewards import Reward
from nlhf.language.scoring import Scores, score


class AbstractOptimizer(Protocol):
    """Moves parameters along updates, estimates of minus the gradient; `bridge.optim` has it."""

    @property
    def learning_rate(self) -> float: ...
    def step(self, updates: Mapping[str, Tensor]) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class Batching:
    """How much goes into one step.

    Attributes:
        prompts: prompts a pass, all processes together, >= 1.
        accumulation: passes whose gradients are averaged in one step, >= 1.
        autocast: dtype of the scoring passes; None computes in the weights' own.
    """

    prompts: int
    accumulation: int = 1
    autocast: torch.dtype | None = None


@dataclass(frozen=True)
class Batch:
    """Prompts with the policy's answers and what they earn."""

    prompts: list[Prompt]
    encoded: Encoded
    own: Answers
    other: Answers | None
    preference: Tensor
    reward: Tensor
    log_other: float


@dataclass
class Trainer:
    """The state of a run, and how it takes a step.

    Attributes:
        policy: learns in place.
        prompts: of the whole run; every epoch goes through them in a new order.
        judge: P(y > y' | x); None only where `reward` is all that the objective asks for.
        reward: r(x, y), only asked by rlhf.
        value: the learned baseline, from hidden states to one number; or None.
        order, draws: generators of the prompts' order and of the answers.
        group: the processes that share the work.
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
    average: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    _queue: list[int] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        if self.batching.prompts % self.group.size:
            raise InputError(
                f"{self.batching.prompts} prompts a pass cannot be shared evenly by "
                f"{self.group.size} processes; use a multiple"
            )
        if self.objective.opponent == "average" and not self.average:
            self.average = self._parameters()

    def step(self) -> dict[str, float]:
        """Sample, judge, and move the policy once; give the step's measures."""
        if self.objective.opponent == "ahead":
            updates, measures = self._look_ahead()
        else:
            updates, measures = self._updates(self._opponent_weight())
        measures["grad_norm"] = _norm(updates)
        measures["learning_rate"] = self.optimizer.learning_rate
        self.optimizer.step(updates)
        self.steps += 1
        if self.average:
            rate = self.objective.ema_rate
            for name, parameter in self.policy.trainable().items():
                self.average[name].lerp_(parameter.detach(), rate)
        return measures | {"num_tokens": float(self.num_tokens)}

    def state_dict(self) -> dict[str, Any]:
        """All that a run needs to go on bit for bit; its tensors are the run's own, not copies."""
        state: dict[str, Any] = {
            "steps": self.steps,
            "num_tokens": self.num_tokens,
            "queue": list(self._queue),
            "order": self.order.get_state(),
            "draws": self.draws.get_state(),
            "parameters": {name: p.detach() for name, p in self.policy.trainable().items()},
            "average": dict(self.average),
            "optimizer": self.optimizer.state_dict(),
        }
        if self.value is not None and self.value_optimizer is not None:
            state["value"] = {name: p.detach() for name, p in self.value.named_parameters()}
            state["value_optimizer"] = self.value_optimizer.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.steps, self.num_tokens = int(state["steps"]), int(state["num_tokens"])
        self._queue = [int(i) for i in state["queue"]]
        self.order.set_state(state["order"])
        self.draws.set_state(state["draws"])
        self.policy.load(state["parameters"])
        here = self.policy.trainable()
        average = state["average"].items()
        self.average = {name: tensor.to(here[name], copy=True) for name, tensor in average}
        self.optimizer.load_state_dict(state["optimizer"])
        if self.value is not None and self.value_optimizer is not None:
            with torch.no_grad():
                for name, parameter in self.value.named_parameters():
                    parameter.copy_(state["value"][name])
            self.value_optimizer.load_state_dict(state["value_optimizer"])

    def _parameters(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self.policy.trainable().items()}

    def _opponent_weight(self) -> float:
        return self.objective.weight(self.steps)

    def _look_ahead(self) -> tuple[dict[str, Tensor], dict[str, float]]:
        """The gradient against the policy after a step of self-play.

        Source: Zhou et al. 2025 (arXiv 2503.08942), algorithm 1.
        """
        first, _ = self._updates(0.0)
        here, state = self._parameters(), _copied(self.optimizer.state_dict())
        self.optimizer.step(first)
        ahead = self._parameters()
        self.policy.load(here)
        self.optimizer.load_state_dict(state)
        return self._updates(0.0, ahead)

    def _updates(
        self, weight: float, opponent: Mapping[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Minus the gradient over all passes of a step, and the means of their measures."""
        if self.objective.opponent == "average":
            opponent = self.average
        trainable = self.policy.trainable()
        for parameter in trainable.values():
            parameter.grad = None
        passes = self.batching.accumulation
        sums: dict[str, float] = {}
        for i in range(passes):
            batch = self.sample(weight, opponent)
            with synchronising(self.policy.forward_model, self.group, i + 1 == passes):
                loss, measures = self.loss(batch)
                (loss / passes).backward()
            measures["mixture_coef"] = weight
            for name, value in measures.items():
                sums[name] = sums.get(name, 0.0) + value / passes
        updates = {}
        for name, parameter in trainable.items():
            grad = parameter.grad
            updates[name] = torch.zeros_like(parameter) if grad is None else -grad
            parameter.grad = None
        return updates, self.group.mean(sums)

    def sample(self, weight: float, opponent: Mapping[str, Tensor] | None = None) -> Batch:
        """The next prompts, answered and judged.

        Args:
            weight: the reference's share in the opponent.
            opponent: the trainable parameters of another opponent than the mixture.
        """
        objective, sampling = self.objective, self.sampling
        mine = self.group.share(self._next_prompts())
        prompts = [self.prompts[i] for i in mine]
        encoded = self.policy.encode(prompts)
        n, m = objective.samples, objective.opponents
        if objective.opponent == "pairs":
            n, m = 0, objective.samples
        elif objective.opponent == "reward":
            m = 0
        own_draws, other_draws = self._draws(n), self._draws(m)
        decoding: dict[str, Any] = {"sampling": sampling, "all_done": self.group.all}
        if opponent is None:
            both = torch.cat((own_draws, other_draws))
            answers = decode(self.policy, encoded, n, m, weight, uniforms=both, **decoding)
            own, other = _split(answers, len(own_draws))
        else:
            own = decode(self.policy, encoded, n, 0, 0.0, uniforms=own_draws, **decoding)
            with self.policy.holding(opponent):
                other = decode(self.policy, encoded, m, 0, 0.0, uniforms=other_draws, **decoding)
        counted = int(own.mask.sum()) + int(other.mask.sum())
        self.num_tokens += self.group.total(counted)
        if objective.opponent == "pairs":
            own, other = other, None
        preference, reward = self._judged(prompts, own, other)
        ended = (
            float("nan")
            if other is None or not len(other.ended)
            else float(other.ended.double().mean())
        )
        return Batch(prompts, encoded, own, other, preference, reward, ended)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch, and its measures."""
        objective, tau = self.objective, self.objective.tau(self.steps)
        sampled, kl, states = self._scored(batch)
        if objective.opponent == "pairs":
            loss = ipo_loss(sampled, batch.preference, tau)
        else:
            middle = 0.0 if objective.opponent == "reward" else 0.5
            if self.value is not None and states is not None:
                value = self.value(states.to(self.value.weight.dtype))[..., 0]
                target = returns(sampled, tau)
                sampled = dataclasses.replace(sampled, value=value.detach().to(target.dtype))
                self._fit_value(value, target.to(value.dtype), sampled.mask)
            loss = policy_gradient_loss(sampled, tau, objective.baseline, middle)
        lengths = batch.own.mask.sum(-1).double()
        p = batch.preference
        return loss, {
            "loss": float(loss.detach()),
            "loss_score": float(-sampled.reward.mean()),
            "loss_kl": float(tau * kl.mean()),
            "objective_kl": float(kl.mean()),
            "objective_entropy": float(-sampled.log_pi.detach().sum(-1).mean()),
            "rewards_probabilities": float(p.mean()),
            "rewards_accuracies": float((p > 0.5).double().mean()),
            "rewards_margins": float((2 * p - 1).mean()),
            "reward": float(batch.reward.mean()),
            "completions_mean_length": float(lengths.mean()),
            "val_model_contain_eos_token": float(batch.own.ended.double().mean()),
            "val_ref_contain_eos_token": batch.log_other,
            "beta": tau,
        }

    def _scored(self, batch: Batch) -> tuple[Sampled, Tensor, Tensor | None]:
        """Teacher-forced passes over the policy's answers.

        Returns:
            The answers; sum_t KL(pi || mu) of the whole distributions at their prefixes, [B, n],
            which has the mean of log pi(y)/mu(y) over y ~ pi and is never negative; hidden states.
        """
        own, count = batch.own, len(batch.prompts)
        n = len(own.tokens) // count
        each = torch.arange(count, device=own.tokens.device).repeat_interleave(n)
        given = (self.policy, batch.encoded, own.tokens, own.mask)
        settings: dict[str, Any] = {
            "index": each,
            "temperature": self.sampling.temperature,
            "autocast": self.batching.autocast,
        }
        mu: Scores = score(*given, reference=True, **settings)
        pi: Scores = score(*given, hidden=self.value is not None, **settings)
        shape = (count, n, -1)
        full = self.objective.kl == "full" and self.objective.opponent != "pairs"
        with torch.set_grad_enabled(full):
            whole = torch.where(own.mask, divergence(pi.log_all, mu.log_all), 0.0).reshape(shape)
        kl = whole.detach().clamp_min(0.0).sum(-1)  # rounding may be negative
        sampled = Sampled(
            pi.log_prob.reshape(shape),
            mu.log_prob.reshape(shape),
            own.mask.reshape(shape),
            batch.reward.to(pi.log_prob),
            whole if full else None,
        )
        states = None if pi.hidden is None else pi.hidden.reshape(*sampled.mask.shape, -1)
        return sampled, kl, states

    def _judged(
        self, prompts: list[Prompt], own: Answers, other: Answers | None
    ) -> tuple[Tensor, Tensor]:
        """P(y > y') and what each answer earns, [B, n]."""
        policy, count = self.policy, len(prompts)
        texts = policy.texts(own.tokens, own.mask)
        n = len(texts) // count
        if self.objective.opponent == "reward":
            assert self.reward is not None
            repeated = [prompt for prompt in prompts for _ in range(n)]
            reward = self.reward(repeated, texts).reshape(count, n)
            return reward.new_full((count, n), torch.nan), reward
        assert self.judge is not None
        if other is None:
            first, second = torch.triu_indices(n, n, 1).tolist()
            others, m = texts, n
        else:
            others = policy.texts(other.tokens, other.mask)
            m = len(others) // count
            first, second = (part.flatten().tolist() for part in _grid(n, m))
        asked = [
            (prompts[b], texts[b * n + i], others[b * m + j])
            for b in range(count)
            for i, j in zip(first, second, strict=True)
        ]
        p = self.judge(*(list(part) for part in zip(*asked, strict=True))).double()
        if other is not None:
            preference = p.reshape(count, n, m)
            return preference, preference.mean(-1)
        preference = p.new_full((count, n, n), 0.5)
        preference[:, first, second] = p.reshape(count, -1)
        preference[:, second, first] = 1 - p.reshape(count, -1)
        preference = preference.to(own.log_pi)
        return preference, preference.mean(-1)

    def _fit_value(self, value: Tensor, target: Tensor, mask: Tensor) -> None:
        assert self.value is not None
        assert self.value_optimizer is not None
        named = dict(self.value.named_parameters())
        grads = torch.autograd.grad(value_loss(value, target, mask), list(named.values()))
        updates = {name: -grad for name, grad in zip(named, grads, strict=True)}
        self.value_optimizer.step(self.group.mean_tensors(updates))

    def _draws(self, rows: int) -> Tensor:
        """This process's share of the numbers that decide the answers."""
        b, length = self.batching.prompts, self.sampling.max_new_tokens
        drawn = draw_uniforms(b * rows, length, self.draws).reshape(b, rows, length)
        return self.group.share(drawn).reshape(-1, length)

    def _next_prompts(self) -> list[int]:
        """The numbers of the next prompts, of all processes."""
        while len(self._queue) < self.batching.prompts:
            self._queue += torch.randperm(len(self.prompts), generator=self.order).tolist()
        taken = self._queue[: self.batching.prompts]
        del self._queue[: self.batching.prompts]
        return taken


def _grid(n: int, m: int) -> tuple[Tensor, Tensor]:
    rows, columns = torch.meshgrid(torch.arange(n), torch.arange(m), indexing="ij")
    return rows, columns


def _split(answers: Answers, own: int) -> tuple[Answers, Answers]:
    fields = [getattr(answers, f.name) for f in dataclasses.fields(answers)]
    return Answers(*(each[:own] for each in fields)), Answers(*(each[own:] for each in fields))


def _norm(updates: Mapping[str, Tensor]) -> float:
    norms = (update.norm() for update in updates.values())
    # of a tensor in shards, float() would give this process's part
    whole = (n.full_tensor() if isinstance(n, DTensor) else n for n in norms)
    return sum(float(n) ** 2 for n in whole) ** 0.5


def _copied(state: Any) -> Any:
    """A state whose tensors are not the optimizer's own."""
    if isinstance(state, Tensor):
        return state.clone()
    if isinstance(state, Mapping):
        return {name: _copied(value) for name, value in state.items()}
    return state
