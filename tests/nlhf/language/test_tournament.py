"""Tournaments with known answers: who wins, how surely, and which mixture nobody beats."""

import json
import math

import pytest
import torch

from nlhf.errors import InputError
from nlhf.language.intervals import clopper_pearson
from nlhf.language.judging import CheckedJudge, FunctionJudge, TableJudge
from nlhf.language.tournament import play
from tests import command_line
from tests.command_line import refused

RPS = torch.tensor([[0.5, 1, 0], [0, 0.5, 1], [1, 0, 0.5]], dtype=torch.float64)
NAMES = ["paper", "rock", "scissors"]


def constant(name, n=4, draws=1):
    return [[name] * n] * draws


def test_the_lottery_of_a_circle_is_even():
    found = play(TableJudge(NAMES, RPS), ["x"] * 4, [constant(name) for name in NAMES])
    assert torch.equal(found.P, RPS)
    assert [r.lottery for r in found.policies] == pytest.approx([1 / 3] * 3)
    assert [r.exploitability for r in found.policies] == [0.5] * 3
    assert [r.beaten_by for r in found.policies] == [2, 0, 1]
    assert found.lottery_exploitability == pytest.approx(0, abs=1e-9)
    first = found.pairs[0]
    assert (first.n, first.wins, first.ties, first.share) == (4, 4, 0, 1.0)
    assert (first.low, first.high) == clopper_pearson(4, 0, 4)


def test_the_ranking_resamples_prompts_and_says_what_is_decided():
    generator = torch.Generator().manual_seed(1)
    better = torch.rand(200, generator=generator, dtype=torch.float64) < 0.7
    judge = FunctionJudge(
        lambda x, a, b: [0.5 if u == v else float(u > v) for u, v in zip(a, b, strict=True)], "j"
    )
    strong = [["2" if up else "0" for up in better.tolist()]] * 3
    found = play(judge, ["x"] * 200, [strong, [["1"] * 200] * 3], names=["strong", "weak"])
    ranking = found.ranking
    assert ranking.clusters == 200
    assert (ranking.verdict, ranking.winner) == ("winner", "strong")
    share = float(better.double().mean())
    assert ranking.items[0].bradley_terry == pytest.approx(math.log(share / (1 - share)) / 2)
    # three equal draws of a prompt tell no more than one
    error = math.sqrt(1 / (200 * share * (1 - share))) / 2
    assert ranking.items[0].standard_error == pytest.approx(error, rel=1e-6)
    few = play(judge, ["x"] * 3, [[["2"] * 3], [["1"] * 3]])
    assert few.ranking.verdict == "undecided"


def test_a_policy_that_beats_all_is_the_whole_lottery():
    P = torch.tensor([[0.5, 0.6, 0.7], [0.4, 0.5, 0.9], [0.3, 0.1, 0.5]], dtype=torch.float64)
    found = play(TableJudge(NAMES, P), ["x"], [constant(name, 1) for name in NAMES])
    assert [r.lottery for r in found.policies] == pytest.approx([1, 0, 0])
    assert found.policies[0].exploitability == 0
    assert found.policies[0].beaten_by == 0
    assert found.policies[2].mean == pytest.approx(0.2)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_both_sides_of_a_pair_mirror_each_other(batch):
    generator = torch.Generator().manual_seed(0)
    texts = [
        [[NAMES[i] for i in torch.randint(3, (5,), generator=generator)] for _ in range(2)]
        for _ in range(3)
    ]
    judge = TableJudge(NAMES, RPS)
    found = play(judge, ["x"] * 5, texts, batch_size=batch)
    assert torch.allclose(found.P + found.P.T, torch.ones(3, 3, dtype=torch.float64))
    sides = {(r.policy, r.other): r for r in found.pairs}
    for (i, j), r in sides.items():
        back = sides[j, i]
        assert r.n == 10 == r.wins + r.ties + back.wins
        assert r.low == pytest.approx(1 - back.high)
        alone = [
            float(RPS[NAMES.index(a), NAMES.index(b)])
            for d in range(2)
            for a, b in zip(texts[i][d], texts[j][d], strict=True)
        ]
        assert r.probability == pytest.approx(sum(alone) / 10)
        assert r.wins == sum(p > 0.5 for p in alone)


def test_both_orders_are_asked_and_averaged():
    """A judge that slightly favours the first answer is even over both orders."""
    judge = CheckedJudge(FunctionJudge(lambda x, a, b: [0.5004] * len(a), "first"))
    found = play(judge, ["x"], [[["a"]], [["b"]]])
    assert found.pairs[0].probability == pytest.approx(0.5, abs=1e-12)
    assert found.pairs[0].order == pytest.approx(8e-4)
    biased = CheckedJudge(FunctionJudge(lambda x, a, b: [0.7] * len(a), "first"))
    with pytest.raises(InputError, match="not antisymmetric"):
        play(biased, ["x"], [[["a"]], [["b"]]])


def test_one_policy_is_no_tournament():
    with pytest.raises(InputError, match="two policies"):
        play(TableJudge(NAMES, RPS), ["x"], [constant("rock", 1)])


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        rows = [{"prompt": f"p{i}", "answer": name} for i in range(6)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(text)
    (tmp_path / "circle_judge.py").write_text(
        "def wins(prompts, a, b):\n"
        f"    order = {NAMES!r}\n"
        "    steps = [(order.index(q) - order.index(p)) % 3 for p, q in zip(a, b)]\n"
        "    return [(0.5, 1.0, 0.0)[step] for step in steps]\n"
        "def broken(prompts, a, b):\n"
        "    return [float('nan')] * len(a)\n"
    )
    return tmp_path


def tournament(*policies, **options):
    given = {"prompts": "rock.jsonl", "preference": "circle_judge:wins", "out": "t.h5"} | options
    flags = [word for name, value in given.items() for word in (f"--{name}", value)]
    return command_line.call("tournament", "--policies", *policies, *flags, "--quiet", "--json")


def test_files_of_answers_play(files):
    result = tournament(*(f"{name}.jsonl" for name in NAMES))
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert [row["lottery"] for row in said["policies"]] == pytest.approx([1 / 3] * 3)
    assert said["policies"][0]["beaten_by"] == "scissors.jsonl"
    from bridge.runlog import read_run

    run = read_run(files / "t.h5")
    assert list(run.table("metrics")["wins"]) == [6, 0, 0, 6, 6, 0]
    assert list(run.table("policies")["policy"]) == [0, 1, 2]


def test_a_model_plays_against_a_file(files):
    pytest.importorskip("transformers")
    result = command_line.call(
        "tournament", "--policies", "tiny:rock,paper,scissors", "rock.jsonl",
        "--prompts", "rock.jsonl", "--preference", "circle_judge:wins", "--out", "m.h5",
        "--set", "generation.max_new_tokens=1", "--set", "draws=3", "--quiet", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["pairs"][0]["n"] == 18
    assert said["P"][0][1] + said["P"][1][0] == pytest.approx(1)


def test_refusals(files):
    short = files / "short.jsonl"
    short.write_text(json.dumps({"prompt": "p0", "answer": "rock"}) + "\n")
    bad = files / "bad.jsonl"
    bad.write_text('{"prompt": "p0"}\n')
    a, b = "rock.jsonl", "paper.jsonl"
    assert refused(tournament(a), "policies", "two or more")
    assert refused(tournament(a, a), "rock.jsonl", "twice")
    assert refused(tournament(a, short), "no answer to prompt 2")
    assert refused(tournament(a, bad), "bad.jsonl:1: completion: missing", "answer")
    assert refused(tournament(a, b, prompts="none.jsonl"), "none.jsonl")
    assert refused(tournament(a, b, preference="circle_judge:broken"), "NaN")
    assert refused(tournament(a, b, preference="circle_judge:win"), "did you mean 'wins'")
    assert refused(tournament(a, b, preference="no_such_module:f"), "no_such_module")
    assert refused(tournament(a, "no/such/model"), "no/such/model")
