"""Scalar rewards r(x, y), which RLHF needs in place of a preference."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.judging import get_judge
from nlhf.language.preference_models import BRADLEY_TERRY, PreferenceModel
from nlhf.language.prompts import Prompt

Reward = Callable[[Sequence[Prompt], Sequence[str]], Tensor]


def get_reward(spec: str | None, preference: str, device: torch.device | str = "cpu") -> Reward:
    """Find a reward by name.

    Args:
        spec: `module:function`, a Python callable (prompts, answers) -> numbers, or a folder with
            a Bradley-Terry model that `preference-train` wrote; None takes the preference's own.
        preference: its spec; a judge that knows rewards has a method `reward`.
        device: where a model computes.

    Raises:
        InputError: nothing of that name, or a preference that has no reward.
    """
    named = spec or preference
    judge = get_judge(named, device)
    judge = getattr(judge, "judge", judge)
    found = getattr(judge, "function", getattr(judge, "model", judge))
    is_function = spec is not None and ":" in spec and not os.path.isdir(spec)
    reward: Any = getattr(found, "reward", found if is_function else None)
    head = ""
    if isinstance(found, PreferenceModel) and found.kind != BRADLEY_TERRY:
        reward, head = None, f" with head={found.kind}"
    if reward is None:
        raise InputError(
            f"preference {named}{head} has no scalar reward, which rlhf needs; give a "
            "Bradley-Terry model (preference-train --head bradley-terry), or "
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
