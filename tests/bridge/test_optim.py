"""Optimizers: the sign of updates, agreement with torch.optim, bit-exact resumption."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from bridge.errors import InputError, RunFailed
from bridge.optim import Joined, Optimizer
from bridge.schedules import SCHEDULES, learning_rate_schedule

NAMES = ("forward.0", "forward.1", "bias.0")


def fresh(seed: int = 0) -> dict[str, Tensor]:
    """Parameters or updates of three shapes, float64."""
    g = torch.Generator().manual_seed(seed)
    shapes = [(4, 3), (2, 4), (4,)]
    return {
        name: torch.randn(shape, generator=g, dtype=torch.float64)
        for name, shape in zip(NAMES, shapes, strict=True)
    }


def copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies, so that in-place changes show."""
    return {name: tensor.clone() for name, tensor in tensors.items()}


def test_a_parameter_moves_by_plus_rate_times_update() -> None:
    params = fresh(0)
    before, updates = copies(params), fresh(1)
    Optimizer(params, learning_rate=0.1).step(updates)
    for name in NAMES:
        torch.testing.assert_close(params[name], before[name] + 0.1 * updates[name])


@pytest.mark.parametrize("method", ["sgd", "momentum", "adam"])
def test_following_minus_the_gradient_lowers_the_cost(method: str) -> None:
    params = fresh(0)
    optimizer = Optimizer(params, method=method, learning_rate=0.1)
    costs = []
    for _ in range(400):
        costs.append(sum(float((p * p).sum()) for p in params.values()) / 2)
        optimizer.step({name: -p for name, p in params.items()})
    assert costs[1] < costs[0]
    assert costs[-1] < 1e-3 * costs[0]


@pytest.mark.parametrize(
    ("method", "settings", "reference"),
    [
        ("sgd", {}, lambda p: torch.optim.SGD(p, lr=0.1)),
        ("sgd", {"weight_decay": 0.3}, lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.3)),
        ("momentum", {"momentum": 0.8}, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8)),
        ("adam", {"betas": (0.8, 0.9)}, lambda p: torch.optim.AdamW(
            p, lr=0.1, betas=(0.8, 0.9), weight_decay=0)),
        ("adam", {"weight_decay": 0.3}, lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.3)),
    ],
)  # fmt: skip
def test_it_agrees_with_torch_optim(method: str, settings: dict[str, Any], reference: Any) -> None:
    params = fresh(0)
    theirs = {name: p.clone().requires_grad_() for name, p in params.items()}
    ours = Optimizer(params, method=method, learning_rate=0.1, **settings)
    other = reference(list(theirs.values()))
    for step in range(20):
        updates = fresh(step + 1)
        ours.step(updates)
        for name, p in theirs.items():
            p.grad = -updates[name]
        other.step()
    for name in NAMES:
        torch.testing.assert_close(params[name], theirs[name].detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", ["sgd", "momentum", "adam"])
def test_weight_decay_shrinks_by_rate_times_decay_apart_from_the_update(method: str) -> None:
    params = fresh(0)
    before = copies(params)
    optimizer = Optimizer(params, method=method, learning_rate=0.1, weight_decay=0.5)
    for _ in range(3):
        optimizer.step({name: torch.zeros_like(p) for name, p in params.items()})
    for name in NAMES:
        torch.testing.assert_close(params[name], before[name] * 0.95**3)


@pytest.mark.parametrize("method", ["sgd", "momentum", "adam"])
def test_updates_stay_as_they_are_and_no_graph_is_built(method: str) -> None:
    params = fresh(0)
    updates = fresh(1)
    before = copies(updates)
    places = {name: p.data_ptr() for name, p in params.items()}
    Optimizer(params, method=method, learning_rate=0.1, clip_norm=0.1).step(updates)
    for name in NAMES:
        assert torch.equal(updates[name], before[name])
        assert params[name].data_ptr() == places[name]
        assert params[name].grad is None
        assert not params[name].requires_grad


def test_rates_multiply_by_name_or_beginning_and_the_longest_wins() -> None:
    params = fresh(0)
    before, updates = copies(params), fresh(1)
    rates = {"forward": 2.0, "forward.1": 0.0}
    Optimizer(params, learning_rate=0.1, rates=rates).step(updates)
    for name, rate in zip(NAMES, (0.2, 0.0, 0.1), strict=True):
        torch.testing.assert_close(params[name], before[name] + rate * updates[name])


def test_clipping_scales_all_updates_together() -> None:
    params = fresh(0)
    before, updates = copies(params), fresh(1)
    norm = math.sqrt(sum(float((u * u).sum()) for u in updates.values()))
    Optimizer(params, learning_rate=1.0, clip_norm=norm / 4).step(updates)
    for name in NAMES:
        torch.testing.assert_close(params[name], before[name] + updates[name] / 4)
    Optimizer(params, learning_rate=1.0, clip_norm=norm * 4).step(updates)
    torch.testing.assert_close(params["bias.0"], before["bias.0"] + 1.25 * updates["bias.0"])


def test_clipping_tells_of_updates_that_are_not_finite() -> None:
    updates = fresh(1)
    updates["bias.0"][0] = math.inf
    with pytest.raises(RunFailed, match="inf at step 0; lower learning_rate"):
        Optimizer(fresh(0), learning_rate=0.1, clip_norm=1.0).step(updates)


@pytest.mark.parametrize("method", ["sgd", "momentum", "adam"])
def test_a_resumed_optimizer_continues_bit_for_bit(method: str) -> None:
    settings: dict[str, Any] = {
        "method": method, "learning_rate": 0.1, "schedule": "cosine", "total_steps": 10,
        "rates": {"forward": 0.5}, "weight_decay": 0.1,
    }  # fmt: skip
    whole = fresh(0)
    optimizer = Optimizer(whole, **settings)
    for step in range(4):
        optimizer.step(fresh(step + 1))
    resumed = copies(whole)
    state = optimizer.state_dict()
    state = {"steps": state["steps"], "buffers": copies(state["buffers"])}
    second = Optimizer(resumed, **settings)
    second.load_state_dict(state)
    for step in range(4, 10):
        optimizer.step(fresh(step + 1))
        second.step(fresh(step + 1))
    assert second.learning_rate == optimizer.learning_rate
    for name in NAMES:
        assert torch.equal(resumed[name], whole[name])


def test_the_state_of_another_optimizer_is_refused() -> None:
    adam = Optimizer(fresh(0), method="adam", learning_rate=0.1)
    adam.step(fresh(1))
    with pytest.raises(InputError, match="does not fit method='sgd'"):
        Optimizer(fresh(0), learning_rate=0.1).load_state_dict(adam.state_dict())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "rms"}, "method='rms' is unknown; use one of sgd, momentum, adam"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0 must be a number >= 0"),
        ({"learning_rate": math.nan}, "learning_rate=nan"),
        ({"momentum": 1.0}, r"momentum=1.0 must lie in \[0, 1\)"),
        ({"betas": (0.9, 1.5)}, "betas=1.5"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1"),
        ({"clip_norm": 0.0}, "clip_norm=0.0 must be > 0"),
        ({"rates": {"forwrd": 1.0}}, "'forwrd' is no .* did you mean"),
        ({"rates": {"forward": -1.0}}, "forward=-1.0 must be"),
        ({"schedule": "cosin"}, "schedule='cosin' is unknown; use one of constant, cosine"),
        ({"schedule": "cosine"}, "needs total_steps >= 1, not None"),
        ({"schedule": "step", "total_steps": 5, "factor": 0.0}, "factor=0.0"),
        ({"warmup_steps": -1}, "warmup_steps=-1"),
    ],
)
def test_values_outside_their_range_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Optimizer(fresh(0), **{"learning_rate": 0.1, **settings})


def test_updates_that_do_not_fit_are_named() -> None:
    optimizer = Optimizer(fresh(0), learning_rate=0.1)
    updates = fresh(1)
    updates["extra"] = updates.pop("bias.0")
    with pytest.raises(InputError, match=r"missing: bias\.0; unknown: extra"):
        optimizer.step(updates)
    with pytest.raises(InputError, match=r"shape: bias\.0 \(1,\), not \(4,\)"):
        optimizer.step({**fresh(1), "bias.0": torch.zeros(1)})


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_start_at_one_after_warming_up(name: str) -> None:
    at = learning_rate_schedule(name, 100, warmup_steps=10)
    assert [at(step) for step in range(10)] == [(step + 1) / 11 for step in range(10)]
    assert at(10) == 1.0
    assert all(0 <= at(step) <= 1 for step in range(200))


def test_schedules_have_the_values_of_their_formulas() -> None:
    assert learning_rate_schedule("cosine", 100)(50) == pytest.approx(0.5)
    assert learning_rate_schedule("cosine", 100)(100) == pytest.approx(0.0)
    assert learning_rate_schedule("linear", 100)(25) == 0.75
    steps = learning_rate_schedule("step", 100, milestones=(0.5, 0.8), factor=0.1)
    assert [steps(s) for s in (49, 50, 80, 300)] == pytest.approx([1, 0.1, 0.01, 0.01])
    assert learning_rate_schedule("constant")(10**9) == 1.0


@pytest.mark.parametrize("method", ["sgd", "momentum", "adam"])
def test_joined_optimizers_take_the_steps_of_each(method: str) -> None:
    settings = {"method": method, "weight_decay": 0.1, "clip_norm": 0.9, "rates": {"bias": 0.3}}
    rates = [0.1, 0.02, 0.3]

    def made() -> list[Optimizer]:
        return [
            Optimizer(fresh(k), learning_rate=rate, schedule="linear", total_steps=9, **settings)
            for k, rate in enumerate(rates)
        ]

    apart, some = made(), made()
    for each in (*apart, *some):
        each.step(fresh(7))
    joined = Joined(some)
    assert joined.members == 3
    for step in range(4):
        updates = [fresh(10 * step + k) for k in range(3)]
        stacked = {name: torch.stack([u[name] for u in updates]) for name in NAMES}
        assert joined.learning_rates == [each.learning_rate for each in apart]
        within, lost = joined.clipped_on_device(stacked)
        assert lost is not None
        assert int(lost) == 0
        before = [each.params["bias.0"]._version for each in some]
        joined.step_on_device(within, torch.tensor(joined.learning_rates, dtype=torch.float64))
        joined.counted()
        # who holds a member's parameters sees that they have changed
        assert all(e.params["bias.0"]._version > v for e, v in zip(some, before, strict=True))
        for each, own in zip(apart, updates, strict=True):
            each.step(own)
        if step == 1:  # a member can go a step alone
            for one, other in ((apart[1], some[1]), (apart[0], some[0]), (apart[2], some[2])):
                one.step(fresh(3))
                other.step(fresh(3))
    for one, other in zip(apart, some, strict=True):
        assert one.steps == other.steps
        for name in NAMES:
            torch.testing.assert_close(other.params[name], one.params[name], rtol=1e-12, atol=1e-12)
        kept, wanted = other.state_dict()["buffers"], one.state_dict()["buffers"]
        assert kept.keys() == wanted.keys()
        for name, values in wanted.items():
            torch.testing.assert_close(kept[name], values, rtol=1e-12, atol=1e-12)
    stacked["bias.0"][1, 0] = math.nan
    assert int(joined.clipped_on_device(stacked)[1]) == 1  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError):
        joined.step(stacked)
