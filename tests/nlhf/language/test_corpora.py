"""The docstring corpus: the rules of PEP 257, the split, the comparisons and the judges."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlhf.config import get_judge
from nlhf.errors import InputError
from nlhf.language import corpora
from nlhf.language.corpora import docstrings, pairs, rejected
from nlhf.language.similarity import rouge_1, rouge_l, words
from tests import command_line

BODY = " ".join(f"word{i}" for i in range(20))
SOURCE = f'''
"""Do the first thing.

{BODY}
"""
class A:
    """Hold another thing.

    {BODY} of A
    """
    def f(self):
        """No full stop

        {BODY} of f
        """
        def g():
            """Do an inner thing.

            {BODY}
              indented {BODY} {BODY} {BODY} {BODY} {BODY} {BODY}
            """
    def short(self):
        """Too little follows here.

        Nothing.
        """
'''


@pytest.fixture
def library(tmp_path):
    (tmp_path / "a.py").write_text(SOURCE)
    (tmp_path / "b.py").write_text('"""Do the first thing.\n\n' + BODY + ' again\n"""')
    (tmp_path / "broken.py").write_text("def (")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "c.py").write_text('"""Do the fourth thing.\n\n' + BODY + ' c\n"""')
    return tmp_path


def test_what_is_a_summary_and_what_is_not(library):
    found = docstrings(library)
    assert [(item.source, item.summary) for item in found] == [
        ("a", "Do the first thing."),
        ("a.A", "Hold another thing."),
        ("a.A.f.g", "Do an inner thing."),
    ]
    assert found[0].body == BODY
    cut = found[2].body
    assert cut.startswith(f"{BODY}\n  indented")
    assert cut.endswith(" ...")
    assert len(cut.split()) == 121
    with pytest.raises(InputError, match="no docstrings"):
        docstrings(library / "test" / "none")


def test_the_human_answer_is_chosen(library):
    found = docstrings(library)
    rows = list(pairs(found, torch.Generator().manual_seed(0)))
    assert [row["chosen"] for row in rows] == [item.summary for item in found]
    assert all(row["rejected"] != row["chosen"] for row in rows)
    generator = torch.Generator().manual_seed(1)
    worse = {rejected(found, 0, generator) for _ in range(100)}
    assert found[1].summary in worse
    assert f"{found[0].summary} {found[0].summary}" in worse


@pytest.mark.slow
def test_the_standard_library_is_a_corpus_of_two_thousand(tmp_path):
    out = tmp_path / "d"
    said = command_line.call("corpus", "docstrings", "--out", out, "--json")
    counts = json.loads(said.stdout)["rows"]
    assert counts["train"] > 1200
    assert counts["test"] > 100
    rows = {
        name: [json.loads(line) for line in (out / f"{name}.jsonl").read_text().splitlines()]
        for name in counts
    }
    assert {name: len(r) for name, r in rows.items()} == counts
    modules = [
        {row["source"].partition(".")[0] for row in rows[name]} & {"json", "difflib", "shutil"}
        for name in ("train", "test")
    ]
    assert not modules[0] & modules[1]
    before = (out / "pairs.jsonl").read_bytes()
    again = command_line.call("corpus", "docstrings", "--out", out)
    assert command_line.refused(again, "exists", "--overwrite")
    assert command_line.call("corpus", "docstrings", "--out", out, "--overwrite").exit_code == 0
    assert (out / "pairs.jsonl").read_bytes() == before
    prompt, human = rows["test"][0]["prompt"], rows["test"][0]["completion"]
    for name in ("similarity", "readers"):
        judge = get_judge(f"nlhf.language.corpora:{name}")
        assert float(judge([prompt], [human], ["Nothing."])[0]) > 0.95
        messages = [{"role": "user", "content": prompt}]
        assert float(judge([messages], [human], [human])[0]) == 0.5


def test_a_foreign_prompt_has_no_human_answer(monkeypatch):
    monkeypatch.setattr(corpora, "_references", dict)
    with pytest.raises(InputError, match="corpus docstrings"):
        corpora.similarity(["Tell a joke."], ["a"], ["b"])


def test_three_readers_can_go_round_in_a_circle(monkeypatch):
    human = "open the given file and return its first line"
    monkeypatch.setattr(corpora, "_references", lambda: {"x": human})
    answers = [
        "very given first file much then return the and its much the first",  # most of the words
        "first return line open file",  # no other words
        "open file return open its",  # the order
    ]
    prompts = ["x"] * 3
    assert (corpora.readers(prompts, answers, answers[1:] + answers[:1]) > 0.55).all()
    both = corpora.readers(prompts, answers, answers[::-1])
    reverse = corpora.readers(prompts, answers[::-1], answers)
    assert torch.allclose(both + reverse, torch.ones(3, dtype=torch.float64), atol=1e-14)
    # the closeness to the human summary is one number and cannot
    P = torch.stack([corpora.similarity(prompts, [a] * 3, answers) for a in answers])
    assert (P > 0.5).sum() == 3
    assert not (P > 0.5)[[0, 1, 2], [1, 2, 0]].all()
    assert not (P > 0.5)[[1, 2, 0], [0, 1, 2]].all()


def test_rouge_by_hand():
    assert words("Return the *first* line's_end.") == ["return", "the", "first", "line", "s", "end"]
    a, b = ["the", "cat", "sat", "on", "the", "mat"], ["the", "cat", "on", "the", "mat", "sat"]
    assert rouge_1(a, b) == (1.0, 1.0, 1.0)
    assert rouge_l(a, b) == pytest.approx(5 / 6)
    assert rouge_1(["the", "the", "the"], ["the", "cat"])[:2] == (1 / 3, 1 / 2)
    assert rouge_l([], b) == 0


TOKENS = st.lists(st.sampled_from("abcd"), max_size=8)


@given(TOKENS, TOKENS)
def test_rouge_l_is_symmetric_and_below_rouge_1(a, b):
    assert rouge_l(a, b) == pytest.approx(rouge_l(b, a))
    assert rouge_l(a, b) <= rouge_1(a, b)[2] + 1e-12
    assert rouge_l(a, a) == (1 if a else 0)
