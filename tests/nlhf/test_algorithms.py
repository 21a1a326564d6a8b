"""Every algorithm: its fixed point, its rate, and the paper's theorem."""

import numpy as np
import pytest
import torch

from nlhf.algorithms import (
    ALGORITHMS,
    RLHF,
    BestResponse,
    Extragradient,
    FictitiousPlay,
    Magnetic,
    MirrorProx,
    NashEMA,
    NashMD,
    Optimistic,
    Problem,
    SelfPlay,
    State,
    Votes,
    get_algorithm,
)
from nlhf.algorithms.base import theorem_rate
from nlhf.algorithms.inpo import INPO
from nlhf.errors import InputError
from nlhf.games import GAMES, random_games, random_policies
from nlhf.mixture import geometric_mixture
from nlhf.oracle import solve_equilibrium
from nlhf.preferences.bradley_terry import fit_bradley_terry
from nlhf.regularised_game import kl, uniform_reference

TAU = 0.1


def batch(n=50, k=10, seed=0, tau=TAU):
    g = torch.Generator().manual_seed(seed)
    P, mu = random_games(n, k, g), random_policies(n, k, g)
    problem = Problem(P, mu, torch.full((n,), tau, dtype=torch.float64))
    return problem, solve_equilibrium(P, mu, tau)


def run(algorithm, problem, steps):
    state = algorithm.init(problem)
    for _ in range(steps):
        state = algorithm.step(problem, state)
    return state


STATIONARY = [
    SelfPlay(0.5),
    INPO(),
    NashEMA(0.5),
    Extragradient(),
    Magnetic(),
    MirrorProx(),
    Optimistic(),
    FictitiousPlay(),
]


@pytest.mark.parametrize("algorithm", STATIONARY, ids=lambda a: a.name)
def test_the_equilibrium_is_a_fixed_point(algorithm):
    problem, star = batch()
    state = algorithm.step(problem, State(star, step=5))
    torch.testing.assert_close(state.log_pi, star, atol=1e-10, rtol=0)


@pytest.mark.slow
def test_constant_step_nash_md_rests_elsewhere():
    problem, star = batch()
    state = run(NashMD(0.5), problem, 3000)
    again = NashMD(0.5).step(problem, state)
    torch.testing.assert_close(again.log_pi, state.log_pi, atol=1e-10, rtol=0)  # it rests
    assert float(kl(star, state.log_pi).median()) > 1e-6  # but not at the equilibrium
    nearer = run(NashMD(0.05), problem, 30000)
    assert kl(star, nearer.log_pi).median() < 0.05 * kl(star, state.log_pi).median()


def test_theorem_one_holds_at_every_step():
    problem, star = batch(n=200)
    state, algorithm = NashMD().init(problem), NashMD()
    before = kl(star, state.log_pi)
    for t in range(1000):
        eta = theorem_rate(problem.tau, t)
        state = algorithm.step(problem, state)
        after = kl(star, state.log_pi)
        assert (after <= (1 - eta * problem.tau) * before + 2 * eta**2 + 1e-15).all()
        assert (after <= 8 / (problem.tau**2 * (t + 2))).all()
        before = after


def test_the_hand_worked_step():
    P = GAMES["intransitive-dice"].P
    pi = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64).log()
    mu, tau = uniform_reference(P), torch.tensor(0.1, dtype=torch.float64)
    mixture = geometric_mixture(pi, mu, 5 * 0.1).exp()
    state = NashMD(5.0).step(Problem(P, mu, tau), State(pi))
    expected = torch.tensor([0.473, 0.334, 0.193], dtype=torch.float64)
    torch.testing.assert_close(mixture, expected, atol=5e-4, rtol=0)
    expected = torch.tensor([0.491, 0.309, 0.200], dtype=torch.float64)
    torch.testing.assert_close(state.log_pi.exp(), expected, atol=5e-4, rtol=0)


@pytest.mark.parametrize(
    ("algorithm", "steps"),
    [
        (Extragradient(), 40),
        (MirrorProx(), 40),
        (Magnetic(), 80),
        (Optimistic(), 200),
        (INPO(), 200),
    ],
    ids=lambda a: getattr(a, "name", a),
)
def test_linear_rates(algorithm, steps):
    problem, star = batch()
    state, course = algorithm.init(problem), []
    for _ in range(steps):
        state = algorithm.step(problem, state)
        course.append(float(kl(star, state.log_pi).median().log()))
    half = steps // 2
    first, second = course[half // 2] - course[half], course[half] - course[-1 - half // 2]
    assert first > 1.0  # nats gained in a quarter of the run
    assert second == pytest.approx(first, rel=0.25)  # and as many in the next: a straight line


@pytest.mark.parametrize(
    ("algorithm", "order"),
    [(NashMD(), 2.0), (SelfPlay(), 4.0), (FictitiousPlay(), 2.0)],
    ids=lambda a: getattr(a, "name", a),
)
def test_sublinear_rates(algorithm, order):
    # slope of log KL in log T; Nash-MD's theorem promises 1 and practice gives 2
    problem, star = batch()
    state, points = algorithm.init(problem), {}
    for t in range(1, 3001):
        state = algorithm.step(problem, state)
        if t in (100, 300, 1000, 3000):
            points[t] = float(kl(star, state.log_pi).median())
    slopes = -np.diff(np.log(list(points.values()))) / np.diff(np.log(list(points)))
    assert np.all(np.abs(slopes - order) < 0.3 * order), slopes


def test_baselines_are_what_they_say():
    problem, star = batch()
    response = BestResponse().step(problem, BestResponse().init(problem)).log_pi
    gain = (problem.P @ problem.log_mu.exp()[..., None])[..., 0]
    expected = torch.log_softmax(problem.log_mu + gain / TAU, -1)
    torch.testing.assert_close(response, expected)
    assert kl(star, response).median() > 1e-3
    assert kl(star, run(RLHF(), problem, 1).log_pi).median() > 1e-3


def test_bradley_terry_recovers_elo_and_its_policy_is_the_rlhf_one():
    game = GAMES["elo"]
    rewards = fit_bradley_terry(game.P)
    expected = torch.tensor([300.0, 200.0, 100.0, 0.0], dtype=torch.float64)
    expected = (expected - 150) * np.log(10) / 400
    torch.testing.assert_close(rewards, expected, atol=1e-4, rtol=0)
    cycle = fit_bradley_terry(GAMES["rock-paper-scissors"].P)
    torch.testing.assert_close(cycle, torch.zeros(3, dtype=torch.float64))


def test_votes_are_reproducible_unbiased_and_lead_near_the_equilibrium():
    problem, star = batch(n=20, k=5, tau=1.0)

    def noisy(seed, count):
        votes = Votes(count, (torch.Generator().manual_seed(seed),))
        return Problem(problem.P, problem.log_mu, problem.tau, votes)

    first, again = run(NashMD(), noisy(0, 4), 50), run(NashMD(), noisy(0, 4), 50)
    assert torch.equal(first.log_pi, again.log_pi)
    assert not torch.equal(first.log_pi, run(NashMD(), noisy(1, 4), 50).log_pi)
    feedback = noisy(2, 100_000).feedback(problem.log_mu)
    torch.testing.assert_close(feedback, problem.feedback(problem.log_mu), atol=8e-3, rtol=0)
    distances = [float(kl(star, run(NashMD(), noisy(3, 4), t).log_pi).mean()) for t in (10, 1000)]
    assert distances[1] < 0.1 * distances[0]


def test_float32_runs_on_every_algorithm():
    problem, star = batch(n=4, k=6, tau=0.5)
    small = Problem(problem.P.float(), problem.log_mu.float(), problem.tau.float())
    for kind in ALGORITHMS.values():
        state = run(kind(), small, 20)
        assert state.log_pi.dtype == torch.float32
        torch.testing.assert_close(state.log_pi.exp().sum(-1), torch.ones(4), atol=1e-5, rtol=0)
        if kind.solves == "regularised":
            assert float(kl(star.float(), state.log_pi).max()) < 0.05


def test_bad_settings():
    problem, _ = batch(n=1)
    with pytest.raises(InputError, match="'ppo' is unknown; use one of nash-md"):
        get_algorithm("ppo")
    with pytest.raises(InputError, match=r"eta=-1\.0 must be positive"):
        run(SelfPlay(-1.0), problem, 1)
    with pytest.raises(InputError, match=r"eta=11 with tau=0\.1: self-play mixes"):
        run(SelfPlay(11.0), problem, 1)
    with pytest.raises(InputError, match=r"mixture weight 1\.5 must lie between 0 and 1"):
        run(NashMD(0.1, mixture=1.5), problem, 1)
    with pytest.raises(InputError, match="rate=0"):
        NashEMA(rate=0)
    with pytest.raises(InputError, match="votes=0"):
        Votes(0, (torch.Generator(),))
