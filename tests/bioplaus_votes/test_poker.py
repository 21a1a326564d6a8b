"""Kuhn poker against OpenSpiel, and the direction from bits against enumeration."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pyspiel
import pytest
import torch
from open_spiel.python import policy as spiel_policy
from open_spiel.python.algorithms import exploitability as spiel

from bioplaus import LeakyField, fit
from bioplaus.errors import InputError
from bioplaus_votes.poker import (
    INFORMATION,
    RARE_ACTION,
    Hands,
    KuhnSelfPlay,
    exploitability,
    inputs,
    play,
    winnings,
)
from tests import voting_zoo as zoo


def of_spiel(bet: torch.Tensor) -> float:
    """OpenSpiel's exploitability of a policy."""
    game = pyspiel.load_game("kuhn_poker")
    policy = spiel_policy.TabularPolicy(game)
    for name, row in policy.state_lookup.items():
        p = float(bet[INFORMATION.index(name)])
        policy.action_probability_array[row] = [1 - p, p]
    return spiel.exploitability(game, policy)


def equilibrium(alpha: float) -> torch.Tensor:
    """Kuhn's equilibria, one for each alpha in [0, 1/3]."""
    first, answer = [alpha, 0, 3 * alpha], [0, alpha + 1 / 3, 1]
    return torch.tensor([*first, 1 / 3, 0, 1, 0, 1 / 3, 1, *answer], dtype=torch.float64)


@pytest.mark.parametrize("seed", range(3))
def test_exploitability_is_that_of_open_spiel(seed: int) -> None:
    bet = torch.rand(12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert exploitability(bet) == pytest.approx(of_spiel(bet), abs=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 0.2, 1 / 3])
def test_the_known_equilibria_cannot_be_exploited(alpha: float) -> None:
    assert exploitability(equilibrium(alpha)) == pytest.approx(0.0, abs=1e-12)
    assert float(winnings(equilibrium(alpha)).sum() / 6) == pytest.approx(-1 / 18)


def test_inputs_are_the_information_state_tensors_of_open_spiel() -> None:
    game, x = pyspiel.load_game("kuhn_poker"), inputs()
    seen = set()
    stack = [game.new_initial_state()]
    while stack:
        state = stack.pop()
        if state.is_terminal():
            continue
        if not state.is_chance_node():
            name = state.information_state_string()
            assert x[INFORMATION.index(name)].tolist() == state.information_state_tensor()
            seen.add(name)
        stack += [state.child(action) for action in state.legal_actions()]
    assert seen == set(INFORMATION)


def test_bits_and_directions_have_the_means_that_enumeration_gives() -> None:
    z = torch.randn(12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bet = torch.sigmoid(z)
    log_pi = torch.stack((1 - bet, bet), 1).log()
    hands = play(bet, 400_000, torch.Generator().manual_seed(1))
    mean = float(winnings(bet).sum() / 6)
    assert float(hands.bit.mean()) == pytest.approx(0.5 + mean / 4, abs=4e-3)
    objective = KuhnSelfPlay()
    objective._value = torch.zeros(12, dtype=torch.float64)
    g = objective.directions(log_pi, hands, 1e-12)[:, 1]
    z = z.requires_grad_()
    (slope,) = torch.autograd.grad(winnings(torch.sigmoid(z)).sum() / 24, z)
    sign = torch.tensor([1.0] * 3 + [-1.0] * 6 + [1.0] * 3, dtype=torch.float64)
    torch.testing.assert_close(g, sign * slope, atol=1.5e-3, rtol=0)


def reached(bet: torch.Tensor) -> torch.Tensor:
    """The probability of each information state in a hand, by enumeration of the six deals."""
    first, after_pass, _, _ = bet.view(4, 3)
    found = torch.zeros(4, 3, dtype=bet.dtype)
    for card, other in itertools.permutations(range(3), 2):
        passes = 1 - first[card]
        found[0, card] += 1 / 6
        found[1, other] += passes / 6
        found[2, other] += first[card] / 6
        found[3, card] += passes * after_pass[other] / 6
    return found.flatten()


def test_the_natural_direction_is_the_advantage_of_an_action() -> None:
    z = 0.7 * torch.randn(12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    bet = torch.sigmoid(z)
    log_pi = torch.stack((1 - bet, bet), 1).log()
    hands = play(bet, 400_000, torch.Generator().manual_seed(3))
    objective = KuhnSelfPlay(geometry="natural")
    objective._value = torch.zeros(12, dtype=torch.float64)
    step = objective._step(log_pi, hands, 1e-12)
    torch.testing.assert_close(step[:, 0], -step[:, 1])
    z = z.requires_grad_()
    (slope,) = torch.autograd.grad(winnings(torch.sigmoid(z)).sum() / 24, z)
    sign = torch.tensor([1.0] * 3 + [-1.0] * 6 + [1.0] * 3, dtype=torch.float64)
    gain = sign * slope / (reached(bet) * bet * (1 - bet))  # of betting over passing
    torch.testing.assert_close(step[:, 1], gain / 2, atol=0.012, rtol=0)


def test_a_rare_action_moves_its_logit_by_a_bounded_amount() -> None:
    bet = torch.full((12,), 1e-6, dtype=torch.float64)
    log_pi = torch.stack((1 - bet, bet), 1).log()
    hands = Hands(torch.tensor([[0, 3, -1]]), torch.tensor([[1, 0, 0]]), torch.ones(1))
    objective = KuhnSelfPlay(geometry="natural")
    objective._value = torch.zeros(12, dtype=torch.float64)
    step = objective._step(log_pi, hands, 1e-12)
    assert step[0, 1] == pytest.approx(0.5 * 0.5 / RARE_ACTION, rel=0.02)


def test_a_few_thousand_hands_teach_the_obvious() -> None:
    g = torch.Generator().manual_seed(0)
    net = LeakyField([11, 16, 2], "tanh", feedback_gain=0.5, generator=g, dtype=torch.float64)
    objective = KuhnSelfPlay(tau=0.05, tau_end=0.05)
    data = objective.dataset(40_000)
    settings = {"batch_size": 1000, "learning_rate": 0.02, "settling": zoo.GOOD}
    history = fit(net, data, objective=objective, epochs=2, **settings)
    bet = objective._policy(_run(net))[:, 1].exp()
    assert history.rows[-1].exploitability < 0.25
    assert float(bet[INFORMATION.index("2b")]) > 0.8  # the best card calls
    assert float(bet[INFORMATION.index("0b")]) < 0.2  # the worst does not
    assert history.rows[-1].votes == 80_000


def _run(net: LeakyField) -> object:
    from types import SimpleNamespace

    from bioplaus import AsymEP

    run = SimpleNamespace(field=net, estimator=AsymEP(settling=zoo.GOOD))
    run.config = SimpleNamespace(seed=0, epochs=1, batch_size=1)
    return run


def test_tau_goes_to_its_end_in_the_steps_of_the_run(tmp_path: Path) -> None:
    objective = KuhnSelfPlay(tau=0.1, tau_end=0.001)
    (course,) = objective.courses(5).values()
    assert [course(step) for step in range(5)] == pytest.approx(10.0 ** np.arange(-1, -3.5, -0.5))
    net, data = LeakyField([11, 8, 2], "tanh", feedback_gain=0.5), objective.dataset(40)
    given = {"objective": objective, "batch_size": 20, "schedule": "constant"}
    given |= {"out": tmp_path / "run.h5"}
    fit(net, data, epochs=1, **given)
    with pytest.raises(InputError, match=r"tau_end=0\.001 depends on"):
        fit(net, data, epochs=2, resume=True, **given)


def test_a_field_of_another_size_is_refused() -> None:
    objective = KuhnSelfPlay()
    net = LeakyField([11, 8, 3])
    with pytest.raises(InputError, match="2 actions"):
        fit(net, objective.dataset(), objective=objective)
    with pytest.raises(InputError, match="tau_end=0"):
        KuhnSelfPlay(tau_end=0)
    with pytest.raises(InputError, match="geometry='curved' is not one of gradient, natural"):
        KuhnSelfPlay(geometry="curved")
