"""Languages against brute force: the game of all texts, directions, mixtures, what is learnt."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bioplaus import AsymEP, LeakyField, fit
from bioplaus.errors import InputError
from bioplaus_votes.languages import (
    LanguageGame,
    LanguageNash,
    Sight,
    joined,
    language_of,
    rhyme,
    write,
)
from bioplaus_votes.languages.writer import conditionals, sequence_mixture, token_mixture
from nlhf.mixture import geometric_mixture
from nlhf.oracle import solve_equilibrium
from nlhf.regularised_game import duality_gap, kl, nash_conv
from tests import voting_zoo as zoo


def network(objective: LanguageNash, hidden: int = 12) -> LeakyField:
    g = torch.Generator().manual_seed(0)
    sizes = [objective.sight.size, hidden, objective.game.V]
    return LeakyField(sizes, "tanh", feedback_gain=0.5, generator=g, dtype=torch.float64)


def drawn(game: LanguageGame, seed: int = 0) -> list[torch.Tensor]:
    """Conditionals of a random policy."""
    g = torch.Generator().manual_seed(seed)
    shapes = [(game.V**n, game.V) for n in range(game.L)]
    return [torch.log_softmax(torch.randn(s, generator=g, dtype=torch.float64), -1) for s in shapes]


def whole(game: LanguageGame) -> tuple[torch.Tensor, torch.Tensor]:
    """The table of all texts, and the uniform reference."""
    P = game.P[game.kind][:, game.kind]
    return P, torch.full((len(P),), 1 / len(P), dtype=torch.float64).log()


@pytest.mark.parametrize("game", [rhyme(4, 3), rhyme(3, 4)])
def test_what_is_measured_by_kinds_is_that_of_all_texts(game: LanguageGame) -> None:
    P, log_mu = whole(game)
    solved, log_pi = game.solve(0.05), joined(drawn(game))
    star = solve_equilibrium(P, log_mu, 0.05)
    torch.testing.assert_close(solved.log_star[game.kind], star)
    found = solved.measured(log_pi)
    assert found["exploitability"] == pytest.approx(float(nash_conv(P, log_pi)) / 2)
    assert found["regularised_gap"] == pytest.approx(float(duality_gap(P, log_pi, log_mu, 0.05)))
    assert found["kl_to_equilibrium"] == pytest.approx(float(kl(log_pi, star)))
    assert solved.bound == pytest.approx(float(nash_conv(P, star)) / 2)


def test_texts_are_numbered_and_their_policy_is_the_product_of_its_tokens() -> None:
    game = rhyme(3, 3)
    assert torch.equal(game.number(game.tokens), torch.arange(27))
    steps = drawn(game)
    text, log_pi = game.tokens[17], joined(steps)
    parts = [steps[n][int((text[:n] * 3 ** torch.arange(n - 1, -1, -1)).sum()), text[n]] for n in
             range(3)]  # fmt: skip
    torch.testing.assert_close(log_pi[17], torch.stack(parts).sum())
    torch.testing.assert_close(log_pi.exp().sum(), torch.ones((), dtype=torch.float64))


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_exact_directions_are_the_slopes_over_all_texts(level: str) -> None:
    game, tau = rhyme(3, 3), 0.1
    objective = LanguageNash(game, tau=tau, votes=0, level=level)
    z = [step.clone().requires_grad_() for step in drawn(game)]
    steps = [torch.log_softmax(each, -1) for each in z]
    held = [step.detach() for step in steps]
    P, log_mu = whole(game)
    other = (token_mixture if level == "token" else sequence_mixture)(held, 0.25)
    log_pi = joined(steps)
    value = log_pi.exp() @ (P @ other.exp() - tau * (log_pi - log_mu))
    slopes = torch.autograd.grad(value, z)
    torch.testing.assert_close(objective._directions(held), torch.cat(slopes))


def test_the_two_mixtures_differ_and_the_second_is_the_geometric_one_of_texts() -> None:
    game = rhyme(4, 3)
    steps, log_mu = drawn(game), whole(game)[1]
    by_text = sequence_mixture(steps, 0.3)
    torch.testing.assert_close(by_text, geometric_mixture(joined(steps), log_mu, 0.3))
    by_token = token_mixture(steps, 0.3)
    torch.testing.assert_close(by_token.exp().sum(), torch.ones((), dtype=torch.float64))
    assert float(kl(by_token, by_text)) > 1e-4
    for mix in (token_mixture, sequence_mixture):
        torch.testing.assert_close(mix(steps, 0.0), joined(steps))


def test_a_network_writes_what_its_conditionals_say() -> None:
    objective = LanguageNash(rhyme(3, 3))
    net, n = network(objective), 30_000
    log_next = conditionals(net, objective.sight, objective.game, zoo.GOOD)
    luck = torch.Generator().manual_seed(0)
    tokens, *_ = write(net, objective.sight, n, zoo.GOOD, luck)
    share = torch.bincount(objective.game.number(tokens), minlength=27) / n
    assert float((share - joined(log_next).exp()).abs().max()) < 0.01
    mixed, *_ = write(net, objective.sight, n, zoo.GOOD, luck, mixture=0.5)
    share = torch.bincount(objective.game.number(mixed), minlength=27) / n
    assert float((share - token_mixture(log_next, 0.5).exp()).abs().max()) < 0.01


def test_votes_have_the_exact_direction_as_their_mean() -> None:
    objective = LanguageNash(rhyme(3, 2), tau=0.1, votes=1)
    net = network(objective)
    run: Any = SimpleNamespace(
        field=net,
        estimator=AsymEP(settling=zoo.GOOD),
        config=SimpleNamespace(seed=0),
    )
    objective.begin(run)
    n = 60_000
    x, g, _, _ = objective._voted(run, n)
    log_next = conditionals(net, objective.sight, objective.game, zoo.GOOD)
    beginnings = objective._inputs(run)
    exact = objective._directions(log_next)
    for row, want in zip(beginnings, exact, strict=True):
        own = (x == row).all(1)
        mean = g[own].sum(0) / n
        torch.testing.assert_close(mean, want, atol=6e-3, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("votes", [0, 1])
def test_a_network_learns_to_write(votes: int) -> None:
    objective = LanguageNash(rhyme(3, 2), tau=0.1, mixture=0.05, votes=votes)
    net, settings = network(objective), {"settling": zoo.GOOD, "learning_rate": 0.01}
    data = objective.dataset(6000 if votes else 120)
    batch = 100 if votes else 1
    history = fit(net, data, objective=objective, epochs=2, batch_size=batch, **settings)
    last = history.rows[-1]
    assert last.kl_to_equilibrium < (0.2 if votes else 0.05)
    assert last.gradient_cosine > 0.99
    assert last.votes == 12_000 * votes


def test_a_users_judge_of_texts() -> None:
    game = language_of(lambda a, b: 0.5 + 0.1 * (a[:, 0] - b[:, 0]).clamp(-1, 1), 3, 2)
    assert float(game.P[8, 0]) == pytest.approx(0.6)
    with pytest.raises(InputError, match="not antisymmetric"):
        language_of(lambda a, b: torch.full((len(a),), 0.6), 3, 2)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: rhyme(2, 3), "three tokens"),
        (lambda: rhyme(8, 7), "at most 300000 texts"),
        (lambda: language_of(lambda a, b: a, 8, 5), "4096"),
        (lambda: LanguageNash(rhyme(3, 3), level="sequence"), "votes=0"),
        (lambda: LanguageNash(rhyme(8, 6), votes=0), "37449 beginnings"),
        (lambda: LanguageNash(rhyme(3, 3), window=9), "window=9"),
        (lambda: LanguageNash(rhyme(3, 3), tau=-1), "tau=-1"),
        (lambda: Sight(3, 3, 0), "window=0"),
    ],
)
def test_bad_languages_are_refused(make: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()
