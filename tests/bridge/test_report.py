"""The page that compares logs: its numbers are those of the logs, and texts stay plain text."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import scipy.stats
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from bioplaus_cli.figure_layout import LAYOUT
from bridge import compare_runs, open_run
from bridge.report.figures import MOST_POINTS, Section, constants, labels, sections
from bridge.report.html import figure_names, page
from bridge.report.layout import Layout, Topic
from bridge.report.panels import Line, Panel
from bridge.report.scale import scale
from bridge.report.svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, drawing
from cli import main


@dataclass(frozen=True)
class Loss:
    step: int
    loss: float
    fixed: float


@dataclass(frozen=True)
class Check:
    step: int
    estimator: Literal["vector-field", "asym-ep", "implicit"]
    parameter: Literal["all", "bias"]
    beta: float
    angle_degrees: float
    asymmetry: float


@dataclass(frozen=True)
class Game:
    step: int
    context: int
    exploitability: float
    certificate: float


def losses(
    path: Path, values: Sequence[float], seed: int = 0, config: dict[str, Any] | None = None
) -> Path:
    config = {"seed": seed, **(config or {"rate": 0.1})}
    with open_run(
        path, tables={"metrics": Loss}, config=config, seed=seed, command="cli.py eqprop-run"
    ) as log:
        for step, value in enumerate(values):
            log.log("metrics", Loss(step, value, 3.0))
    return path


@pytest.fixture
def seeds(tmp_path: Path) -> list[Path]:
    """Three seeds of one config, and one of another."""
    draws = np.random.default_rng(0).normal(10, 1, size=(3, 6))
    paths = [losses(tmp_path / f"{i}.h5", list(row), i) for i, row in enumerate(draws)]
    return [*paths, losses(tmp_path / "b.h5", [9.0, 8.0, 7.0], 0, {"rate": 0.2})]


def panels(found: Sequence[Section], title: str) -> dict[str, Panel]:
    """The panels of a section by name."""
    (section,) = [each for each in found if each.title == title]
    return {panel.name: panel for panel in section.panels}


def call(*args: Any) -> Result:
    return CliRunner().invoke(main, ["compare", *map(str, args)])


def test_a_band_is_students_interval_over_seeds(seeds: list[Path]) -> None:
    found = compare_runs(seeds)
    (panel,) = panels(sections(found), "Curves").values()
    assert [line.faint for line in panel.lines] == [True, True, True, False, False]
    draws = np.stack([np.asarray(line.y) for line in panel.lines[:3]])
    low, high = scipy.stats.t.interval(
        0.95, 2, loc=draws.mean(axis=0), scale=scipy.stats.sem(draws, axis=0)
    )
    np.testing.assert_allclose(np.asarray(panel.lines[3].low, float), low, rtol=1e-12)
    np.testing.assert_allclose(np.asarray(panel.lines[3].high, float), high, rtol=1e-12)
    # a config is drawn over its own steps, not only over those that all configs have
    assert np.asarray(panel.lines[3].x).tolist() == list(range(6))
    assert np.asarray(panel.lines[4].y).tolist() == [9.0, 8.0, 7.0]
    assert {line.style for line in panel.lines[:4]} == {0}
    assert panel.lines[4].style == 1


def test_labels_say_what_configs_differ_in(seeds: list[Path]) -> None:
    assert labels(compare_runs(seeds)) == {"A": "A: rate 0.1", "B": "B: rate 0.2"}
    assert labels(compare_runs(seeds[:2])) == {"A": "A"}


def test_what_never_changes_is_told_and_not_drawn(seeds: list[Path]) -> None:
    found = compare_runs(seeds)
    assert constants(found) == {"metrics/fixed": 3.0}
    assert list(panels(sections(found), "Curves")) == ["metrics/loss"]
    assert "metrics/fixed = 3." in page(found)


def test_many_rows_become_means_that_keep_the_mean(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=1200)
    found = compare_runs([losses(tmp_path / "a.h5", list(values))])
    (panel,) = panels(sections(found), "Curves").values()
    (line,) = panel.lines
    y = np.asarray(line.y)
    assert len(y) == MOST_POINTS
    np.testing.assert_allclose(y, values.reshape(MOST_POINTS, 4).mean(axis=1), rtol=1e-12)
    assert "mean of up to 4 rows" in panel.note


def checks(path: Path, steps: Sequence[int], betas: Sequence[float]) -> Path:
    with open_run(path, tables={"gradients": Check}, config={"a": 1}, seed=0) as log:
        for step in steps:
            for beta in betas:
                log.log("gradients", Check(step, "vector-field", "all", beta, 10 + beta, 0.5))
                log.log("gradients", Check(step, "asym-ep", "all", beta, 100 * beta**2, 0.5))
                log.log("gradients", Check(step, "asym-ep", "bias", beta, 77.0, 0.5))
            log.log("gradients", Check(step, "implicit", "all", math.nan, 1e-6, 0.5 + step))
    return path


def test_estimates_of_one_step_are_drawn_over_beta(tmp_path: Path) -> None:
    found = sections(compare_runs([checks(tmp_path / "a.h5", [0], [1e-3, 1e-2, 1e-1])]), LAYOUT)
    panel = panels(found, "Gradients against the true one")["gradients/angle_degrees"]
    assert (panel.x_label, panel.x_logarithmic, panel.logarithmic) == ("beta", True, True)
    drawn = {line.label: (np.asarray(line.x), np.asarray(line.y)) for line in panel.lines}
    assert set(drawn) == {"estimator vector-field", "estimator asym-ep", "estimator implicit"}
    betas = np.array([1e-3, 1e-2, 1e-1])
    np.testing.assert_allclose(drawn["estimator asym-ep"][0], betas)
    np.testing.assert_allclose(drawn["estimator asym-ep"][1], 100 * betas**2, rtol=1e-12)
    # one without beta is the same at each
    np.testing.assert_allclose(drawn["estimator implicit"][1], [1e-6] * 3)


def test_estimates_of_many_steps_are_drawn_over_steps(tmp_path: Path) -> None:
    found = sections(compare_runs([checks(tmp_path / "a.h5", [0, 5, 9], [0.1])]), LAYOUT)
    panel = panels(found, "Gradients against the true one")["gradients/angle_degrees"]
    assert panel.x_label == "step"
    assert {tuple(np.asarray(line.x).tolist()) for line in panel.lines} == {(0, 5, 9)}
    assert 77.0 not in np.concatenate([np.asarray(line.y) for line in panel.lines])
    (line,) = panels(found, "Asymmetry")["gradients/asymmetry"].lines
    assert np.asarray(line.y).tolist() == [0.5, 0.5, 0.5]


def test_a_game_has_a_panel_a_context_and_the_mean_of_the_rest(tmp_path: Path) -> None:
    with open_run(tmp_path / "g.h5", tables={"metrics": Game}, config={}, seed=0) as log:
        for step in range(3):
            for context in range(2):
                log.log("metrics", Game(step, context, 10.0**-step + context, 1.0 + context + step))
    found = panels(sections(compare_runs([tmp_path / "g.h5"]), LAYOUT), "Exploitability")
    assert list(found) == [
        "metrics/exploitability-context 0",
        "metrics/exploitability-context 1",
        "metrics/certificate",
    ]
    assert np.asarray(found["metrics/certificate"].lines[0].y).tolist() == [1.5, 2.5, 3.5]
    assert "mean over 2 contexts" in found["metrics/certificate"].note


def test_without_a_layout_every_column_has_a_figure(tmp_path: Path) -> None:
    found = sections(compare_runs([checks(tmp_path / "a.h5", [0, 5, 9], [0.1])]))
    assert list(panels(found, "Curves")) == [
        "gradients/beta",
        "gradients/angle_degrees",
        "gradients/asymmetry",
    ]
    assert len(found) == 1


def test_a_layout_names_the_sections_and_leaves_counters_out(tmp_path: Path) -> None:
    layout = Layout(
        (Topic("Rest"), Topic("Sizes", ("s_*",), leave_out=("*_error",))), counters=("epoch",)
    )
    names = ["s_a", "s_error", "epoch", "cost", "Sizes"]
    columns = [("step", int), *((name, float) for name in names)]
    kind = make_dataclass("Row", columns)
    with open_run(tmp_path / "a.h5", tables={"metrics": kind}, config={}, seed=0) as log:
        for step in range(2):
            log.log("metrics", kind(step, *(step + 1.0 for _ in names)))
    found = sections(compare_runs([log.path]), layout)
    assert [each.title for each in found] == ["Rest", "Sizes"]
    assert list(panels(found, "Sizes")) == ["metrics/s_a"]
    assert list(panels(found, "Rest")) == ["metrics/cost", "metrics/Sizes"]
    text = page(compare_runs([log.path]), layout=layout)
    assert [text.count(f">{each}</h2>") for each in ("Rest", "Sizes")] == [1, 1]


def test_the_page_holds_the_numbers_and_needs_nothing_else(seeds: list[Path]) -> None:
    text = page(compare_runs(seeds), ["cli.py", "compare", "<a>.h5"])
    (block,) = re.findall(r'<script type="application/json">(.*?)</script>', text)
    lines = json.loads(block)["lines"]
    assert lines[4]["y"] == [9.0, 8.0, 7.0]
    assert not re.search(r'(src|href|action)\s*=\s*(?!"#)|url\(|@import|https?://', text)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text
    assert "cli.py compare &#x27;&lt;a&gt;.h5&#x27;" in text
    for path in seeds:
        assert hashlib.sha256(path.read_bytes()).hexdigest()[:16] in text
    assert "A (3 seeds)" in text


def test_texts_of_a_log_cannot_become_markup(tmp_path: Path) -> None:
    bad = '</script><img src=x onerror="alert(1)">\'&'
    paths = [
        losses(tmp_path / f"{i}.h5", [1.0, 2.0], 0, {bad: bad + str(i), "n": i}) for i in range(2)
    ]
    text = page(compare_runs(paths), [bad], title=bad)
    assert "<img" not in text
    assert text.count("</script>") == 2
    assert html.escape(bad) in text


def test_figures_are_named_apart_and_within_their_folder() -> None:
    lines = [Line("a", [0, 1], [1, 2])]
    names = ["metrics/loss", "metrics-loss", "../../x", "", "a" * 300]
    section = Section("s", tuple(Panel("t", "step", lines, name=name) for name in names))
    named = figure_names([section])
    assert list(named) == ["metrics-loss", "metrics-loss-2", "x", "figure", "a" * 80]
    assert [panel.name for panel in named.values()] == names


def test_the_command_writes_a_page_and_a_picture_a_figure(seeds: list[Path]) -> None:
    folder = seeds[0].parent
    result = call(*seeds, "--report", folder / "r.html", "--png", folder / "png", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["files"] == [
        str(folder / "r.html"),
        str(folder / "png" / "metrics-loss.png"),
    ]
    assert (folder / "png" / "metrics-loss.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "r.html").read_text("utf-8").count("<figure") == 1
    assert sorted(path.name for path in folder.iterdir()) == [
        "0.h5", "1.h5", "2.h5", "b.h5", "png", "r.html",
    ]  # fmt: skip


def test_nothing_is_overwritten_unasked(seeds: list[Path]) -> None:
    folder = seeds[0].parent
    taken = folder / "r.html"
    taken.write_text("mine")
    (folder / "png").mkdir()
    (folder / "png" / "x").write_text("mine")
    for arguments, word in (
        (("--report", taken), "exists"),
        (("--report", folder / "r.txt"), ".html"),
        (("--report", folder / "none" / "r.html"), "no folder"),
        (("--report", folder), ".html"),
        (("--png", folder / "png"), "not empty"),
        (("--png", taken), "no folder"),
    ):
        result = call(*seeds, *arguments)
        assert result.exit_code == 2
        assert word in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert taken.read_text() == "mine"
    assert call(*seeds, "--report", taken, "--overwrite").exit_code == 0
    assert taken.read_text("utf-8").startswith("<!doctype html>")


finite = st.floats(-1e12, 1e12, allow_nan=False)


@given(st.lists(finite, min_size=1, max_size=20))
def test_a_linear_axis_shows_every_value_between_round_ticks(values: list[float]) -> None:
    axis = scale(values)
    places = axis(values)
    assert ((places >= 0) & (places <= 1)).all()
    assert 2 <= len(axis.ticks) <= 11
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)
    steps = np.diff(axis.ticks)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)


@given(st.lists(st.floats(1e-30, 1e30), min_size=1, max_size=20))
def test_a_logarithmic_axis_shows_every_value_between_powers(values: list[float]) -> None:
    axis = scale(values, logarithmic=True)
    places = axis(values)
    assert ((places > -1e-6) & (places < 1 + 1e-6)).all()
    assert all(math.log10(tick) == pytest.approx(round(math.log10(tick))) for tick in axis.ticks)


def test_a_logarithmic_axis_has_no_place_for_zero() -> None:
    axis = scale([0.0, 1.0, 10.0], logarithmic=True)
    assert np.isnan(axis([0.0, -1.0, math.nan])).all()
    assert axis([1.0, 10.0]).tolist() == [0.0, 1.0]


def test_a_drawing_puts_points_where_they_belong_and_breaks_at_nan() -> None:
    line = Line("a", [0, 1, 2, 3, 4], [0.0, 10.0, math.nan, 5.0, 0.0])
    text = drawing(Panel("<t>", "step", [line]))
    (trace,) = re.findall(r'class="line c0" data-line="0" d="([^"]*)"', text)
    assert trace.count("M") == 2
    x, y = map(float, re.findall(r"[\d.]+", trace)[2:4])
    assert x == pytest.approx(LEFT + 0.25 * (WIDTH - LEFT - RIGHT), abs=0.05)
    top = TOP + (HEIGHT - TOP - BOTTOM) * (0.4 / 10.8)
    assert y == pytest.approx(top, abs=0.05)
    assert "&lt;t&gt;" in text
    assert "nan" not in text


def test_values_that_are_not_numbers_make_no_drawing_fail() -> None:
    for values in (
        [math.nan],
        [math.inf, -math.inf],
        [0.0, 0.0],
        [5e-324, 1e308],
        [0.0, 5e-324],
        [1e308],
        [-1e308, 1.7e308],
        [1e-323],
    ):
        for logarithmic in (False, True):
            text = drawing(Panel("t", "step", [Line("a", range(len(values)), values)], logarithmic))
            assert "nan" not in text
            assert "inf" not in text
