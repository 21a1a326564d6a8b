"""Seeds: the same on every machine, independent by name."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import InputError
from bridge.seeding import generator, seed_for


def test_a_stream_has_the_same_seed_on_every_machine() -> None:
    # printf %s 0:weights | sha256sum, the first 16 digits, halved
    assert seed_for(0, "weights") == 2039098572050236917
    assert seed_for(7, "batches") == 1125737271638888961


@given(st.integers(0, 10**30), st.text(max_size=20), st.text(max_size=20))
def test_streams_of_different_names_differ(root: int, first: str, second: str) -> None:
    assert 0 <= seed_for(root, first) < 2**63
    assert (seed_for(root, first) == seed_for(root, second)) == (first == second)
    assert seed_for(root, first) != seed_for(root + 1, first)


def test_generators_repeat_and_do_not_touch_the_global_one() -> None:
    before = torch.random.get_rng_state()
    first, second, other = (generator(3, name) for name in ("a", "a", "b"))
    draw = torch.randn(5, generator=first)
    assert torch.equal(draw, torch.randn(5, generator=second))
    assert not torch.equal(draw, torch.randn(5, generator=other))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("seed", [-1, 1.5, True, "1"])
def test_what_is_no_seed_is_refused(seed: int) -> None:
    with pytest.raises(InputError, match="is no seed; use a whole number >= 0"):
        seed_for(seed, "weights")
