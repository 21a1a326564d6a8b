"""Micro-shards: what is added up, who does what, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from bioplaus.costs import get_cost, one_hot
from bioplaus.errors import InputError
from bioplaus.estimators import get_estimator
from bioplaus.fields import LeakyField
from bioplaus.gradient_check import default_settling
from bioplaus.sharding import Shards
from bridge.distributed import Group

ROWS = 11


class Part:
    """A process among others, whose parts it is given."""

    def __init__(self, rank: int, size: int, others: Sequence[Sequence[Tensor]] = ()) -> None:
        self.rank, self.size, self.said = rank, size, []
        self._others = others

    def own_part(self, whole: Sequence[int]) -> Sequence[int]:
        part = len(whole) // self.size
        return whole[self.rank * part : (self.rank + 1) * part]

    def gather(self, part: Tensor) -> Tensor:
        self.said.append(part)
        if not self._others:
            return part.repeat(self.size, *[1] * (part.dim() - 1))
        place = len(self.said) - 1
        return torch.cat([told[place] for told in self._others])

    def total(self, count: int) -> int:
        return count


def setting(nudging: str = "centered"):
    torch.manual_seed(0)
    field = LeakyField(
        [6, 7, 4],
        "tanh",
        coordinates="membrane",
        gain=0.5,
        angle=60.0,
        generator=torch.Generator().manual_seed(1),
        dtype=torch.float64,
    )
    x = torch.rand(ROWS, 6, dtype=torch.float64)
    y = one_hot(torch.arange(ROWS) % 4, 4, torch.float64)
    estimator = get_estimator("vector-field")(
        settling=default_settling(torch.float64),
        nudging=nudging,
        generator=torch.Generator().manual_seed(2),
    )
    return estimator, field, x, y, get_cost("squared-error")


@pytest.mark.parametrize("count", [2, 3, 4, 16])
def test_shards_add_up_to_the_whole_batch(count: int) -> None:
    given = setting()
    whole = Shards(given[1], 1, Group()).estimate(*given)
    parts = Shards(given[1], count, Group()).estimate(*given)
    for name, update in whole.updates.items():
        assert torch.allclose(parts.updates[name], update, rtol=1e-8, atol=1e-10)
    for name, value in whole.values.items():
        assert parts.values[name] == pytest.approx(value, rel=1e-6, abs=1e-9), name


@pytest.mark.parametrize("nudging", ["centered", "random-sign"])
@pytest.mark.parametrize("size", [2, 4])
def test_however_many_share_them_the_bits_are_the_same(nudging: str, size: int) -> None:
    given = setting(nudging)
    alone = Shards(given[1], 4, Group()).estimate(*given)
    after = given[0].generator.get_state()
    told = []
    for rank in range(size):
        process = Part(rank, size)
        Shards(given[1], 4, process).estimate(*setting(nudging))
        told.append(process.said)
    for rank in range(size):
        mine = setting(nudging)
        together = Shards(given[1], 4, Part(rank, size, told)).estimate(*mine)
        assert together.values == alone.values
        for name, update in alone.updates.items():
            assert torch.equal(together.updates[name], update)
        # the next step draws the same too
        assert torch.equal(mine[0].generator.get_state(), after)


def test_random_signs_differ_from_shard_to_shard_and_from_step_to_step() -> None:
    estimator, field, x, y, cost = setting("random-sign")
    same = x[:1].expand(8, -1), y[:1].expand(8, -1)
    shards = Shards(field, 8, Group())
    updates = [shards.estimate(estimator, field, *same, cost).updates["bias.1"] for _ in range(4)]
    assert any(not torch.equal(updates[0], each) for each in updates[1:])


def test_shards_that_cannot_be_shared_are_refused() -> None:
    with pytest.raises(InputError, match=r"micro_shards=1 cannot .* 2 processes.* micro_shards=2"):
        Shards(setting()[1], 1, Part(0, 2))
    with pytest.raises(InputError, match=r"--set micro_shards=6"):
        Shards(setting()[1], 4, Part(0, 3))


def test_weights_that_drift_apart_are_noticed() -> None:
    field = setting()[1]
    other = Part(1, 2)
    shards = Shards(field, 2, other)
    shards.require_equal(field, 5)
    field.parameters["bias.1"][0] += 1e-12
    mine = Part(0, 2)
    Shards(field, 2, mine).require_equal(field, 5)
    with pytest.raises(ArithmeticError, match="process 1 are not those of process 0 after step 5"):
        Shards(field, 2, Part(0, 2, [mine.said, other.said])).require_equal(field, 5)
