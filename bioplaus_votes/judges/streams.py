"""Real votes, one at a time: what was compared in which context, and which answer won."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bridge.errors import InputError
from nlhf.preferences.battles import Battles


@dataclass(frozen=True, eq=False)
class Stream:
    """Votes, one per row; each is used once.

    Attributes:
        context: index of the context, [N].
        first, second: the answers compared, [N].
        bit: 1 where the first was preferred, 0 where the second was, 1/2 for a tie, [N].
        share: frequency of the vote's pair among the votes of its context, [N]; the frequencies of
            all pairs of a context sum to 1.
    """

    context: Tensor
    first: Tensor
    second: Tensor
    bit: Tensor
    share: Tensor

    def __len__(self) -> int:
        return len(self.bit)


def stream_of(battles: Battles, most: int = 50_000_000) -> Stream:
    """Split battles into single votes; a tally of ten wins becomes ten votes.

    Raises:
        InputError: numbers of votes are unknown or not integers, or there are none.
    """
    if battles.shares is not None:
        raise InputError(
            f"judge votes:{battles.name} holds {battles.layout}, and no single votes to stream; "
            "give --votes N for votes drawn from them, or --votes 0 for exact directions"
        )
    _, group = battles.groups()
    times = battles.weight
    parts = []
    for count, bit in ((battles.won, 1.0), (battles.lost, 0.0), (battles.tied, 0.5)):
        n = count * times
        if not np.allclose(n, np.round(n)):
            raise InputError(
                f"judge votes:{battles.name} has {n[n != np.round(n)][0]:g} votes in a row; votes "
                "are streamed in whole numbers, so give --votes N or --votes 0"
            )
        rows = np.repeat(np.arange(len(n)), np.round(n).astype(np.int64))
        parts.append((rows, np.full(len(rows), bit)))
    rows = np.concatenate([each[0] for each in parts])
    bits = np.concatenate([each[1] for each in parts])
    if not 0 < len(rows) <= most:
        raise InputError(f"judge votes:{battles.name} has {len(rows)} votes; give 1 to {most}")
    order = np.argsort(rows, kind="stable")  # in the order of the file
    rows, bits = rows[order], bits[order]
    context, i, j = group[rows], battles.first[rows], battles.second[rows]
    k = len(battles.items)
    pair = (context * k + np.minimum(i, j)) * k + np.maximum(i, j)
    _, where, counts = np.unique(pair, return_inverse=True, return_counts=True)
    totals = np.bincount(context)
    share = counts[where] / totals[context]
    return Stream(*(torch.from_numpy(np.asarray(v)) for v in (context, i, j, bits, share)))
