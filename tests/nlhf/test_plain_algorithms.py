"""The methods that solve the game without regularisation, and Stackelberg's: last iterates."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from nlhf.algorithms import ALGORITHMS, Magnetic, Problem
from nlhf.algorithms.comal import COMAL
from nlhf.algorithms.dno import DNO
from nlhf.algorithms.mnpo import MNPO
from nlhf.algorithms.onpo import ONPO
from nlhf.algorithms.sppo import SPPO
from nlhf.algorithms.stackelberg import Stackelberg, stackelberg_equilibrium
from nlhf.errors import InputError
from nlhf.games import GAMES, random_games, random_policies
from nlhf.regularised_game import kl, nash_conv

CYCLES = ("biased-rock-paper-scissors", "three-raters")


def problem(name, seed=0, n=20):
    """A known game from random references, all in one batch."""
    P = GAMES[name].P
    log_mu = random_policies(n, len(P), torch.Generator().manual_seed(seed))
    return Problem(P.expand(n, *P.shape), log_mu, torch.full((n,), 0.1, dtype=torch.float64))


def course(algorithm, game, steps):
    """The policies after each step, [T, n, K]."""
    state, found = algorithm.init(game), []
    for _ in range(steps):
        state = algorithm.step(game, state)
        found.append(state.log_pi)
    return torch.stack(found)


@pytest.mark.parametrize("name", CYCLES)
@pytest.mark.parametrize(
    ("algorithm", "steps"),
    [(ONPO(0.7), 1200), (COMAL(reference_every=60), 1800), (Magnetic(magnet_every=60), 1800)],
    ids=lambda a: getattr(a, "name", a),
)
def test_last_iterates_reach_the_plain_equilibrium_linearly(algorithm, steps, name):
    game = problem(name)
    star = GAMES[name].equilibrium.log()
    distance = kl(star, course(algorithm, game, steps)).median(-1).values.log()
    ends = [float(distance[i * steps // 4 - 1]) for i in (1, 2, 3, 4)]
    gained = -np.diff(ends)
    assert (gained > 1.0).all(), gained  # nats a quarter of the run
    assert gained[2] == pytest.approx(gained[1], rel=0.35)  # a straight line


@pytest.mark.parametrize("algorithm", [SPPO(0.3), MNPO(0.3)], ids=lambda a: a.name)
def test_multiplicative_weights_spiral_outward_and_their_mean_does_not(algorithm):
    game = problem("rock-paper-scissors")
    policies = course(algorithm, game, 2000)
    star = GAMES["rock-paper-scissors"].equilibrium.log()
    distance = kl(star, policies)
    assert (distance[-1] > distance[0]).all()  # the last iterate leaves
    means = policies.exp().cumsum(0) / torch.arange(1, 2001)[:, None, None]
    gaps = nash_conv(game.P, (means / means.sum(-1, keepdim=True)).log())
    assert gaps[1999].mean() < 0.35 * gaps[99].mean()
    assert gaps[1999].max() < 0.05


@pytest.mark.parametrize(
    ("algorithm", "share"),
    # three players: d' = (d + d'') / 2 + margin grows by 2/3 of it
    [(SPPO(), 1.0), (DNO(), 1.0), (ONPO(), 1.0), (MNPO(), 2 / 3)],
    ids=lambda a: getattr(a, "name", a),
)
def test_where_one_action_wins_the_last_iterate_goes_there_linearly(algorithm, share):
    policies = course(algorithm, problem("elo"), 400)
    rest = policies[..., 1:].logsumexp(-1).median(-1).values
    # e^(eta (P(1 > 1) - P(2 > 1))) a step in the end
    margin = float(0.5 - GAMES["elo"].P[1, 0]) * algorithm.eta * share
    assert float(rest[299] - rest[399]) == pytest.approx(100 * margin, rel=0.01)


def test_two_players_are_sppo_and_dno_takes_its_step():
    game = problem("biased-rock-paper-scissors")
    expected = course(SPPO(0.7), game, 9)
    torch.testing.assert_close(course(MNPO(0.7, players=2), game, 9), expected)
    torch.testing.assert_close(course(DNO(0.7), game, 9), expected)


def test_three_players_by_hand():
    P = GAMES["biased-rock-paper-scissors"].P
    mu = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    game = Problem(P, mu.log(), torch.tensor(0.1, dtype=torch.float64))
    first, second, third = course(MNPO(0.4), game, 3).exp()

    def after(*past):
        gains = sum(P @ each for each in past) / len(past)
        base = torch.stack(past).log().mean(0).exp()
        weights = base * torch.exp(0.4 * gains)
        return weights / weights.sum()

    torch.testing.assert_close(first, after(mu))
    torch.testing.assert_close(second, after(first, mu))
    torch.testing.assert_close(third, after(second, first))


def test_onpo_by_hand():
    P = GAMES["biased-rock-paper-scissors"].P
    mu = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    game = Problem(P, mu.log(), torch.tensor(0.1, dtype=torch.float64))
    first, second = course(ONPO(0.4), game, 2)
    # both terms are of the same base, so that two steps are 2 r_t - r_{t-1}
    expected = first + 0.4 * (2 * P @ first.exp() - P @ mu)
    torch.testing.assert_close(second, torch.log_softmax(expected, -1))


def test_a_reference_that_never_moves_is_inpo_and_magnetic():
    game = problem("biased-rock-paper-scissors")
    for moving, fixed in (
        (COMAL(0.5, reference_every=100), ALGORITHMS["inpo"](0.5)),
        (Magnetic(0.5, magnet_every=100), Magnetic(0.5)),
    ):
        torch.testing.assert_close(course(moving, game, 99), course(fixed, game, 99))
        assert (course(moving, game, 110)[-1] - course(fixed, game, 110)[-1]).abs().max() > 1e-3


def test_stackelberg_s_closed_form_is_the_minimum_over_followers():
    g = torch.Generator().manual_seed(3)
    P, log_mu = random_games(1, 4, g)[0], random_policies(1, 4, g)[0]
    tau, mu = 0.3, log_mu.exp().numpy()

    def worst(row):
        def value(logits):
            w = np.exp(logits - logits.max())
            w /= w.sum()
            return float(w @ row + tau * (w * np.log(w / mu)).sum())

        return minimize(value, np.zeros(4), tol=1e-12).fun

    v = torch.tensor([worst(row.numpy()) for row in P])
    found = stackelberg_equilibrium(P, log_mu, torch.tensor(tau, dtype=torch.float64))
    torch.testing.assert_close(found, torch.log_softmax(log_mu + v / tau, -1), atol=1e-6, rtol=0)


def test_stackelberg_s_last_iterate_converges_linearly_to_another_solution():
    g = torch.Generator().manual_seed(0)
    P, log_mu = random_games(30, 8, g), random_policies(30, 8, g)
    game = Problem(P, log_mu, torch.full((30,), 0.1, dtype=torch.float64))
    star = stackelberg_equilibrium(P, log_mu, game.tau)
    distance = kl(star, course(Stackelberg(), game, 60)).median(-1).values.log()
    first, second = float(distance[14] - distance[29]), float(distance[29] - distance[44])
    assert first > 3
    assert second == pytest.approx(first, rel=0.25)
    nash = ALGORITHMS["exact"]().step(game, ALGORITHMS["exact"]().init(game)).log_pi
    assert kl(star, nash).median() > 1e-3


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: COMAL(reference_every=0), "reference_every=0 must be at least 1 step"),
        (lambda: Magnetic(magnet_every=-1), "magnet_every=-1"),
        (lambda: MNPO(players=1), "players=1 must be at least 2"),
    ],
)
def test_settings_out_of_range_are_named(make, told):
    with pytest.raises(InputError, match=told):
        make()
