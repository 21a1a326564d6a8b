"""The headline of a comparison, checked against the known numbers in the logs."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from bridge import compare_runs
from bridge.report.figures import sections
from bridge.report.html import page
from bridge.report.terminal import watch
from bridge.runlog.paired import with_error
from bridge.runlog.summary import comparison_json, comparison_tables, final_tables
from cli import main
from tests.bridge.headlines import HEADLINE, judged_log

A, B = (10.0, 20.0, 30.0), (9.0, 18.5, 28.8)


def call(*args: Any) -> Result:
    """Call the program."""
    return CliRunner().invoke(main, ["compare", *map(str, args)])


def logs(folder: Path, **values: Any) -> list[Path]:
    """One log per value, of several configs, with the seeds 0, 1, ..."""
    return [
        judged_log(folder / f"{name}{seed}.h5", [99.0, value], seed=seed, rate=rate)
        for rate, (name, of_config) in enumerate(values.items())
        for seed, value in enumerate(of_config)
    ]


def test_the_difference_is_that_of_a_paired_t_test(tmp_path: Path) -> None:
    verdict = compare_runs(logs(tmp_path, a=A, b=B)).verdict
    assert verdict is not None
    first, second = verdict.outcomes
    found = second.difference
    assert (first.difference, first.verdict(HEADLINE)) == (None, "")
    assert found is not None
    interval = scipy.stats.ttest_rel(B, A).confidence_interval(0.95)
    assert found.mean == pytest.approx(np.mean(np.subtract(B, A)))
    assert found.mean - found.half_width == pytest.approx(interval.low)
    assert found.mean + found.half_width == pytest.approx(interval.high)
    # Pairing sees what the spread of the seeds hides.
    assert first.estimate.half_width > 10 * found.half_width
    assert second.verdict(HEADLINE) == "better"
    assert second.verdict(HEADLINE.model_copy(update={"better": "higher"})) == "worse"


def test_only_seeds_that_both_have_are_paired(tmp_path: Path) -> None:
    paths = logs(tmp_path, a=A, b=B)
    (outcome,) = _others(paths[1:])  # without seed 0 of the first
    assert outcome.difference is not None
    assert outcome.difference.n == 2
    assert outcome.difference.mean == pytest.approx(-1.35)
    (outcome,) = _others([paths[0], paths[4]])
    assert outcome.difference is None
    assert "no seed in common" in call(paths[0], paths[4]).stdout
    (outcome,) = _others([paths[0], paths[3]])
    assert outcome.difference is not None
    assert math.isnan(outcome.difference.half_width)
    assert outcome.verdict(HEADLINE) == ""


def _others(paths: list[Path]) -> tuple[Any, ...]:
    verdict = compare_runs(paths).verdict
    assert verdict is not None
    return verdict.outcomes[1:]


def test_an_interval_with_zero_in_it_decides_nothing(tmp_path: Path) -> None:
    (outcome,) = _others(logs(tmp_path, a=A, b=(9.0, 21.0, 30.5)))
    assert outcome.verdict(HEADLINE) == "unclear"


def test_the_headline_is_the_first_table(tmp_path: Path) -> None:
    result = call(*logs(tmp_path, a=A, b=B))
    title, heading, first, second = result.stdout.splitlines()[:4]
    assert title == "test error (%), lower is better; at step 20"
    columns = ["config", "settings", "seeds", "test error (%)", "minus A", "pairs", ""]
    assert heading.split("\t") == columns
    assert first.split("\t")[:4] == ["A", "rate 0", "3", "20 ± 25"]
    assert second.split("\t")[4:] == ["-1.23 ± 0.63", "3", "better"]


def test_quiet_says_nothing_but_the_comparison(tmp_path: Path) -> None:
    (path,) = logs(tmp_path, a=(1.0,))
    loud = call(path, "--report", tmp_path / "1.html")
    quiet = call(path, "--report", tmp_path / "2.html", "--quiet")
    assert loud.stderr == f"written: {tmp_path / '1.html'}\n"
    assert (quiet.stdout, quiet.stderr) == (loud.stdout, "")


def test_what_differs_in_length_is_said(tmp_path: Path) -> None:
    paths = [
        judged_log(tmp_path / "a.h5", [1.0]),
        judged_log(tmp_path / "b.h5", [1.0, 2.0], rate=1),
    ]
    assert "at the last step of each run, which differ: 10 to 20" in call(*paths).stdout


def test_runs_of_other_metrics_have_no_verdict(tmp_path: Path) -> None:
    other = HEADLINE.model_copy(update={"metric": "metrics/error", "over": "step"})
    paths = [
        judged_log(tmp_path / "a.h5", [1.0]),
        judged_log(tmp_path / "b.h5", [1.0], headline=other),
    ]
    assert compare_runs(paths).verdict is None
    assert json.loads(call(*paths, "--json").stdout)["headline"] is None
    assert compare_runs([judged_log(tmp_path / "c.h5", [])]).verdict.outcomes == ()  # type: ignore[union-attr]


def test_values_of_updates_are_never_beside_those_of_epochs(tmp_path: Path) -> None:
    found = compare_runs(logs(tmp_path, a=A, b=B))
    for title, _, rows in (*comparison_tables(found), *final_tables(found)):
        metrics = {row[0] for row in rows}
        # "error" is in both tables, "seconds" in that of the epochs alone.
        if "error" in metrics:
            assert ("seconds" in metrics) == ("epochs" in title)
            assert ("epochs" in title) != ("metrics" in title)
    assert [title for title, _, _ in final_tables(found)] == ["epochs", "metrics"]


def test_json_has_the_headline(tmp_path: Path) -> None:
    found = compare_runs(logs(tmp_path, a=A, b=B))
    about = comparison_json(found, with_curves=False)["headline"]
    assert (about["metric"], about["better"], about["unit"]) == ("epochs/error", "lower", "%")
    second = about["configs"]["B"]
    assert second["by_seed"] == dict(enumerate(B))
    assert second["difference"]["n"] == 3
    assert second["verdict"] == "better"


def test_reports_and_screens_open_with_the_headline_over_epochs(tmp_path: Path) -> None:
    paths = logs(tmp_path, a=A, b=B)
    found = compare_runs(paths)
    section = sections(found)[0]
    (panel,) = section.panels
    assert (section.title, panel.title, panel.x_label) == ("Test error", "test error (%)", "epoch")
    assert [np.asarray(line.x).tolist() for line in panel.lines] == 8 * [[1, 2]]
    names = [panel.name for each in sections(found)[1:] for panel in each.panels]
    assert "epochs/error" not in names
    text = page(found)
    places = [text.index(each) for each in ("lower is better", "<figure", "Last values</h2>")]
    assert places == sorted(places)
    (view,) = watch(paths[0])
    assert next(iter(view.curves)) == "epochs/error"


@given(st.floats(1e-12, 1e12), st.sampled_from([1, -1]), st.floats(1e-9, 1e6))
def test_digits_follow_the_error(size: float, sign: int, share: float) -> None:
    mean, half = sign * size, share * size
    text = with_error(mean, half)
    found = re.fullmatch(r"\(?(-?[\d.]+) ± ([\d.]+)\)?(e[+-]\d+)?", text)
    assert found is not None
    scale = float(f"1{found[3] or ''}")
    assert float(found[2]) * scale == pytest.approx(half, rel=0.06)
    assert abs(float(found[1]) * scale - mean) <= 0.06 * half
    digits = [len(number.partition(".")[2]) for number in (found[1], found[2])]
    assert digits[0] == digits[1]
