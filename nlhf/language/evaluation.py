"""Evaluate a policy on held-out prompts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch

from nlhf.language.decoding import draw_uniforms
from nlhf.language.objectives.base import MIXTURE, Draw, Plan
from nlhf.language.prompts import Prompt
from nlhf.language.records import EvaluationRecord
from nlhf.language.rollout import Rollout
from nlhf.language.stopwatch import Stopwatch

PASS = 16
"""Number of prompts answered at once."""


@torch.no_grad()
def evaluate(
    rollout: Rollout, prompts: Sequence[Prompt], samples: int, step: int, seed: int
) -> EvaluationRecord:
    """Measure P(pi > mu) and the other measures over held-out prompts.

    Every evaluation uses the same random numbers, so that policies are compared without sampling
    noise between evaluations. The run's own generators do not advance. Penalties and cuts do not
    apply, so that a policy that equals the reference measures 1/2.

    Args:
        rollout: how prompts are answered and judged.
        prompts: at least one.
        samples: answers per prompt of each policy.
        step: step of the run.
        seed: seed of the answers.
    """
    g = torch.Generator().manual_seed(seed)
    # evaluation time is not counted as step time
    whole = rollout.sampling.whole
    plain = dataclasses.replace(rollout, missing_end=0.0, watch=Stopwatch(), sampling=whole)
    length = rollout.sampling.max_new_tokens
    scalar = rollout.judge is None
    other = () if scalar else (Draw(samples, MIXTURE, 1.0),)
    plan = Plan((Draw(samples),), other, asks="reward" if scalar else "opponents")
    sums: dict[str, float] = {}
    for start in range(0, len(prompts), PASS):
        some = list(prompts[start : start + PASS])
        batch = plain.sample(plan, some, {}, _draws(len(some), length, g))
        scored = plain.score(batch, {})
        wins = batch.preference.mean((1, 2)) if batch.preference.ndim == 3 else batch.reward.mean(1)
        found: dict[str, Any] = {
            "win_rate": wins.sum(),
            "squares": wins.square().sum(),
            "above_half": (wins > 0.5).sum(),
            "objective_kl": scored.kl.mean(1).sum(),
            "objective_entropy": -scored.sampled.log_pi.sum(-1).mean(1).sum(),
            "completions_mean_length": scored.sampled.mask.sum(-1).double().mean(1).sum(),
            "ended": batch.own.ended.double().reshape(len(some), -1).mean(1).sum(),
        }
        for name, value in found.items():
            sums[name] = sums.get(name, 0.0) + float(value)
    n = len(prompts)
    means = {name: value / n for name, value in sums.items()}
    spread = max(means.pop("squares") - means["win_rate"] ** 2, 0.0)
    error = (spread / max(n - 1, 1)) ** 0.5
    return EvaluationRecord(step=step, prompts=n, win_rate_error=error, **means)


def _draws(prompts: int, length: int, g: torch.Generator) -> Callable[[int], torch.Tensor]:
    return lambda rows: draw_uniforms(prompts * rows, length, g)
