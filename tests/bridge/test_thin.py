"""Long tables held in part: statements about all rows are right, and the extremes are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bridge.report.figures import sections
from bridge.report.terminal import watch
from bridge.runlog import compare_runs, open_run, stream, thin
from bridge.runlog.compare import Comparison
from tests.bridge.records import Step

ROWS = 3000


@pytest.fixture
def logs(tmp_path: Path) -> list[Path]:
    """Two noisy runs, one of them shorter and with a step in two; each with a spike and a NaN."""
    paths = [tmp_path / "a.h5", tmp_path / "b.h5"]
    for seed, path in enumerate(paths):
        noise = np.random.default_rng(seed).standard_normal(ROWS)
        noise[1234 + seed] = 50 + seed
        noise[2000] = np.nan
        with open_run(path, tables={"metrics": Step}, config={}, seed=seed) as log:
            for step in range(0, ROWS - 101 * seed, 1 + seed):
                phase = "free" if step % 3 else "nudged"
                log.log("metrics", Step(step, noise[step], step % 5 == 0, phase))
    return paths


NAMES = [f"metrics/loss[phase={phase}]" for phase in ("free", "nudged")]


def _sampled(monkeypatch: pytest.MonkeyPatch, logs: list[Path]) -> Comparison:
    with monkeypatch.context() as patch:
        patch.setattr(thin, "LIMIT", 500)
        patch.setattr(thin, "STRETCHES", 20)
        patch.setattr(stream.LogFile.blocks, "__defaults__", (97,))
        patch.setattr(stream.LogFile.windows, "__defaults__", (97,))
        return compare_runs(logs, metrics=NAMES)


def test_what_is_told_of_all_rows_does_not_change(
    monkeypatch: pytest.MonkeyPatch, logs: list[Path]
) -> None:
    asked = compare_runs(logs, metrics=NAMES)
    found = _sampled(monkeypatch, logs)
    assert found.sampled == {"metrics": ROWS}
    assert len(found.runs[0].table()["step"]) < ROWS / 3
    for name in NAMES:
        assert found.metrics[name].common_steps == len(asked.metrics[name].steps)
        assert found.metrics[name].largest_difference == asked.metrics[name].largest_difference
        assert found.metrics[name].steps[-1] == asked.metrics[name].steps[-1]


def test_who_looks_on_sees_the_newest_of_a_long_run(
    monkeypatch: pytest.MonkeyPatch, logs: list[Path]
) -> None:
    (whole,) = watch(logs[0], NAMES)
    monkeypatch.setattr(thin, "LIMIT", 500)
    (view,) = watch(logs[0], NAMES)
    assert (view.step, view.newest) == (whole.step, whole.newest)
    assert len(view.run.table()["step"]) < ROWS


def test_extremes_and_gaps_stay(monkeypatch: pytest.MonkeyPatch, logs: list[Path]) -> None:
    found = _sampled(monkeypatch, logs)
    for run, spike in zip(found.runs, (50.0, 51.0), strict=True):
        loss = run.table()["loss"]
        # The second run has even steps only, so its spike at 1235 is none of them.
        assert np.nanmax(loss) == (spike if spike == 50 else np.nanmax(loss))
        assert np.isnan(loss[run.table()["step"] == 2000]).all()
    panels = [panel for section in sections(found) for panel in section.panels]
    loss = next(panel for panel in panels if panel.title == "loss")
    assert "of 3000 rows those with the extremes of each stretch" in loss.note
    assert max(float(np.nanmax(np.asarray(line.y))) for line in loss.lines) == 50.0
