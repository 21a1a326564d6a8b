"""Hold out a part of the training set as a test set, class by class."""

from __future__ import annotations

import numpy as np

from bioplaus.data.raw import Part
from bioplaus.errors import InputError


def hold_out(part: Part, labels: np.ndarray | None, share: float, seed: int) -> tuple[Part, Part]:
    """Split a training set in two at random, stratified by class.

    The same seed gives the same split, whatever other random numbers a run draws.

    Args:
        part: the training set.
        labels: labels of its N examples; None if the targets are vectors.
        share: fraction of the examples to hold out, in (0, 1).
        seed: seed of the draw.

    Returns:
        The remaining training examples, in stored order, and the round(share * N) held out.

    Raises:
        InputError: the share is outside (0, 1), or leaves one side empty.
    """
    n = len(part.inputs)
    if not 0 < share < 1:
        raise InputError(f"holdout={share:g} is no share; use a number between 0 and 1, e.g. 0.1")
    count = round(share * n)
    if not 0 < count < n:
        raise InputError(
            f"holdout={share:g} of {n} examples leaves {n - count} to learn and {count} to test; "
            "use another share"
        )
    rng = np.random.Generator(np.random.PCG64(seed))
    groups = [np.arange(n)]
    if labels is not None:
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    quotas = np.array([count / n * len(group) for group in groups])
    taken = np.floor(quotas).astype(int)
    # The classes with the largest remainders get the examples left over by rounding down.
    order = np.argsort(-(quotas - taken), kind="stable")
    taken[order[: count - taken.sum()]] += 1
    held = np.zeros(n, bool)
    for group, k in zip(groups, taken, strict=True):
        held[rng.permutation(group)[:k]] = True
    return _chosen(part, ~held), _chosen(part, held)


def _chosen(part: Part, mask: np.ndarray) -> Part:
    return Part(part.inputs[mask], part.targets[mask], part.inputs_name, part.targets_name)
