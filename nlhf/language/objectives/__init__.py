"""Objectives, one per file: losses whose gradients estimate minus the true gradient.

Throughout, B prompts have N answers each of at most T tokens. `log_pi` [B, N, T] carries the
gradient and is zero after an answer's end; `tau` is the weight of KL(pi, mu). An objective is a
class of this package with a `name`. The registry finds it by its file, so adding an objective
changes no other file.
"""

import sys

from nlhf.errors import InputError
from nlhf.language.objectives.base import (
    Draw,
    Estimator,
    Held,
    Objective,
    Plan,
    Sampled,
    constant,
    divergence,
)
from nlhf.language.objectives.online_ipo import ipo_loss
from nlhf.language.objectives.policy_gradient import (
    BASELINES,
    KLS,
    policy_gradient_loss,
    returns,
    value_loss,
)
from nlhf.registry import named_in

OBJECTIVES: dict[str, type[Objective]] = named_in(
    sys.modules[__name__],
    Objective,
    first=("nash-md", "nash-ema", "self-play", "best-response", "extragradient", "rlhf"),
)
"""The objectives by name."""


def get_objective(name: str) -> type[Objective]:
    """Look up an objective's class by name.

    Raises:
        InputError: the name is unknown.
    """
    if name not in OBJECTIVES:
        raise InputError(
            f"algorithm={name!r} is unknown for a language model; use one of "
            f"{', '.join(OBJECTIVES)}"
        )
    return OBJECTIVES[name]


__all__ = [
    "BASELINES",
    "KLS",
    "OBJECTIVES",
    "Draw",
    "Estimator",
    "Held",
    "Objective",
    "Plan",
    "Sampled",
    "constant",
    "divergence",
    "get_objective",
    "ipo_loss",
    "policy_gradient_loss",
    "returns",
    "value_loss",
]
