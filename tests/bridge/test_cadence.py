"""Cadence: when something is due."""

from __future__ import annotations

import math

import pytest

from bridge.cadence import Every
from bridge.errors import InputError


def test_every_n_steps() -> None:
    every = Every(steps=3)
    assert [step for step in range(1, 11) if every.due(step)] == [3, 6, 9]
    assert [step for step in range(4, 41, 4) if every.due(step, advanced=4)] == [*range(4, 41, 4)]
    assert [step for step in (1, 2) if Every(steps=1).due(step)] == [1, 2]


def test_every_share_of_an_epoch() -> None:
    assert [s for s in range(1, 21) if Every(epochs=1, steps_per_epoch=10).due(s)] == [10, 20]
    assert [s for s in range(1, 11) if Every(epochs=0.5, steps_per_epoch=10).due(s)] == [5, 10]
    assert Every(epochs=0.01, steps_per_epoch=10).due(1)


def test_every_so_many_seconds() -> None:
    now = [0.0]
    every = Every(seconds=5.0, clock=lambda: now[0])
    due = []
    for now[0] in (1.0, 5.0, 6.0, 9.9, 11.0):
        due.append(every.due(1))
    assert due == [False, True, False, False, True]


@pytest.mark.parametrize(
    "settings",
    [{}, {"steps": 1, "seconds": 1.0}, {"steps": 0}, {"seconds": -1.0}, {"epochs": 1.0},
     {"seconds": math.nan}],
)  # fmt: skip
def test_a_cadence_needs_one_period(settings: dict[str, float]) -> None:
    with pytest.raises(InputError):
        Every(**settings)  # type: ignore[arg-type]
