"""Whatever is printed is right, or it is marked: policies against arithmetic of 60 digits."""

import math
from fractions import Fraction

import mpmath
import pytest
import torch

from nlhf.algorithms import ALGORITHMS, Problem, get_algorithm
from nlhf.games import GAMES, random_games
from nlhf.oracle import solve_equilibrium, unregularised_equilibrium
from nlhf.outcome import ContextResult, context_results
from nlhf.preferences.base import Preferences
from nlhf.regularised_game import CONVERGED, uniform_reference

TAUS = (1.0, 0.1, 0.01, 1e-3, 1e-4)
METHODS = [name for name in ALGORITHMS if name != "exact"]


def references(n: int, k: int, kind: str, g: torch.Generator) -> torch.Tensor:
    """Uniform, mild, down to 1e-60, of logits with sd 100, or without some actions."""
    draw = torch.randn(n, k, generator=g, dtype=torch.float64)
    down = -60 * math.log(10) * torch.rand(n, k, generator=g, dtype=torch.float64)
    logits = {"uniform": 0 * draw, "mild": draw, "1e-60": down, "sd 100": 100 * draw}.get(kind)
    if logits is None:
        logits = draw.masked_fill(draw.argsort().argsort() < k // 3, -math.inf)
    return torch.log_softmax(logits, -1)


KINDS = ("uniform", "mild", "1e-60", "sd 100", "without some")


def games(n: int, k: int, kind: str, g: torch.Generator) -> torch.Tensor:
    """Independent odds, certain wins, many ties, a transitive order, or hardly any preference."""
    P = random_games(n, k, g)
    if kind in ("certain", "ties"):
        steps = 1 if kind == "certain" else 2
        upper = (P * (steps + 1)).floor().clamp_max(steps).triu(1) / steps
        return upper + (1 - upper.mT).tril(-1) + 0.5 * torch.eye(k, dtype=torch.float64)
    if kind == "transitive":
        r = torch.randn(n, k, generator=g, dtype=torch.float64)
        P = torch.sigmoid(r[:, :, None] - r[:, None])
        return 0.5 * (P + 1 - P.mT)
    return 0.5 + 1e-6 * (P - 0.5) if kind == "weak" else P


GAME_KINDS = ("independent", "certain", "ties", "transitive", "weak")


def certificate_in_60_digits(P, policy, log_mu, tau: float) -> float:
    """KL(pi || BR(pi)) of a printed policy, computed without double precision."""
    played = whole(policy)
    gains = [sum(x * p for x, p in zip(whole(row), played, strict=True)) for row in P]
    with mpmath.workdps(60):
        one, total = mpmath.mpf(2) ** BITS, mpmath.mpf(sum(played))
        top = max(gains)
        odds = [mpmath.exp((g - top) / (one * total * mpmath.mpf(tau))) for g in gains]
        mu = [mpmath.exp(mpmath.mpf(x)) if x > -math.inf else mpmath.mpf(0) for x in log_mu]
        tilted = [m * o for m, o in zip(mu, odds, strict=True)]
        norm = mpmath.fsum(tilted) / total
        parts = [
            p / total * mpmath.log(p * norm / t) if t else mpmath.inf
            for p, t in zip(played, tilted, strict=True)
            if p
        ]
        return float(mpmath.fsum(parts))


BITS = 220


def whole(numbers) -> list[int]:
    """Floats as whole numbers of 2^-220, which is exact from 1e-50 up."""
    return [int(x * 2.0**BITS) for x in numbers]


def outcome(P, log_mu, tau: float, method: str, steps: int) -> list[ContextResult]:
    """What `nash-md` says of these games."""
    n, k = P.shape[:2]
    names = tuple(f"g{i}" for i in range(n)), tuple(f"a{i}" for i in range(k))
    problem = Problem(P, log_mu, torch.full((n,), tau, dtype=torch.float64))
    algorithm = get_algorithm(method)()
    state = algorithm.init(problem)
    for _ in range(steps):
        state = algorithm.step(problem, state)
    star = solve_equilibrium(P, log_mu, tau, throw=False)
    return context_results(Preferences("", *names, P), problem, star, state.log_pi, steps)


def check(P, log_mu, tau: float, found: list[ContextResult]) -> int:
    """Check every printed policy with 60 digits; count the methods whose policies have no mark."""
    unmarked = 0
    for i, each in enumerate(found):
        given = (P[i].tolist(), log_mu[i].tolist(), tau)
        assert each.equilibrium is not None
        exact = certificate_in_60_digits(given[0], each.equilibrium, *given[1:])
        # numbers that a double cannot hold, such as 1e-400, are 0 there
        assert -1e-40 <= exact <= each.equilibrium_certificate + 1e-25 <= 1e-15
        right = certificate_in_60_digits(given[0], each.policy, *given[1:])
        assert each.converged == (each.certificate <= CONVERGED)
        assert right <= each.certificate * (1 + 1e-9) + 1e-25
        assert (each.remedy is None) == each.converged
        if each.remedy:
            assert "--algorithm exact" in each.remedy
        assert each.plain_equilibrium is not None
        assert each.plain_exploitability is not None
        assert 0 <= each.plain_exploitability <= 1e-9
        assert each.bradley_terry_loss is not None
        assert each.bradley_terry_worst is not None
        assert each.bradley_terry_loss >= 0
        unmarked += each.converged
    return unmarked


def sample(number: int, k: int, n: int) -> int:
    """n games of one kind, one tau and one method; they take turns."""
    g = torch.Generator().manual_seed(number)
    tau, turn = TAUS[number % 5], number // 5
    P = games(n, k, GAME_KINDS[(number + turn) % 5], g)
    log_mu = references(n, k, KINDS[turn % 5], g)
    found = outcome(P, log_mu, tau, METHODS[(number + turn // 5) % len(METHODS)], 200)
    return check(P, log_mu, tau, found)


def test_every_policy_of_some_games_is_right_or_marked():
    unmarked = [sample(number, 3 + number % 7, 2) for number in range(0, 75, 3)]
    assert 5 < sum(unmarked) < 45


@pytest.mark.slow
def test_every_policy_of_3000_games_is_right_or_marked():
    unmarked = [sample(number, 3 + (number * 7) % 48, 40) for number in range(75)]
    assert 300 < sum(unmarked) < 2900  # some are, some are not


def test_the_biased_game_at_a_small_tau():
    game = GAMES["biased-rock-paper-scissors"]
    P, log_mu = game.P[None], uniform_reference(game.P)[None]
    (found,) = outcome(P, log_mu, 1e-3, "nash-md", 1000)
    assert not found.converged
    assert found.policy[1] < 1e-3  # the method leaves the best action's counter out
    assert found.equilibrium == pytest.approx((2 / 7, 1 / 7, 4 / 7), abs=3e-3)
    assert found.plain_equilibrium == pytest.approx((2 / 7, 1 / 7, 4 / 7), abs=1e-12)
    (exact,) = outcome(P, log_mu, 1e-3, "exact", 1)
    assert exact.converged
    assert exact.policy == exact.equilibrium


def test_a_remedy_cures():
    game = GAMES["biased-rock-paper-scissors"]
    P, log_mu = game.P[None], uniform_reference(game.P)[None]
    (found,) = outcome(P, log_mu, 1e-3, "self-play", 100)
    assert found.remedy is not None
    assert "or --algorithm mirror-prox --iterations" in found.remedy
    steps = int(found.remedy.partition("--iterations ")[2].split()[0])
    (cured,) = outcome(P, log_mu, 1e-3, "mirror-prox", steps)
    assert cured.converged


def test_a_method_that_diverged_and_a_tau_beyond_precision_are_marked():
    P = GAMES["elo"].P[None]
    log_mu = uniform_reference(P)
    names = ("x",), GAMES["elo"].actions
    problem = Problem(P, log_mu, torch.full((1,), 0.1, dtype=torch.float64))
    star = solve_equilibrium(P, log_mu, 0.1)
    (found,) = context_results(Preferences("", *names, P), problem, star, star * math.nan, 5)
    assert not found.converged
    assert found.equilibrium is not None
    for tau in (1e-20, 1e-310):
        (found,) = outcome(P, log_mu, tau, "exact", 1)
        assert not found.converged
        assert found.equilibrium is None
        assert found.kl_to_equilibrium is None
        assert found.remedy == "no method reaches it in double precision; use a larger tau"


def test_bradley_terry_is_held_to_each_games_own_policy():
    # two actions: sigmoid(r_1 - r_2) = 0.9 exactly, and all is known in closed form
    P = torch.tensor([[[0.5, 0.9], [0.1, 0.5]]], dtype=torch.float64)
    tau, log_mu = 0.5, uniform_reference(P)
    (found,) = outcome(P, log_mu, tau, "exact", 1)
    with mpmath.workdps(30):
        p = mpmath.findroot(lambda p: mpmath.log(p / (1 - p)) - mpmath.mpf("0.4") / tau, 0.6)
        q = 1 / (1 + mpmath.mpf(1) / 9 ** (1 / mpmath.mpf(tau)))  # mu exp(r / tau): odds 9^(1/tau)
        own, other = (x * mpmath.log(2 * x) + (1 - x) * mpmath.log(2 * (1 - x)) for x in (p, q))
        loss = mpmath.mpf("0.4") * (p - q) - tau * own + tau * other
    assert found.equilibrium == pytest.approx((float(p), float(1 - p)), abs=1e-12)
    assert found.bradley_terry_loss == pytest.approx(float(loss), rel=1e-4)  # the fit has a ridge
    # in the plain game its winner is the best action, and loses nothing
    assert found.plain_equilibrium == (1.0, 0.0)
    assert found.bradley_terry_worst == 0


def test_an_action_outside_the_reference_wins_nothing():
    P = torch.tensor([[[0.5, 0.9, 0.9], [0.1, 0.5, 0.8], [0.1, 0.2, 0.5]]], dtype=torch.float64)
    log_mu = torch.tensor([[0.0, 0.5, 0.5]], dtype=torch.float64).log()
    (found,) = outcome(P, log_mu, 0.1, "exact", 1)
    assert found.bradley_terry_winner == "a1"
    assert found.bradley_terry_worst == 0
    assert found.plain_equilibrium == (0.0, 1.0, 0.0)
    assert found.equilibrium is not None
    assert found.equilibrium[0] == 0


def test_a_tie_has_no_winner_and_loses_what_its_mixture_loses():
    for name in ("rock-paper-scissors", "condorcet-cycle", "intransitive-dice"):
        game = GAMES[name]
        (found,) = outcome(game.P[None], uniform_reference(game.P)[None], 0.1, "exact", 1)
        assert found.bradley_terry_winner is None
        assert len(found.bradley_terry_tied) == len(game.actions)
        assert found.bradley_terry_worst == pytest.approx(0, abs=1e-12)
        assert found.bradley_terry_loss == pytest.approx(0, abs=1e-12)


def test_comparisons_that_do_not_connect_all_actions_have_no_fit():
    P = torch.full((2, 4, 4), 0.5, dtype=torch.float64)
    P[:, 0, 1], P[:, 1, 0], P[:, 2, 3], P[:, 3, 2] = 0.9, 0.1, 0.8, 0.2
    counts = torch.zeros(2, 4, 4, dtype=torch.float64)
    counts[:, 0, 1] = counts[:, 1, 0] = counts[:, 2, 3] = counts[:, 3, 2] = 10
    counts[1, 1, 2] = counts[1, 2, 1] = 10  # this joins them in the second context
    log_mu, tau = uniform_reference(P), torch.full((2,), 0.1, dtype=torch.float64)
    star = solve_equilibrium(P, log_mu, 0.1)
    source = Preferences("", ("x", "y"), tuple("abcd"), P, counts)
    apart, joined = context_results(source, Problem(P, log_mu, tau), star, star, 1)
    assert apart.bradley_terry_winner is None
    assert apart.bradley_terry_tied == ()
    assert apart.bradley_terry_loss is apart.bradley_terry_worst is None
    assert joined.bradley_terry_winner == "a"
    assert joined.bradley_terry_worst == 0


@pytest.mark.parametrize("kind", GAME_KINDS)
def test_no_action_beats_the_plain_equilibrium_in_exact_arithmetic(kind):
    P = games(2, 12, kind, torch.Generator().manual_seed(1))
    ours = unregularised_equilibrium(P).exp()
    for game, policy in zip(P.tolist(), ours.tolist(), strict=True):
        played = [Fraction(p) for p in policy]
        for row in game:
            won = sum(p * (Fraction(x) - Fraction(1, 2)) for x, p in zip(row, played, strict=True))
            assert won / sum(played) <= 1e-14
