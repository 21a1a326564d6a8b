"""A batch in micro-shards, so that however many processes share them give the same update.

Each shard is estimated alone, in the same shapes wherever that is, and the updates of all are added
in the order of the shards.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from bioplaus.costs import AbstractCost
from bioplaus.data import Dataset, batches
from bioplaus.errors import InputError
from bioplaus.estimators import AbstractEstimator
from bioplaus.fields import VectorField
from bioplaus.measuring import LARGEST, MEASURES, count_errors, measure
from bioplaus.phases import Settling


class AbstractGroup(Protocol):
    """The processes of a run, as `bridge.distributed` has them."""

    @property
    def rank(self) -> int:
        """Which of the processes this one is, from 0."""
        ...

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    def own_part(self, whole: Sequence[int]) -> Sequence[int]:
        """Give the part of a sequence that is this process's."""
        ...

    def gather(self, part: Tensor) -> Tensor:
        """Put the parts of all processes together, in their order."""
        ...

    def total(self, count: int) -> int:
        """Sum a number over the processes."""
        ...


@dataclass(frozen=True)
class Step:
    """An estimate on a whole batch.

    Attributes:
        updates: by parameter.
        values: its measures, by name, see `bioplaus.measuring.measure`.
    """

    updates: Mapping[str, Tensor]
    values: dict[str, float]


class Shards:
    """A fixed number of micro-shards, and who estimates which.

    Attributes:
        count: shards a batch, >= 1; with 1 the batch is estimated whole.
    """

    def __init__(self, field: VectorField, count: int, group: AbstractGroup) -> None:
        """Share out the shards.

        Raises:
            InputError: the processes cannot share them evenly.
        """
        if count % group.size:
            raise InputError(
                f"micro_shards={count} cannot be shared evenly by {group.size} processes; use a "
                f"multiple, e.g. --set micro_shards={-(-count // group.size) * group.size}"
            )
        self.count, self._group = count, group
        self._updates = {name: torch.empty_like(p) for name, p in field.parameters.items()}

    @property
    def writes(self) -> bool:
        """Whether this process keeps the records that all could make."""
        return self._group.rank == 0

    def estimate(
        self,
        estimator: AbstractEstimator,
        field: VectorField,
        x: Tensor,
        target: Tensor,
        cost: AbstractCost,
    ) -> Step:
        """Estimate -dJ/dtheta on a batch: sum_k n_k / n u_k, k in order, u_k that of shard k.

        Args:
            estimator: where the updates come from.
            field: the vector field.
            x: clamped input, [B, n_in].
            target: y, [B, m].
            cost: C.

        Returns:
            The step; its updates are overwritten by the next one.
        """
        if self.count == 1:
            estimate = estimator(field, x, target, cost, out=self._updates)
            return Step(estimate.updates, measure(field, cost, estimate, target))
        ends = [len(x) * k // self.count for k in range(self.count + 1)]
        updates, values = [], []
        with _seeded(estimator, self.count) as seed:
            for k in self._group.own_part(range(self.count)):
                seed(k)
                rows = slice(ends[k], ends[k + 1])
                update, value = self._part(estimator, field, x[rows], target[rows], cost)
                updates.append(update)
                values.append(value)
        shares = [(b - a) / len(x) for a, b in pairwise(ends)]
        every_update = self._group.gather(torch.stack(updates))
        every_value = self._group.gather(torch.stack(values)).tolist()
        total = torch.zeros_like(every_update[0])
        for share, update in zip(shares, every_update, strict=True):
            total.add_(update, alpha=share)
        parts = total.split([p.numel() for p in self._updates.values()])
        named = zip(self._updates.items(), parts, strict=True)
        means = {}
        for name, column in zip(MEASURES, zip(*every_value, strict=True), strict=True):
            weighted = (share * value for share, value in zip(shares, column, strict=True))
            means[name] = max(column) if name in LARGEST else sum(weighted)
        return Step({name: part.view_as(p) for (name, p), part in named}, means)

    def _part(
        self,
        estimator: AbstractEstimator,
        field: VectorField,
        x: Tensor,
        target: Tensor,
        cost: AbstractCost,
    ) -> tuple[Tensor, Tensor]:
        """One shard's update, flat, and its measures; both zero where it has no rows."""
        if not len(x):
            size = sum(p.numel() for p in self._updates.values())
            return x.new_zeros(size), torch.zeros(len(MEASURES), dtype=torch.float64)
        estimate = estimator(field, x, target, cost, out=self._updates)
        values = measure(field, cost, estimate, target)
        flat = torch.cat([estimate.updates[name].flatten() for name in self._updates])
        return flat, torch.tensor([values[name] for name in MEASURES], dtype=torch.float64)

    def error_rate(
        self,
        field: VectorField,
        dataset: Dataset,
        settling: Settling,
        n: int,
        both_sides: bool = False,
    ) -> float:
        """Share of test images whose largest output is not their label, in percent.

        NaN without test images, or where their targets are vectors.

        Args:
            field: the vector field.
            dataset: of which the test images are taken.
            settling: how the free phase settles.
            n: images at a time; the processes take turns.
            both_sides: see `measuring.count_errors`.
        """
        if not len(dataset.test) or not dataset.has_labels:
            return math.nan
        turns = list(batches(len(dataset.test), n))[self._group.rank :: self._group.size]
        wrong = sum(count_errors(field, dataset, settling, rows, both_sides) for rows in turns)
        return 100.0 * self._group.total(wrong) / len(dataset.test)

    def require_equal(self, field: VectorField, step: int) -> None:
        """Compare the parameters of all processes.

        Raises:
            ArithmeticError: they are not equal to the last bit.
        """
        if self._group.size == 1:
            return
        digest = hashlib.sha256()
        for parameter in field.parameters.values():
            digest.update(parameter.cpu().numpy().tobytes())
        mine = torch.frombuffer(bytearray(digest.digest()[:8]), dtype=torch.int64)
        everyone = self._group.gather(mine).tolist()
        if len(set(everyone)) > 1:
            other = next(rank for rank, each in enumerate(everyone) if each != everyone[0])
            raise ArithmeticError(
                f"the weights of process {other} are not those of process 0 after step {step}; use "
                "the same kind of machine, packages and --threads for all"
            )


@contextlib.contextmanager
def _seeded(estimator: AbstractEstimator, count: int) -> Iterator[Callable[[int], object]]:
    """Give what an estimator draws a seed a shard, drawn by all processes alike."""
    source: torch.Generator | None = getattr(estimator, "generator", None)
    if source is None:
        yield lambda k: None
        return
    seeds = torch.randint(2**62, (count,), generator=source).tolist()
    after = source.get_state()
    try:
        yield lambda k: source.manual_seed(seeds[k])
    finally:
        source.set_state(after)
