"""The regularised game against brute force and the cancellation it avoids."""

import inspect
import math

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nlhf.errors import InputError
from nlhf.games import random_games, random_policies
from nlhf.regularised_game import (
    best_response,
    certificate,
    check_game,
    duality_gap,
    entropy,
    exploitability,
    expm1_minus,
    kl,
    nash_conv,
    payoff,
    uniform_reference,
    value,
)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_payoff_is_antisymmetric_about_one_half():
    g = rng()
    P, mu = random_games(5, 4, g), random_policies(5, 4, g)
    a, b = random_policies(5, 4, g), random_policies(5, 4, g)
    total = payoff(P, a, b, mu, 0.3) + payoff(P, b, a, mu, 0.3)
    torch.testing.assert_close(total, torch.ones(5, dtype=torch.float64))


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 10**6), tau=st.floats(0.01, 3), k=st.integers(2, 6))
def test_no_policy_does_better_than_the_best_response(seed, tau, k):
    g = rng(seed)
    P, mu, pi = random_games(1, k, g)[0], random_policies(1, k, g)[0], random_policies(1, k, g)[0]
    response = best_response(P, pi, mu, tau)
    best = payoff(P, response, pi, mu, tau)
    others = random_policies(200, k, g)
    assert (payoff(P, others, pi, mu, tau) <= best + 1e-12).all()
    f = exploitability(P, pi, mu, tau)
    assert f == pytest.approx(float(best) - 0.5, abs=1e-12)
    assert duality_gap(P, pi, mu, tau) == 2 * f
    assert certificate(P, pi, mu, tau) == pytest.approx(float(f) / tau)


def test_small_divergences_are_exact():
    for d in (1e-3, 1e-8, 1e-13, 0.29, 0.31, -0.2, 3.0):
        expected = mpmath.expm1(mpmath.mpf(d)) - mpmath.mpf(d)
        with mpmath.workdps(60):
            expected = mpmath.expm1(mpmath.mpf(d)) - mpmath.mpf(d)
        found = float(expm1_minus(torch.tensor(d, dtype=torch.float64)))
        assert found == pytest.approx(float(expected), rel=1e-13)
    # a policy 1e-12 away from another: the plain sum p log(p / q) is rounding, this is not
    p = torch.tensor([0.5, 0.5], dtype=torch.float64)
    q = torch.tensor([0.5 + 1e-12, 0.5 - 1e-12], dtype=torch.float64)
    assert float(kl(p.log(), q.log())) == pytest.approx(2e-24, rel=1e-3)


def test_zero_probabilities():
    inf = math.inf
    half = torch.tensor([math.log(0.5), math.log(0.5), -inf], dtype=torch.float64)
    one = torch.tensor([0.0, -inf, -inf], dtype=torch.float64)
    assert float(kl(one, half)) == pytest.approx(math.log(2))
    assert float(kl(half, one)) == inf
    assert float(entropy(half)) == pytest.approx(math.log(2))
    P = random_games(1, 3, rng())[0]
    response = best_response(P, half, half, 0.1)
    assert response[2] == -inf
    assert torch.isfinite(exploitability(P, half, half, 0.1))
    uniform = uniform_reference(P)
    assert exploitability(P, uniform, half, 0.1) == inf  # mass where the reference has none


def test_unregularised_measures_by_hand():
    P = torch.tensor([[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]], dtype=torch.float64)
    uniform = uniform_reference(P)
    rock = torch.tensor([0.0, -math.inf, -math.inf], dtype=torch.float64)
    assert float(nash_conv(P, uniform)) == pytest.approx(0, abs=1e-15)
    assert float(nash_conv(P, rock)) == pytest.approx(1)
    assert float(value(P, rock, uniform)) == pytest.approx(0.5)


def arguments(function, **change):
    """Valid arguments of a function of games and policies, except for the change."""
    P = random_games(2, 3, rng())
    given = {"P": P, "tau": 0.1}
    names = ("log_pi", "log_other", "log_mu", "log_p", "log_q")
    given |= {name: random_policies(2, 3, rng(i)) for i, name in enumerate(names)} | change
    return {name: given[name] for name in inspect.signature(function).parameters}


PUBLIC = [
    best_response,
    certificate,
    duality_gap,
    entropy,
    exploitability,
    kl,
    nash_conv,
    payoff,
    value,
]
WRONG = [
    (torch.full((3,), 1 / 3, dtype=torch.float64), r"at most 0; .*give p\.log\(\)"),
    (torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64), "has the entry 1,"),
    (torch.tensor([0.5, 0.3, 0.1], dtype=torch.float64).log(), r"row 0 sum to 0\.9, not 1"),
    (torch.tensor([0.5, 0.3, 0.3], dtype=torch.float64).log(), r"row 0 sum to 1\.1, not 1"),
    (torch.tensor([0.5, 0.5, 2e-4], dtype=torch.float64).log(), r"sum to 1\.0002, not 1"),
    (torch.tensor([0.0, -math.inf, math.nan], dtype=torch.float64), "holds NaN"),
    (torch.zeros(3, dtype=torch.long), "dtype int64; .* float32 or float64"),
    (torch.zeros(3, dtype=torch.bfloat16), "dtype bfloat16"),
    ([0.0, -math.inf, -math.inf], "of type list"),
    (torch.tensor(0.0, dtype=torch.float64), "one entry an action"),
]


@pytest.mark.parametrize("function", PUBLIC, ids=lambda f: f.__name__)
def test_what_is_no_policy_is_refused_by_name(function):
    right = arguments(function)
    assert torch.isfinite(function(**right)).all()
    for name in [name for name in right if name.startswith("log_")]:
        for wrong, message in WRONG:
            with pytest.raises(InputError, match=f"^{name} .*{message}"):
                function(**(right | {name: wrong}))
        if len(right) > 1:
            with pytest.raises(InputError, match="dtype"):
                function(**(right | {name: right[name].float()}))
            with pytest.raises(InputError, match=r"do not broadcast: .*\[5\]"):
                function(**(right | {name: right[name][:1].expand(5, 3)}))
        if "P" in right:
            with pytest.raises(InputError, match=f"{name} has 4 actions and P 3"):
                function(**(right | {name: random_policies(2, 4, rng())}))


@pytest.mark.parametrize("function", PUBLIC, ids=lambda f: f.__name__)
def test_what_is_no_game_is_refused_everywhere(function):
    right = arguments(function)
    if "P" in right:
        with pytest.raises(InputError, match="differs from 1 by up to 1e-06"):
            function(**(right | {"P": (right["P"] * (1 - 1e-5)) + 0.45e-5}))
    if "tau" in right:
        for tau in (0.0, -1.0, math.nan, math.inf, "a", torch.tensor([0.1, 0.0])):
            with pytest.raises(InputError, match="tau="):
                function(**(right | {"tau": tau}))


def test_a_probability_too_small_for_a_double_gives_no_infinite_distance():
    # exp(d) is infinite here, and p exp(d) = q is not
    q = torch.tensor([math.log(0.5)] * 2, dtype=torch.float64)
    for tiny in (-740.0, -1e4):
        p = torch.tensor([tiny, 0.0], dtype=torch.float64)
        assert float(kl(p, q)) == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"P": torch.rand(2, 3)}, "must be square"),
        ({"P": torch.tensor([[0.5]])}, "two or more"),
        ({"P": torch.tensor([[0.5, 1.2], [-0.2, 0.5]])}, "between 0 and 1"),
        ({"P": torch.tensor([[0.5, 0.7], [0.4, 0.5]])}, "differs from 1"),
        ({"P": torch.tensor([[0.5, math.nan], [0.4, 0.5]])}, "NaN"),
        ({"tau": 0.0}, "tau=0.0 must be positive"),
        ({"tau": -1.0}, "tau=-1.0"),
        ({"log_mu": torch.tensor([0.6, 0.6]).log()}, "no distribution"),
        ({"log_mu": torch.zeros(3)}, "3 actions"),
    ],
)
def test_what_is_no_game_is_refused(change, message):
    game = {
        "P": torch.tensor([[0.5, 0.7], [0.3, 0.5]]),
        "log_mu": torch.tensor([0.5, 0.5]).log(),
        "tau": 0.1,
    }
    check_game(**game)
    with pytest.raises(InputError, match=message):
        check_game(**(game | change))
