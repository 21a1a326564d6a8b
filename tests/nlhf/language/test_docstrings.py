"""The experiment on docstrings, from the warm start to the figure, with a tiny model."""

import json

import pytest
from click.testing import CliRunner

pytest.importorskip("peft")
pytest.importorskip("matplotlib")

from experiments.docstrings import READERS, main, place
from nlhf.config import get_judge

STEPS = 6


@pytest.mark.slow
def test_the_whole_experiment_runs_and_does_nothing_twice(tmp_path):
    out, figure = tmp_path / "runs", tmp_path / "figure.png"
    args = ["--out", out, "--model", "tiny:a,return,the,<end>", "--processes", 1, "--steps", STEPS]
    args += ["--examples", 32, "--held-out", 5, "--figure", figure]
    first = CliRunner().invoke(main, [str(each) for each in args])
    assert first.exit_code == 0, first.output
    assert figure.stat().st_size > 10_000
    names = ["nash-md 0", "nash-md 0.125", "nash-md 0.5", "nash-md 1", "rlhf"]
    for name in ("warm start", *names):
        assert sum(line.startswith(f"| {name} |") for line in first.output.splitlines()) >= 2
        answers = json.loads(place(out, name, ".test.json").read_text())
        assert [len(draw) for draw in answers] == [5]
    # the curve: the last steps' mean P against the reference's two answers to the same prompts
    lines = (out / "prompts.jsonl").read_text().splitlines()
    asked = [json.loads(line)["prompt"] for line in lines]
    first_draw, second_draw = json.loads(place(out, "warm start", ".asked.json").read_text())
    judge = get_judge(READERS)
    for name in names:
        said = json.loads(place(out, name, ".said.json").read_text())
        opponents = 1 if name == "rlhf" else 3
        assert [len(step) for step in said] == [8 * opponents] * STEPS  # 2 prompts, 4 answers
        prompts, answers = zip(*(pair for step in said for pair in step), strict=True)
        assert len(set(prompts)) == 2 * STEPS  # none twice
        p = [
            judge(list(prompts), list(answers), [draw[asked.index(x)] for x in prompts]).mean()
            for draw in (first_draw, second_draw)
        ]
        assert f"| {name} | {float(sum(p) / 2):.3g} |" in first.output
    stamps = {each: each.stat().st_mtime_ns for each in out.iterdir() if each.suffix != ".jsonl"}
    again = CliRunner().invoke(main, [str(each) for each in args])
    assert stamps == {each: each.stat().st_mtime_ns for each in stamps}
    assert again.output.splitlines()[:-1] == first.output.splitlines()[:-1]  # except for the time
