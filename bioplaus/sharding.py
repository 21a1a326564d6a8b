"""Split a batch into micro-shards, so that the update is the same for any number of processes.

Each shard is estimated separately and in the same shapes on every process. The updates are summed
in shard order.
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
    """The processes of a run, as in `bridge.distributed`."""

    @property
    def rank(self) -> int:
        """The index of this process, from 0."""
        ...

    @property
    def size(self) -> int:
        """The number of processes."""
        ...

    def own_part(self, whole: Sequence[int]) -> Sequence[int]:
        """Return this process's part of a sequence."""
        ...

    def gather(self, part: Tensor) -> Tensor:
        """Concatenate the parts of all processes, in process order."""
        ...

    def total(self, count: int) -> int:
        """Sum a number over the processes."""
        ...


@dataclass(frozen=True)
class Step:
    """An estimate on a whole batch.

    Attributes:
        updates: updates by parameter.
        values: measures by name, see `bioplaus.measuring.measure`.
    """

    updates: Mapping[str, Tensor]
    values: dict[str, float]


class Shards:
    """A fixed number of micro-shards, assigned to processes.

    Attributes:
        count: shards per batch, >= 1; with 1 the batch is not split.
    """

    def __init__(self, field: VectorField, count: int, group: AbstractGroup) -> None:
        """Assign the shards to the processes.

        Raises:
            InputError: the shards cannot be divided evenly among the processes.
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
        """Whether this process writes the records, which all processes could write."""
        return self._group.rank == 0

    def estimate(
        self,
        estimator: AbstractEstimator,
        field: VectorField,
        x: Tensor,
        target: Tensor,
        cost: AbstractCost,
    ) -> Step:
        """Estimate -dJ/dtheta on a batch: sum_k (n_k / n) u_k in shard order, u_k from shard k.

        Args:
            estimator: computes the updates.
            field: the vector field.
            x: clamped input, [B, n_in].
            target: y, [B, m].
            cost: C.

        Returns:
            The step; the next call overwrites its updates.
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
        """One shard's flat update and its measures; both are zero if it has no rows."""
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
        """The percentage of test images whose largest output is not their label.

        It is NaN if there are no test images or if their targets are vectors.

        Args:
            field: the vector field.
            dataset: provides the test images.
            settling: how the free phase settles.
            n: images per batch; the processes take batches in turn.
            both_sides: see `measuring.count_errors`.
        """
        if not len(dataset.test) or not dataset.has_labels:
            return math.nan
        turns = list(batches(len(dataset.test), n))[self._group.rank :: self._group.size]
        wrong = sum(count_errors(field, dataset, settling, rows, both_sides) for rows in turns)
        return 100.0 * self._group.total(wrong) / len(dataset.test)

    def require_equal(self, field: VectorField, step: int) -> None:
        """Check that all processes have the same parameters.

        Raises:
            ArithmeticError: they are not bitwise equal.
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
    """Seed an estimator's generator per shard, with seeds that all processes draw alike."""
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
