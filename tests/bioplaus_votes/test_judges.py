"""Judges: the built-in game, users' functions, files of votes, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bioplaus_votes.judges import TableJudge, VoteJudge, cyclic, judge_of_function, stream_of
from bioplaus_votes.solved import exploitability, solve_games
from bridge.errors import InputError
from nlhf.preferences.reading import read_battles, read_games
from nlhf.regularised_game import nash_conv
from tests import voting_zoo as zoo

X = torch.zeros(2, 3, dtype=torch.float64)
NAMES = ("a", "b", "c")


def made(function: Any, **settings: Any) -> Any:
    return judge_of_function(
        function, name="f", contexts=NAMES, answers=None, x=X, **{"symmetrise": False, **settings}
    )


def test_the_game_has_the_known_figures() -> None:
    P = cyclic(10).P
    mu = torch.full((10, 10), 0.1, dtype=torch.float64).log()
    solved = solve_games(P, mu, 0.05)
    means = {name: float(value.mean()) for name, value in solved.bounds.items()}
    assert means["equilibrium"] == pytest.approx(0.0137, abs=5e-5)
    assert means["rlhf"] == pytest.approx(0.054, abs=5e-4)
    assert means["uniform"] == pytest.approx(0.31, abs=1e-12)
    pure = torch.eye(10, dtype=torch.float64).log()
    assert float(min(exploitability(P[3], pure[y], mu[0]) for y in range(10))) == pytest.approx(0.1)
    assert bool((solved.certificate < 1e-20).all())


@pytest.mark.parametrize("c", [3, 4, 7])
def test_the_game_is_the_same_in_each_context_but_for_its_names(c: int) -> None:
    P = cyclic(c).P
    for k in range(c):
        rolled = P[0].roll((k, k), (0, 1))
        torch.testing.assert_close(P[k], rolled)


def test_exploitability_is_half_of_nash_conv() -> None:
    P, mu = zoo.random_table(4, 6), torch.full((4, 6), 1 / 6, dtype=torch.float64).log()
    log_pi = torch.log_softmax(torch.randn(4, 6, dtype=torch.float64), -1)
    torch.testing.assert_close(exploitability(P, log_pi, mu), nash_conv(P, log_pi) / 2)


def test_functions_are_told_apart_by_their_parameters() -> None:
    table = zoo.random_table(3, 4)
    of_contexts = made(lambda contexts: table[contexts])
    of_nothing = made(lambda: table)
    of_pairs = made(lambda context, a, b: table[context, a % 4, b % 4])
    of_inputs = made(lambda x: table[:1].expand(len(x), 4, 4))
    torch.testing.assert_close(of_contexts.P, table)
    torch.testing.assert_close(of_nothing.P, table)
    torch.testing.assert_close(of_pairs.P, table[:, :3, :3])
    assert not of_inputs.by_context
    assert len(of_inputs.answers) == 4


def test_bits_make_a_judge_that_can_only_be_asked() -> None:
    def ask(context: Any, first: Any, second: Any, generator: Any) -> Any:
        p = torch.where(first < second, 0.8, 0.2)
        return torch.bernoulli(torch.where(first == second, 0.5, p), generator=generator)

    judge = made(ask)
    assert isinstance(judge, VoteJudge)
    with pytest.raises(InputError, match="votes=N > 0"):
        judge.table(torch.tensor([0]), X)


LOPSIDED = torch.tensor([[0.5, 0.7, 0.6], [0.6, 0.5, 0.5], [0.4, 0.5, 0.5]], dtype=torch.float64)


@pytest.mark.parametrize(
    "function",
    [
        lambda: LOPSIDED,
        lambda contexts: LOPSIDED.expand(len(contexts), 3, 3),
        lambda x: LOPSIDED.expand(len(x), 3, 3),
        lambda context, a, b: LOPSIDED[a, b],
        lambda context, a, b: torch.ones(len(a)),
    ],
)
def test_a_judge_that_is_not_antisymmetric_is_refused_with_the_way_out(function: Any) -> None:
    with pytest.raises(InputError, match=r"not antisymmetric.*symmetrise"):
        made(function)
    judge = made(function, symmetrise=True)
    if judge.has_table:
        P = judge.table(torch.zeros(2, dtype=torch.long), X)
        torch.testing.assert_close(P + P.mT, torch.ones_like(P))
        assert float(P[0, 0, 1]) == pytest.approx(0.55)
    else:
        pair = torch.zeros(1, 20_000, dtype=torch.long)
        luck = torch.Generator().manual_seed(0)
        bits = judge.vote(torch.tensor([0]), X[:1], pair, pair + 1, luck)
        assert float(bits.mean()) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda: torch.full((2, 3), 0.5), ["2, 3]", "[contexts, K, K]"]),
        (lambda: torch.full((3, 2, 2), torch.nan), ["NaN"]),
        (lambda: torch.full((3, 2, 2), 1.5), ["1.5", "0 to 1"]),
        (lambda: "win", ["str"]),
        (lambda a, b: 0.5, ["takes a, b", "f(contexts, first, second)"]),
        (lambda context, a, b: torch.full((len(a),), 3.0), ["gave 3", "1 where"]),
        (lambda context, a, b: torch.full((2,), 0.5), ["one number a pair"]),
        (lambda: 1 / 0, ["division by zero"]),
    ],
)
def test_functions_that_give_something_else_are_refused(function: Any, words: list[str]) -> None:
    with pytest.raises(InputError) as refusal:
        made(function)
    assert "\n" not in str(refusal.value)
    for word in words:
        assert word in str(refusal.value)


def test_a_stream_holds_every_vote_once() -> None:
    battles = read_games("sound-quality")
    stream = stream_of(battles)
    assert len(stream) == 21_924
    P, k = battles.preferences().P, len(battles.items)
    wins = torch.zeros(4, k, k, dtype=torch.float64)
    at = (stream.context, stream.first, stream.second)
    wins.index_put_(at, stream.bit.double(), accumulate=True)
    at = (stream.context, stream.second, stream.first)
    wins.index_put_(at, 1 - stream.bit.double(), accumulate=True)
    counts = wins + wins.mT
    compared = counts > 0
    torch.testing.assert_close((wins / counts)[compared], P[compared])
    # shares of the pairs of a context sum to 1
    for c in range(4):
        own = stream.context == c
        low, high = stream.first.minimum(stream.second), stream.first.maximum(stream.second)
        rows = zip(low[own].tolist(), high[own].tolist(), stream.share[own].tolist(), strict=True)
        share = {(i, j): s for i, j, s in rows}
        assert sum(share.values()) == pytest.approx(1.0)


def test_single_votes_with_ties_keep_the_order_of_the_file(tmp_path: Any) -> None:
    file = tmp_path / "v.csv"
    file.write_text(
        "context,item_a,item_b,winner\nwet,x,y,x\ndry,y,x,x\nwet,x,z,tie\nwet,z,x,item_b\n"
    )
    stream = stream_of(read_battles(str(file)))
    assert stream.bit.tolist() == [1.0, 0.0, 0.5, 0.0]
    assert stream.context.tolist() == [0, 1, 0, 0]
    assert stream.share.tolist() == pytest.approx([1 / 3, 1.0, 2 / 3, 2 / 3])


def test_what_has_no_votes_cannot_be_streamed() -> None:
    with pytest.raises(InputError, match="no single votes"):
        stream_of(read_games("roshambo"))


def test_a_vote_is_a_draw_from_the_table() -> None:
    judge, n = TableJudge(zoo.random_table(1, 3)), 40_000
    first = torch.zeros(1, n, dtype=torch.long)
    luck = torch.Generator().manual_seed(0)
    bits = judge.vote(torch.tensor([0]), X[:1], first, first + 2, luck)
    assert float(bits.mean()) == pytest.approx(float(judge.P[0, 0, 2]), abs=0.01)
