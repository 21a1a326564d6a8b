"""The comparison on docstrings, whose raters are cyclic by construction."""

import itertools
import re

import numpy as np
import pytest
import torch

pytest.importorskip("peft")

from click.testing import CliRunner

from experiments import cyclic_docstrings as experiment
from experiments import cyclic_raters
from nlhf.language import corpora

DOCSTRING = "Files which the process has opened are counted, whether inherited or opened later."
PROMPT = corpora.Summarised("os.count", DOCSTRING, "", False).prompt
KINDS = {
    "short": "counts `these`",
    "content": "returns: process, files opened or inherited, which are counted, whether later or",
    "style": "Make something else entirely of what is quite another matter and leave it there.",
}


def test_most_prefer_short_to_content_to_style_to_short():
    order = ["short", "content", "style", "short"]
    for better, worse in itertools.pairwise(order):
        p = cyclic_raters.raters([PROMPT], [KINDS[better]], [KINDS[worse]])
        back = cyclic_raters.raters([PROMPT], [KINDS[worse]], [KINDS[better]])
        assert float(p) > 0.9, (better, worse)
        assert float(p + back) == pytest.approx(1)


def test_the_majority_is_the_sum_over_the_outcomes_of_three_votes():
    u = torch.randn(2, 50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for_first = torch.sigmoid(cyclic_raters.SURE * (u[0] - u[1]))
    expected = torch.zeros(50, dtype=torch.float64)
    for votes in itertools.product((0, 1), repeat=3):
        if sum(votes) >= 2:
            chances = [for_first[:, i] if v else 1 - for_first[:, i] for i, v in enumerate(votes)]
            expected += chances[0] * chances[1] * chances[2]
    torch.testing.assert_close(cyclic_raters.majority(u[0], u[1]), expected)


def test_an_answer_without_words_loses():
    texts = ["", "...", KINDS["short"]]
    table = [[float(cyclic_raters.raters([PROMPT], [a], [b])) for b in texts] for a in texts]
    assert table == [[0.5, 0.5, 0], [0.5, 0.5, 0], [1, 1, 0.5]]


def test_each_text_is_most_what_it_is_called():
    names = ["short", "style", "content"]
    rows = cyclic_raters.features([PROMPT] * 3, [KINDS[name] for name in names])
    torch.testing.assert_close(rows.sum(-1), torch.ones(3, dtype=torch.float64))
    assert rows.argmax(-1).tolist() == [0, 1, 2]


def test_words_of_the_instruction_are_no_content():
    copied = "summarise this python documentation in one short sentence"
    other = "translate those english sentences into some other language"
    rows = cyclic_raters.features([PROMPT, PROMPT], [copied, other])
    torch.testing.assert_close(rows[0], rows[1])


@pytest.mark.slow
def test_the_reward_is_the_log_odds_against_the_authors():
    names = ["short", "style", "content", "style"]
    answers = [KINDS[name] for name in names]
    found = cyclic_raters.reward([PROMPT] * 4, answers)
    items = [item for item in corpora.docstrings() if not item.held_out]
    items = items[:: len(items) // cyclic_raters.AUTHORS][: cyclic_raters.AUTHORS]
    for answer, each in zip(answers, found.tolist(), strict=True):
        wins = [
            # an author's answer is judged by its own docstring
            cyclic_raters.majority(
                cyclic_raters.utilities([PROMPT], [answer]),
                cyclic_raters.utilities([item.prompt], [item.summary]),
            )
            for item in items
        ]
        p = float(torch.cat(wins).mean())
        assert each == pytest.approx(np.log(p / (1 - p)))


def test_raters_are_a_cycle_of_tastes():
    assert sorted(map(tuple, cyclic_raters.TASTES.tolist())) == [(0, 1, 2), (1, 2, 0), (2, 0, 1)]
    assert cyclic_raters.TASTES.sum(0).tolist() == [3, 3, 3]  # all are worth the same in total


def test_style_counts_its_rules():
    assert cyclic_raters.style("Return the value.") == 1
    assert cyclic_raters.style("Returns the value.") == 0.75
    assert cyclic_raters.style("return `x`") == 0.25
    assert cyclic_raters.style("") == 0


def test_intervals_hold_the_mean_and_grow_with_few_seeds():
    g = np.random.default_rng(0)
    effects = 0.1 * g.standard_normal((3, 1, 1))
    wins = 0.6 + effects + 0.05 * g.standard_normal((3, 2, 80))
    mean, drawn = experiment.against(wins, np.random.default_rng(0))
    assert mean == pytest.approx(wins.mean())
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert low < mean < high
    _, alike = experiment.against(wins - effects, np.random.default_rng(0))
    assert drawn.std() > 3 * alike.std()  # seeds differ more than prompts do


@pytest.mark.parametrize(
    ("means", "told"),
    [
        ([0.50, 0.54, 0.58, 0.55, 0.40], "one interior peak: the largest rate is at weight"),
        ([0.60, 0.58, 0.55, 0.52, 0.40], "no single interior peak"),
        ([0.50, 0.58, 0.50, 0.58, 0.40], "no single interior peak"),
    ],
)
def test_the_shape_is_told_with_how_sure_it_is(means, told):
    g = np.random.default_rng(1)
    found = {
        f"nash-md {w:g}": (m, m + 0.01 * g.standard_normal(500))
        for w, m in zip(experiment.WEIGHTS, means, strict=True)
    }
    said = experiment.shape(found)
    assert said.startswith(told)
    assert "%" in said
    differences = re.findall(r"above weight \S+ by (\S+) \[(\S+), (\S+)\]", said)
    assert len(differences) == len(means) - 1
    for (mean, low, high), other in zip(
        differences, [m for i, m in enumerate(means) if i != np.argmax(means)], strict=True
    ):
        assert float(mean) == pytest.approx(max(means) - other, abs=0.001)
        assert float(high) - float(low) == pytest.approx(2 * 1.96 * 0.01 * 2**0.5, rel=0.15)


def test_policies_are_compared_over_all_pairs_of_seeds_and_answers():
    prompts = [PROMPT, corpora.Summarised("os.other", "It is another one.", "", False).prompt]
    short, content, style = KINDS["short"], KINDS["content"], KINDS["style"]
    texts = {"a": [[[short, style], [style, style]]], "b": [[[style, short]], [[content, short]]]}
    utility = {
        name: experiment.measured(cyclic_raters.utilities, prompts, runs)
        for name, runs in texts.items()
    }
    assert utility["a"].shape == (1, 2, 2, 3)
    assert utility["b"].shape == (2, 1, 2, 3)
    expected = [
        float(cyclic_raters.raters([prompts[i]], [mine[i]], [theirs[i]]))
        for i in range(2)
        for mine in texts["a"][0]
        for (theirs,) in texts["b"]
    ]
    mean, drawn = experiment.compare(utility, "b")["a"]
    assert mean == pytest.approx(np.mean(expected))
    assert drawn.shape == (experiment.RESAMPLES,)
    assert experiment.compare(utility, "a")["a"][0] == pytest.approx(0.5)


def test_the_lowest_rate_names_its_opponent():
    rates = {"a": {"a": 0.5, "b": 0.6, "c": 0.3}, "b": {"a": 0.4, "b": 0.5, "c": 0.7}}
    found = {
        other: {name: (value, np.array([value])) for name, value in each.items()}
        for other, each in rates.items()
    }
    assert experiment.lowest(found, "c") == ("a", 0.3)
    assert experiment.lowest(found, "a") == ("b", 0.4)  # not against itself


@pytest.mark.slow
def test_the_whole_experiment_runs_reduced(tmp_path):
    args = ["--out", tmp_path, "--model", "tiny:a,return,the,<end>", "--processes", 1]
    args += ["--steps", 5, "--seeds", 2, "--examples", 8, "--held-out", 4]
    args += ["--figure", tmp_path / "f.png"]
    result = CliRunner().invoke(experiment.main, [str(each) for each in args])
    assert result.exit_code == 0, result.output
    rows = [line for line in result.output.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 8
    assert "peak: the largest rate is at weight" in result.output
    args += ["--only", "nash-md 0", "--only", "nash-md 1"]
    fewer = CliRunner().invoke(experiment.main, [str(each) for each in args])
    rows = [line for line in fewer.output.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[2:]] == [
        *("| warm start", "| nash-md 0", "| nash-md 1", "| rlhf")
    ]
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
