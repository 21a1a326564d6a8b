"""Comparisons of logs, checked against the known numbers in them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import scipy.stats
from click.testing import CliRunner, Result

from bioplaus_cli.figure_layout import LAYOUT
from bioplaus_cli.headlines import ESTIMATORS
from bridge import compare_runs, open_run
from bridge.errors import InputError
from bridge.report.figures import sections
from bridge.runlog import parse_tolerances
from cli import main


@dataclass(frozen=True)
class Loss:
    step: int
    loss: float


@dataclass(frozen=True)
class Error:
    step: int
    loss: float
    error: float


@dataclass(frozen=True)
class Check:
    step: int
    estimator: Literal["vector-field", "asym-ep"]
    beta: float
    parameter: Literal["all", "bias"]
    angle_degrees: float


def write(
    path: Path,
    losses: Sequence[float],
    *,
    seed: int = 0,
    config: dict[str, Any] | None = None,
    first: int = 0,
) -> Path:
    """A log of one metric."""
    config = {"seed": seed, **(config or {"rate": 0.1})}
    with open_run(path, tables={"metrics": Loss}, config=config, seed=seed) as log:
        for i, loss in enumerate(losses):
            log.log("metrics", Loss(first + i, loss))
    return path


def call(*args: Any) -> Result:
    """Call the program."""
    return CliRunner().invoke(main, ["compare", *map(str, args)])


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """Two seeds of one config, and another config with fewer steps."""
    return [
        write(tmp_path / "a.h5", [4.0, 2.0, 1.0], seed=0),
        write(tmp_path / "b.h5", [5.0, 2.5, 3.0], seed=1),
        write(tmp_path / "c.h5", [8.0, 2.0], seed=0, config={"rate": 0.2, "net": {"size": 3}}),
    ]


def test_differences_are_those_at_common_steps(three: list[Path]) -> None:
    metric = compare_runs(three).metrics["metrics/loss"]
    assert metric.steps.tolist() == [0, 1]
    assert metric.values.tolist() == [[4.0, 2.0], [5.0, 2.5], [8.0, 2.0]]
    assert metric.differences.tolist() == [[0, 0], [1.0, 0.5], [4.0, 0.0]]
    assert metric.largest_difference == (4.0, 0)
    assert metric.curves[0].values.tolist() == [4.0, 2.0, 1.0]


def test_logs_that_start_apart_meet_at_the_steps_they_share(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "a.h5", range(10), first=0),
        write(tmp_path / "b.h5", range(10), first=6),
    ]
    metric = compare_runs(paths).metrics["metrics/loss"]
    assert metric.steps.tolist() == [6, 7, 8, 9]
    assert metric.largest_difference[0] == 6.0


def test_configs_are_told_apart_but_for_the_seed(three: list[Path]) -> None:
    found = compare_runs(three)
    assert [(g.label, g.members, g.seeds) for g in found.groups] == [
        ("A", (0, 1), (0, 1)),
        ("B", (2,), (0,)),
    ]
    assert found.config_differences == {"rate": (0.1, 0.1, 0.2), "net.size": (None, None, 3)}


def test_confidence_intervals_are_students(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    draws = generator.normal(size=(5, 4))
    paths = [write(tmp_path / f"{i}.h5", list(each), seed=i) for i, each in enumerate(draws)]
    spread = compare_runs(paths).metrics["metrics/loss"].spreads["A"]
    low, high = scipy.stats.t.interval(
        0.95, 4, loc=draws.mean(axis=0), scale=scipy.stats.sem(draws, axis=0)
    )
    np.testing.assert_allclose(spread.mean - spread.half_width, low, rtol=1e-12)
    np.testing.assert_allclose(spread.mean + spread.half_width, high, rtol=1e-12)
    assert spread.n == 5


def test_a_seed_that_was_run_twice_counts_once(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "a.h5", [1.0], seed=0),
        write(tmp_path / "b.h5", [3.0], seed=0),
        write(tmp_path / "c.h5", [4.0], seed=1),
    ]
    spread = compare_runs(paths).metrics["metrics/loss"].spreads["A"]
    assert spread.n == 2
    assert spread.mean.tolist() == [3.0]
    one = compare_runs(paths[:2]).metrics["metrics/loss"].spreads["A"]
    assert (one.n, one.mean.tolist()) == (1, [2.0])
    assert math.isnan(one.half_width[0])


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1.0, math.nan], [1.0, math.nan], 0.0),
        ([1.0, math.nan], [1.0, 2.0], math.inf),
        ([math.inf], [math.inf], 0.0),
        ([math.inf], [-math.inf], math.inf),
        ([-0.0], [0.0], 0.0),
    ],
)
def test_numbers_that_are_not_finite_differ_from_those_that_are(
    tmp_path: Path, first: list[float], second: list[float], expected: float
) -> None:
    paths = [write(tmp_path / "a.h5", first), write(tmp_path / "b.h5", second)]
    metric = compare_runs(paths).metrics["metrics/loss"]
    assert metric.largest_difference[0] == expected


def checks(path: Path, angles: dict[tuple[str, float], list[float]]) -> Path:
    """A log of gradient checks."""
    with open_run(path, tables={"checks": Check}, config={}, seed=0) as log:
        for (estimator, beta), given in angles.items():
            for angle in given:
                log.log("checks", Check(0, estimator, beta, "all", angle))  # type: ignore[arg-type]
                log.log("checks", Check(0, estimator, beta, "bias", 90.0))  # type: ignore[arg-type]
    return path


def test_estimators_are_ranked_by_angle(tmp_path: Path) -> None:
    paths = [
        checks(tmp_path / "a.h5", {("vector-field", 0.1): [20.0], ("asym-ep", 0.1): [3.0]}),
        checks(
            tmp_path / "b.h5",
            {("vector-field", 0.1): [10.0, math.nan], ("asym-ep", 0.01): [1.0, 2.0]},
        ),
    ]
    ranking = compare_runs(paths, contest=ESTIMATORS).ranking
    assert [(r.name, r.settings["beta"], r.mean, r.counted) for r in ranking] == [
        ("asym-ep", 0.01, 1.5, 2),
        ("asym-ep", 0.1, 3.0, 1),
        ("vector-field", 0.1, 15.0, 2),
    ]
    assert (ranking[-1].smallest, ranking[-1].largest) == (10.0, 20.0)
    assert [rank.left_out for rank in ranking] == [0, 0, 1]


def test_checks_that_did_not_converge_are_counted_and_not_compared(tmp_path: Path) -> None:
    kind = make_dataclass(
        "Bare", [("step", int), ("estimator", Literal["a", "b"]), ("angle_degrees", float),
                 ("converged", float)]
    )  # fmt: skip
    with open_run(tmp_path / "run.h5", tables={"checks": kind}, config={}, seed=0) as log:
        for name, angle, share in (("a", 1.0, 0.99), ("b", 5.0, 1.0), ("b", 80.0, 0.5)):
            log.log("checks", kind(0, name, angle, share))
    ranking = compare_runs([log.path], contest=ESTIMATORS).ranking
    assert [(r.name, r.counted, r.left_out) for r in ranking] == [("b", 1, 1), ("a", 0, 1)]
    assert ranking[0].mean == 5.0
    assert math.isnan(ranking[1].mean)


def test_an_estimator_is_ranked_by_its_feedforward_weights(tmp_path: Path) -> None:
    kind = make_dataclass(
        "Parted", [("step", int), ("estimator", Literal["a", "b"]),
                   ("parameter", Literal["all", "feedback", "feedforward"]),
                   ("angle_degrees", float)]
    )  # fmt: skip
    with open_run(tmp_path / "run.h5", tables={"gradients": kind}, config={}, seed=0) as log:
        for name, everything, back, forth in (("a", 60.0, 89.0, 2.0), ("b", 10.0, 11.0, 9.0)):
            for part, angle in (("all", everything), ("feedback", back), ("feedforward", forth)):
                log.log("gradients", kind(0, name, part, angle))
    found = compare_runs([log.path], contest=ESTIMATORS)
    assert [(r.name, r.mean) for r in found.ranking] == [("a", 2.0), ("b", 9.0)]
    panels = [panel for section in sections(found, LAYOUT) for panel in section.panels]
    (angles,) = [panel for panel in panels if panel.title.startswith("angle")]
    assert [np.asarray(line.y).tolist() for line in angles.lines] == [[2.0], [9.0]]


def test_tables_with_choices_have_a_curve_a_combination(tmp_path: Path) -> None:
    path = checks(tmp_path / "a.h5", {("vector-field", 0.1): [20.0, 10.0], ("asym-ep", 0.1): [3.0]})
    found = compare_runs([path, path], metrics=["checks/angle_degrees"])
    assert {name: m.values[0].tolist() for name, m in found.metrics.items()} == {
        "checks/angle_degrees[estimator=vector-field,parameter=all]": [15.0],
        "checks/angle_degrees[estimator=vector-field,parameter=bias]": [90.0],
        "checks/angle_degrees[estimator=asym-ep,parameter=all]": [3.0],
        "checks/angle_degrees[estimator=asym-ep,parameter=bias]": [90.0],
    }


def test_tolerances_are_for_the_largest_difference(three: list[Path]) -> None:
    assert compare_runs(three, tolerances={"loss": 4.0}).exceeded == ()
    (excess,) = compare_runs(three, tolerances={"metrics/loss": 3.9}).exceeded
    assert str(excess) == "metrics/loss differs by 4 at step 0; tolerance 3.9"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metrics": ["los"]}, "no metric 'los'; did you mean 'loss'"),
        ({"metrics": ["zzz"]}, "no metric 'zzz'; it has metrics/loss"),
        ({"tolerances": {"loss": -1.0}}, "tolerance loss=-1.0 must be a number >= 0"),
        ({"tolerances": {"loss": math.nan}}, "must be a number >= 0"),
    ],
)
def test_mistakes_are_named(three: list[Path], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare_runs(three, **settings)


def test_logs_that_cannot_be_compared_are_refused(tmp_path: Path, three: list[Path]) -> None:
    with pytest.raises(InputError, match="no logs"):
        compare_runs([])
    with pytest.raises(InputError, match="at least two logs"):
        compare_runs(three[:1], tolerances={"loss": 1.0})
    apart = write(tmp_path / "apart.h5", [1.0], first=100)
    with pytest.raises(InputError, match="no step in common"):
        compare_runs([three[0], apart], metrics=["loss"])
    with pytest.raises(InputError, match="no metric and step in common"):
        compare_runs([three[0], apart])
    checked = checks(tmp_path / "checked.h5", {("vector-field", 0.1): [20.0]})
    with pytest.raises(InputError, match="no metric and step in common"):
        compare_runs([three[0], checked])
    with open_run(tmp_path / "error.h5", tables={"errors": Error}, config={}, seed=0) as log:
        log.log("errors", Error(0, 1.0, 2.0))
    with pytest.raises(InputError, match=r"a\.h5: no metric 'errors/error'"):
        compare_runs([log.path, three[0]], metrics=["error"])
    with pytest.raises(InputError, match="no metric and step in common"):
        compare_runs([log.path, three[0]])


def test_one_log_is_described(three: list[Path]) -> None:
    found = compare_runs(three[:1])
    assert found.metrics["metrics/loss"].largest_difference == (0.0, 0)
    assert found.config_differences == {}


def test_tolerances_are_read_from_texts() -> None:
    assert parse_tolerances(["a=1", "t/b[c=d]=2e-3"]) == {"a": 1.0, "t/b[c=d]": 2e-3}
    for text in ("a", "a=x", "=1", ""):
        with pytest.raises(InputError, match="write NAME=VALUE"):
            parse_tolerances([text])


def test_the_command_prints_tables_and_ends_with_3_outside_a_tolerance(three: list[Path]) -> None:
    result = call(*three)
    assert result.exit_code == 0
    for text in ("logs", "configs differ in", "rate", "metrics at step 1", "A (2 seeds)", "±"):
        assert text in result.stdout
    lines = [line.split() for line in result.stdout.splitlines()]
    start = lines.index(["configs", "differ", "in"])
    # a column a config, not a run
    assert lines[start + 1] == ["key", "A", "B"]
    assert ["rate", "0.1", "0.2"] in lines[start:]
    result = call(*three, "--tolerance", "loss=1", "--tolerance", "metrics/loss=5")
    assert result.exit_code == 3
    assert result.stderr == "outside tolerance: metrics/loss differs by 4 at step 0; tolerance 1\n"


def test_the_command_ranks_estimators(tmp_path: Path) -> None:
    path = checks(tmp_path / "a.h5", {("vector-field", 0.1): [20.0], ("asym-ep", 0.1): [3.0]})
    lines = call(path).stdout.splitlines()
    start = lines.index("gradient estimates by angle to the true gradient")
    assert [line.split()[1] for line in lines[start + 2 :]] == ["asym-ep", "vector-field"]


def test_the_command_gives_json(three: list[Path]) -> None:
    result = call(*three, "--json", "--tolerance", "loss=1")
    assert result.exit_code == 3
    found = json.loads(result.stdout)
    assert [run["config"] for run in found["runs"]] == ["A", "A", "B"]
    assert found["config_differences"]["rate"] == [0.1, 0.1, 0.2]
    loss = found["metrics"]["metrics/loss"]
    assert (loss["common_steps"], loss["largest_difference"], loss["at_step"]) == (2, 4.0, 0)
    assert loss["last"] == [2.0, 2.5, 2.0]
    assert loss["configs"]["A"]["mean"] == 2.25
    assert loss["configs"]["B"] == {"mean": 2.0, "half_width": None, "seeds": 1}
    assert "values" not in loss
    assert found["exceeded"][0]["metric"] == "metrics/loss"
    with_curves = json.loads(call(*three, "--json", "--metric", "loss").stdout)
    assert with_curves["metrics"]["metrics/loss"]["values"] == [[4.0, 2.0], [5.0, 2.5], [8.0, 2.0]]


@pytest.mark.parametrize("args", [[], ["none.h5"], ["--tolerance", "loss", "none.h5"]])
def test_wrong_usage_of_the_command_is_one_line(args: list[str]) -> None:
    result = call(*args)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
