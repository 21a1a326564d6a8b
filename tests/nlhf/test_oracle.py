"""The oracle: exact everywhere, and in agreement with linear programming and OpenSpiel."""

import math

import numpy as np
import pyspiel
import pytest
import torch
from open_spiel.python.algorithms import mmd_dilated

from nlhf import solve_equilibrium, unregularised_equilibrium
from nlhf.errors import InputError
from nlhf.games import GAMES, random_games, random_policies, three_raters
from nlhf.oracle import PRECISION
from nlhf.regularised_game import (
    certificate,
    certificate_with_rounding,
    exploitability,
    kl,
    nash_conv,
    uniform_reference,
)

SIZES = [(3, 1000), (10, 1000), (50, 1000), pytest.param(400, 20, marks=pytest.mark.slow)]


@pytest.mark.parametrize(("k", "n"), SIZES)
@pytest.mark.parametrize("tau", [1.0, 0.1, 0.01, 0.001])
def test_every_random_game_is_solved(k, n, tau):
    g = torch.Generator().manual_seed(k)
    P, mu = random_games(n, k, g), random_policies(n, k, g)
    found = solve_equilibrium(P, mu, tau)
    assert float(exploitability(P, found, mu, tau).max()) <= PRECISION
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(n, dtype=torch.float64))


@pytest.mark.parametrize("tau", [10.0, 1.0, 1e-3, 1e-5])
def test_references_of_any_range_are_solved(tau):
    g = torch.Generator().manual_seed(1)
    for k in (2, 3, 20):
        P = random_games(20, k, g)
        for spread in (100, 1000):
            logits = spread * torch.randn(20, k, generator=g, dtype=torch.float64)
            mu = torch.log_softmax(logits, -1)
            found = solve_equilibrium(P, mu, tau)
            assert float(certificate(P, found, mu, tau).max()) <= 1e-15


def test_a_game_of_float32_is_solved_as_float64():
    P = random_games(5, 6, torch.Generator().manual_seed(7)).float()
    P = torch.where(torch.eye(6, dtype=torch.bool), 0.5, P)
    exact = P.double()
    exact = 0.5 * (exact + 1 - exact.mT)
    for tau in (1.0, 1e-4):
        found = solve_equilibrium(P, uniform_reference(P), tau)
        assert float(certificate(exact, found, uniform_reference(exact), tau).max()) <= 1e-12


def test_what_is_beyond_double_precision_is_not_called_solved():
    P = GAMES["biased-rock-paper-scissors"].P
    mu = uniform_reference(P)
    with pytest.raises(RuntimeError, match="was not solved"):
        solve_equilibrium(P, mu, 1e-300, max_iterations=50)
    found = solve_equilibrium(P, mu, 1e-17, max_iterations=50, throw=False)
    assert not float(certificate_with_rounding(P, found, mu, 1e-17)) <= 1e-3


def test_taus_and_references_broadcast():
    g = torch.Generator().manual_seed(1)
    P, mu = random_games(4, 5, g), random_policies(3, 5, g)[:, None]
    tau = torch.tensor([1.0, 0.1], dtype=torch.float64)[:, None, None]
    found = solve_equilibrium(P, mu, tau)
    assert found.shape == (2, 3, 4, 5)
    alone = solve_equilibrium(P[2], mu[1, 0], 0.1)
    torch.testing.assert_close(found[1, 1, 2], alone, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", GAMES)
def test_known_games_as_tau_goes_to_zero(name):
    game = GAMES[name]
    assert game.equilibrium is not None
    by_program = unregularised_equilibrium(game.P).exp()
    torch.testing.assert_close(by_program, game.equilibrium, atol=1e-9, rtol=0)
    found = solve_equilibrium(game.P, uniform_reference(game.P), 1e-4).exp()
    torch.testing.assert_close(found, game.equilibrium, atol=2e-3, rtol=0)


def test_symmetric_games_have_the_uniform_equilibrium_at_every_tau():
    for name in ("rock-paper-scissors", "intransitive-dice", "condorcet-cycle"):
        P = GAMES[name].P
        for tau in (1.0, 0.01):
            found = solve_equilibrium(P, uniform_reference(P), tau).exp()
            torch.testing.assert_close(found, GAMES[name].equilibrium, atol=1e-9, rtol=0)


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.3])
def test_the_papers_three_raters(epsilon):
    expected = torch.tensor(
        [1 / 3 + epsilon / 2, 1 / 3 + epsilon / 2, 1 / 3 - epsilon], dtype=torch.float64
    )
    found = unregularised_equilibrium(three_raters(epsilon).P).exp()
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)


def test_linear_programming_is_the_limit():
    P = random_games(30, 6, torch.Generator().manual_seed(2))
    exact = unregularised_equilibrium(P)
    assert float(nash_conv(P, exact).max()) < 1e-9
    mu, gaps = uniform_reference(P), []
    for tau in (0.1, 0.01, 0.001):
        found = solve_equilibrium(P, mu, tau)
        # no action gains more than tau times the log of its reference
        assert float(nash_conv(P, found).max()) <= 2 * tau * math.log(6)
        gaps.append(float((found.exp() - exact.exp()).abs().max(-1).values.median()))
    assert gaps[2] < gaps[1] < gaps[0]
    assert gaps[2] < 1e-2


def test_open_spiels_magnetic_mirror_descent_agrees():
    P = random_games(1, 4, torch.Generator().manual_seed(3))[0]
    tau = 0.5
    # a symmetric zero-sum matrix game of payoffs P - 1/2, regularised by tau times the entropy
    payoffs = (P - 0.5).numpy()
    game = pyspiel.convert_to_turn_based(pyspiel.create_matrix_game(payoffs, -payoffs))
    mmd = mmd_dilated.MMDDilatedEnt(game, tau)
    for _ in range(2000):  # its gap is the square of the distance: run it on below 1e-13
        mmd.update_sequences()
    assert mmd.get_gap() < 1e-13
    theirs = np.array(mmd.get_policies().action_probability_array[0])
    ours = solve_equilibrium(P, uniform_reference(P), tau).exp().numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_actions_outside_the_reference_are_left_out():
    g = torch.Generator().manual_seed(4)
    P, mu = random_games(6, 5, g), random_policies(6, 4, g)
    padded = torch.cat((mu[:, :2], torch.full((6, 1), -math.inf), mu[:, 2:]), 1)
    keep = [0, 1, 3, 4]
    found = solve_equilibrium(P, padded, 0.05)
    assert (found[:, 2] == -math.inf).all()
    small = solve_equilibrium(P[:, keep][:, :, keep], mu, 0.05)
    torch.testing.assert_close(found[:, keep], small, atol=1e-11, rtol=0)
    assert float(exploitability(P, found, padded, 0.05).max()) <= PRECISION


def test_the_certificate_bounds_the_distance():
    g = torch.Generator().manual_seed(5)
    P, mu, pi = random_games(500, 6, g), random_policies(500, 6, g), random_policies(500, 6, g)
    for tau in (1.0, 0.1, 0.01):
        star = solve_equilibrium(P, mu, tau)
        assert (kl(pi, star) <= exploitability(P, pi, mu, tau) / tau * (1 + 1e-9)).all()


def test_weak_preferences_are_no_ties_to_the_programme():
    for k in (3, 50):
        P = random_games(3, k, torch.Generator().manual_seed(k))
        weak = 0.5 + 1e-9 * (P - 0.5)
        weak = 0.5 * (weak + 1 - weak.mT)
        assert float(nash_conv(weak, unregularised_equilibrium(weak)).max()) <= 1e-15


def test_bad_input():
    P = random_games(1, 3, torch.Generator().manual_seed(0))[0]
    with pytest.raises(InputError, match="tau"):
        solve_equilibrium(P, uniform_reference(P), -0.1)
    with pytest.raises(RuntimeError, match="game 0 of 1 was not solved"):
        solve_equilibrium(P, uniform_reference(P), 0.01, max_iterations=1)
