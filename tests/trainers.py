"""Trainers of small language models for the tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from bridge.distributed import Group
from bridge.optim import Optimizer
from nlhf.language.decoding import Sampling
from nlhf.language.judging import AbstractJudge, FunctionJudge
from nlhf.language.objectives import constant, get_objective
from nlhf.language.policy import Policy
from nlhf.language.reference import FIXED, Reference
from nlhf.language.trainer import Batching, Trainer
from tests.policies import PROMPTS


def longer_wins(prompts: Sequence[Any], a: Sequence[str], b: Sequence[str]) -> torch.Tensor:
    """P(a > b) grows with the difference in length."""
    gap = [float(len(x) - len(y)) for x, y in zip(a, b, strict=True)]
    return torch.sigmoid(torch.tensor(gap, dtype=torch.float64))


def make_trainer(
    policy: Policy,
    judge: AbstractJudge | None = None,
    *,
    name: str = "nash-md",
    prompts: Sequence[str] = PROMPTS,
    tau: float = 0.1,
    mixture: float = 0.25,
    length: int = 2,
    temperature: float = 1.0,
    batch: int | None = None,
    accumulation: int = 1,
    learning_rate: float = 0.01,
    seed: int = 0,
    method: str = "sgd",
    reference: Reference = FIXED,
    **objective: Any,
) -> Trainer:
    """A trainer that goes through all prompts once per pass, shuffled."""
    kind: Any = get_objective(name)
    mixed: dict[str, Any] = {}
    if "mixture" in {field.name for field in dataclasses.fields(kind)}:
        mixed = {"mixture": constant(mixture)}
    made = kind(tau=constant(tau), **mixed, **objective)
    settings: dict[str, Any] = {"reference": reference}
    if getattr(made, "baseline", None) == "learned":
        hidden = policy.config.hidden_size
        settings["value"] = torch.nn.Linear(hidden, 1, dtype=torch.float64)
        named = dict(settings["value"].named_parameters())
        settings["value_optimizer"] = Optimizer(named, method="adam", learning_rate=1e-2)
    judged = judge or FunctionJudge(longer_wins, "longer")
    scalar = None
    if made.needs_reward:
        scalar = getattr(judged, "reward", None)
    return Trainer(
        policy=policy,
        prompts=list(prompts),
        judge=judged,
        objective=made,
        sampling=Sampling(length, temperature),
        batching=Batching(batch or len(prompts), accumulation),
        optimizer=Optimizer(dict(policy.trainable()), method=method, learning_rate=learning_rate),
        order=torch.Generator().manual_seed(seed),
        draws=torch.Generator().manual_seed(seed + 1),
        group=Group(),
        reward=scalar,
        **settings,
    )
