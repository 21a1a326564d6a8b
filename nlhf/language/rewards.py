"""Scalar rewards r(x, y), which RLHF needs instead of a preference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.judging import AbstractJudge, AbstractWrapper
from nlhf.language.preference_models import BRADLEY_TERRY, PreferenceModel
from nlhf.language.prompts import Prompt

Reward = Callable[[Sequence[Prompt], Sequence[str]], Tensor]


def reward_of(judge: AbstractJudge, *, by_itself: bool) -> Reward:
    """The reward of a judge, validated: one finite number per answer.

    Args:
        judge: has a method `reward`, or wraps a judge that has one.
        by_itself: treat a function without that method as the reward, (prompts, answers) ->
            numbers.

    Raises:
        InputError: the judge has no reward.
    """
    named = judge.name
    while isinstance(judge, AbstractWrapper):
        judge = judge.judge
    found = getattr(judge, "function", getattr(judge, "model", judge))
    is_function = by_itself and hasattr(judge, "function")
    reward: Any = getattr(found, "reward", found if is_function else None)
    head = ""
    if isinstance(found, PreferenceModel) and found.kind != BRADLEY_TERRY:
        reward, head = None, f" with head={found.kind}"
    if reward is None:
        raise InputError(
            f"preference {named}{head} has no scalar reward, which rlhf needs; give reward:MODEL, "
            "a Bradley-Terry model (preference-train --head bradley-terry), or "
            "--set reward=module:function"
        )

    def checked(prompts: Sequence[Prompt], answers: Sequence[str]) -> Tensor:
        values = torch.as_tensor(reward(list(prompts), list(answers))).detach().double().cpu()
        if values.shape != (len(answers),) or not bool(torch.isfinite(values).all()):
            raise InputError(
                f"reward {named} gave {list(values.shape)} numbers, finite or not, for "
                f"{len(answers)} answers; it must give one finite number an answer"
            )
        return values

    return checked
