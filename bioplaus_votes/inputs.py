"""Inputs for judges with their own contexts, and data rows for votes."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

import torch

from bioplaus.data import Dataset
from bioplaus.data.examples import Examples
from bioplaus_votes.judges import Stream
from bridge.errors import InputError
from bridge.seeding import generator


def of_contexts(names: Sequence[str], source: str, dtype: torch.dtype = torch.float32) -> Dataset:
    """A data set whose inputs are one-hot contexts, labelled by their index."""
    c = len(names)
    examples = Examples(torch.eye(c, dtype=dtype), torch.arange(c))
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    return Dataset(source, examples, examples, (c,), c, digest, tuple(names))


def one_row_a_vote(
    dataset: Dataset, stream: Stream, contexts: Sequence[str], seed: int
) -> tuple[Dataset, Stream]:
    """Build one training row per vote: an input drawn from those of the vote's context.

    Args:
        dataset: a data set whose labels are contexts.
        stream: votes, whose contexts are indices of the judge.
        contexts: the judge's context names, in the order of the stream's indices.
        seed: seed of the draw.

    Raises:
        InputError: a context of the votes has no input.
    """
    names = dataset.class_names or tuple(map(str, range(dataset.num_outputs)))
    number = {name: k for k, name in enumerate(names)}
    missing = [name for name in contexts if name not in number]
    if missing:
        raise InputError(f"votes in context {missing[0]!r} have no input among {', '.join(names)}")
    label = torch.tensor([number[name] for name in contexts])[stream.context]
    luck, train = generator(seed, "inputs-of-votes"), dataset.train
    rows = torch.empty(len(stream), dtype=torch.long)
    for k in range(len(names)):
        own, votes = (train.targets == k).nonzero()[:, 0], (label == k).nonzero()[:, 0]
        if len(votes) and not len(own):
            raise InputError(f"context {names[k]!r} has votes, and no training input of its label")
        if len(votes):
            rows[votes] = own[torch.randint(len(own), (len(votes),), generator=luck)]
    taken = Examples(train.inputs[rows], train.targets[rows])
    return dataclasses.replace(dataset, train=taken), dataclasses.replace(stream, context=label)
