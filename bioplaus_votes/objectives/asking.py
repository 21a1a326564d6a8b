"""Validate and convert an objective's settings, judge and reference."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from bioplaus.data import Dataset
from bioplaus.fields import VectorField
from bioplaus_votes.judges import AbstractJudge, TableJudge, judge_of_function
from bioplaus_votes.objectives.baselines import BASELINES
from bridge.errors import InputError

PENALTIES = ("summed", "sampled")
GEOMETRIES = ("gradient", "natural")


def require_settings(
    tau: object,
    tau_start: object,
    votes: object,
    baseline: str | None,
    penalty: str,
    geometry: str | None,
) -> None:
    """Raise if a setting is out of range.

    Raises:
        InputError: names the value and the legal values.
    """
    for name, weight in (("tau", tau), ("tau_start", 1.0 if tau_start is None else tau_start)):
        if not (isinstance(weight, int | float) and math.isfinite(weight) and weight > 0):
            raise InputError(f"{name}={weight!r} must be a number > 0")
    if isinstance(votes, bool) or not isinstance(votes, int) or votes < 0:
        raise InputError(f"votes={votes!r} must be a whole number >= 0; 0 is exact")
    chosen = {"baseline": (baseline, BASELINES), "penalty": (penalty, PENALTIES)}
    chosen["geometry"] = (geometry, GEOMETRIES)
    for name, (value, known) in chosen.items():
        if value is not None and value not in known:
            raise InputError(f"{name}={value!r} is unknown; use one of {', '.join(known)}")
    if baseline == "leave-one-out" and votes < 2:
        raise InputError(
            f"baseline=leave-one-out with votes={votes} leaves nothing; give votes of 2 or more"
        )


def as_judge(judge: object, symmetrise: bool) -> AbstractJudge | Callable[..., Any]:
    """Return a judge or function unchanged; convert a table to a judge.

    Raises:
        InputError: it is not a judge, or not antisymmetric.
    """
    if isinstance(judge, list | tuple | Tensor) or hasattr(judge, "__array__"):
        return TableJudge(torch.as_tensor(judge), symmetrise=symmetrise)
    if isinstance(judge, AbstractJudge) or callable(judge):
        return judge
    raise InputError(
        f"judge is {type(judge).__name__}; give a bioplaus_votes.AbstractJudge, a table "
        "[C, K, K] or a function"
    )


def fitting_judge(
    judge: Any, field: VectorField, dataset: Dataset, symmetrise: bool
) -> AbstractJudge:
    """The judge for a network and its data; a function is converted, see `judge_of_function`.

    Raises:
        InputError: its answers do not match the field's, or it knows too few contexts.
    """
    if not dataset.has_labels:
        raise InputError(
            "data has target vectors; with a judge its labels are the contexts, whole numbers "
            "from 0"
        )
    contexts = dataset.class_names or tuple(map(str, range(dataset.num_outputs)))
    if not isinstance(judge, AbstractJudge):
        judge = judge_of_function(
            judge,
            name=getattr(judge, "__name__", type(judge).__name__),
            contexts=contexts,
            answers=field.n_output,
            x=dataset.train.inputs[:4],
            symmetrise=symmetrise,
        )
    found = cast(AbstractJudge, judge)
    if len(found.answers) != field.n_output:
        raise InputError(
            f"judge {found.name} knows {len(found.answers)} answers, but the field has "
            f"n_output={field.n_output}; make a field of {len(found.answers)} outputs"
        )
    if found.by_context and len(found.contexts) < dataset.num_outputs:
        raise InputError(
            f"judge {found.name} knows {len(found.contexts)} contexts, but the data has "
            f"{dataset.num_outputs} labels; give a table for each"
        )
    return found


def reference_of(given: object, contexts: int, k: int) -> Tensor:
    """log mu, [1, K] or [C, K], float64.

    Raises:
        InputError: the number of answers does not match, or it is not a distribution.
    """
    if given is None:
        return torch.full((1, k), 1.0 / k, dtype=torch.float64).log()
    mu = torch.as_tensor(given, dtype=torch.float64)
    mu = mu[None] if mu.ndim == 1 else mu
    if mu.ndim != 2 or mu.shape[1] != k or len(mu) not in (1, contexts):
        raise InputError(
            f"reference has shape {list(mu.shape)}; give [{k}] probabilities, or [{contexts}, {k}]"
        )
    total = mu.sum(-1)
    if (
        not bool(torch.isfinite(mu).all())
        or bool((mu < 0).any())
        or float((total - 1).abs().max()) > 1e-6
    ):
        raise InputError(
            f"reference sums to {float(total[(total - 1).abs().argmax()]):g}; it is a distribution "
            "where entries are >= 0 and sum to 1"
        )
    return mu.log()
