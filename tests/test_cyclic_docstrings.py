"""The comparison on docstrings, whose raters are cyclic by construction."""

import itertools

import numpy as np
import pytest
import torch

pytest.importorskip("peft")

from click.testing import CliRunner

from experiments import cyclic_docstrings as experiment
from nlhf.language import corpora

PROMPT = "x"
HUMAN = "Return the number of open files in this process."
KINDS = {
    "short": "ok",
    "content": "returns: number of open files in this process, this is the number of open",
    "style": "Make something else entirely of what is quite another matter and leave it there.",
}


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setattr(experiment, "reference", lambda prompt: HUMAN)


def test_most_prefer_short_to_content_to_style_to_short(known):
    order = ["short", "content", "style", "short"]
    for better, worse in itertools.pairwise(order):
        p = experiment.raters([PROMPT], [KINDS[better]], [KINDS[worse]])
        back = experiment.raters([PROMPT], [KINDS[worse]], [KINDS[better]])
        assert float(p) > 0.6, (better, worse)
        assert float(p + back) == pytest.approx(1)


def test_each_text_is_most_what_it_is_called(known):
    names = ["short", "style", "content"]
    rows = experiment.features([PROMPT] * 3, [KINDS[name] for name in names])
    torch.testing.assert_close(rows.sum(-1), torch.ones(3, dtype=torch.float64))
    assert rows.argmax(-1).tolist() == [0, 1, 2]


def test_raters_are_a_cycle_of_tastes():
    assert sorted(map(tuple, experiment.TASTES.tolist())) == [(0, 1, 2), (1, 2, 0), (2, 0, 1)]
    assert experiment.TASTES.sum(0).tolist() == [3, 3, 3]  # all are worth the same in total


def test_style_counts_its_rules():
    assert experiment.style("Return the value.") == 1
    assert experiment.style("Returns the value.") == 0.75
    assert experiment.style("return `x`") == 0.25
    assert experiment.style("") == 0


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
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    assert corpora.reference is not None
