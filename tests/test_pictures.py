"""`--plot` of `eqprop-run` and `gradcheck`: what is plotted, when, and what is refused."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")

from bioplaus import LeakyField, check_gradients
from bioplaus.config import EqpropConfig
from bioplaus.phases import Settling
from bioplaus.training import build
from bioplaus_cli.gradient_view import gradient_panels, left_out
from bioplaus_cli.training_view import training_panels
from bridge.config import load_config
from bridge.report.panels import Images, Panel
from bridge.runlog import read_run
from tests.command_line import call, refused
from tests.resuming import command, end_at

TINY = ["--hidden", "8", "--set", "data.train_size=40", "--set", "data.test_size=30"]
TINY += ["--set", "batch_size=10", "--quiet", "--json"]
SMALL = ["--sizes", "6,5,4", "--batch", "3", "--quiet", "--json"]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The panels that a command draws."""
    from bridge.report import panels

    found: list[Any] = []
    original = panels.drawn

    def noted(given: Any, *args: Any, **more: Any) -> Any:
        found.extend(given)
        return original(given, *args, **more)

    monkeypatch.setattr(panels, "drawn", noted)
    return found


def curves(panel: Panel) -> dict[str, np.ndarray]:
    return {line.label: np.asarray(line.y, float) for line in panel.lines}


def test_a_run_draws_errors_angles_and_first_weights(tmp_path: Path, drawn: list[Any]) -> None:
    out, picture = tmp_path / "run.h5", tmp_path / "run.png"
    done = call("eqprop-run", *TINY, "--epochs", 2, "--plot", picture, "--out", out)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["plot"] == str(picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    log = read_run(out)
    errors, angles, images = drawn
    np.testing.assert_array_equal(curves(errors)["test"], log.table("epochs")["test_error"])
    cosines = np.cos(np.radians(curves(angles)["pair 1"]))
    np.testing.assert_allclose(cosines, log.table("epochs")["alignment_1"], rtol=1e-9)
    assert {place for place, _ in angles.references} == {0, 90}
    weights = log.weights()[1]["forward.1"]
    np.testing.assert_array_equal(images.arrays, weights.reshape(8, 28, 28))


@pytest.mark.slow
def test_checked_gradients_are_drawn_in_place_of_alignments(
    tmp_path: Path, drawn: list[Any]
) -> None:
    args = [*TINY, "--epochs", 1, "--check-gradients-every", 2, "--out", tmp_path / "run.h5"]
    done = call("eqprop-run", *args, "--plot", tmp_path / "run.svg")
    assert done.exit_code == 0, done.output
    rows = read_run(tmp_path / "run.h5").table("gradients")
    shown = curves(drawn[1])
    assert {"all", "forward.1", "forward.2"} <= shown.keys()
    mine = rows["angle_degrees"][rows["parameter"] == "forward.1"]
    np.testing.assert_array_equal(shown["forward.1"], mine)


@pytest.mark.slow
@pytest.mark.parametrize(("step", "panels"), [(6, 3), (2, 1)])
def test_an_interrupted_run_is_drawn_and_again_when_it_has_gone_on(
    tmp_path: Path, step: int, panels: int
) -> None:
    """After step 6 of 8 there is an epoch; after step 2 there are weights alone."""
    out, picture = tmp_path / "run.h5", tmp_path / "run.png"
    args = ["eqprop-run", *TINY, "--epochs", 2, "--plot", picture, "--out", out]
    assert command(args, end_at(step, signal.SIGTERM, saved=True)) == 75
    first = picture.read_bytes()
    assert first.startswith(b"\x89PNG")
    settings = load_config(EqpropConfig, base=read_run(out).config, base_name=str(out))
    assert len(training_panels(out, build(settings, "cpu"))) == panels
    assert command([*args, "--resume"]) == 0
    assert picture.read_bytes() != first


@pytest.mark.parametrize(
    ("shape", "network", "arrays"),
    [
        ((3, 6, 4), ["--hidden", "7"], (7, 6, 4)),
        ((1, 8, 8), ["--field", "convolutional", "--set", "network.channels=[3]"], (3, 3, 3)),
        ((5,), ["--hidden", "7"], None),
    ],
)
def test_first_weights_are_images_where_inputs_are(
    tmp_path: Path,
    drawn: list[Any],
    shape: tuple[int, ...],
    network: list[str],
    arrays: tuple[int, ...] | None,
) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "data.npz"
    y = np.arange(20) % 2
    x = rng.random((20, *shape), dtype=np.float32)
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)
    args = ["--dataset", path, "--epochs", 1, "--set", "batch_size=10", "--quiet", *network]
    done = call("eqprop-run", *args, "--plot", tmp_path / "a.png", "--out", tmp_path / "a.h5")
    assert done.exit_code == 0, done.output
    images = [panel for panel in drawn if isinstance(panel, Images)]
    assert [each.arrays.shape for each in images] == ([] if arrays is None else [arrays])


def test_gradients_are_drawn_by_oracle_estimate_and_parameter() -> None:
    g = torch.Generator().manual_seed(0)
    field = LeakyField([6, 5, 4], "tanh", asymmetry=0.5, generator=g, dtype=torch.float64)
    x = torch.rand(3, 6, generator=g, dtype=torch.float64)
    y = torch.tensor([0, 1, 2])
    report = check_gradients(field, x, y, betas=(1e-1, 1e-2))
    panels = gradient_panels(report.rows)
    assert [panel.y_label for panel in panels] == ["angle, degrees", "relative error"] * 2
    assert len({panel.title for panel in panels}) == 4
    for panel, oracle, measure in (
        (panels[0], "implicit", "angle_degrees"),
        (panels[3], "unrolled", "relative_error"),
    ):
        line = next(line for line in panel.lines if line.label == "asym-ep, beta 0.01")
        said = {
            row.parameter: getattr(row, measure)
            for row in report.rows
            if (row.estimator, row.beta, row.oracle) == ("asym-ep", 1e-2, oracle)
        }
        places = [panel.categories[round(place)] for place in np.asarray(line.x).tolist()]
        assert dict(zip(places, line.y, strict=True)) == said  # type: ignore[arg-type]
    assert left_out(report.rows) == ""


def test_a_picture_says_how_many_comparisons_it_leaves_out() -> None:
    field = LeakyField([6, 5, 4], generator=torch.Generator().manual_seed(0))
    few = Settling(tolerance=1e-9, free_steps=2, nudged_steps=2, verify=False)
    report = check_gradients(field, torch.ones(2, 6), torch.tensor([0, 1]), settling=few)
    assert gradient_panels(report.rows) == []
    assert left_out(report.rows).startswith(f"{len(report.rows)} of {len(report.rows)} comparisons")


def test_gradcheck_draws_what_it_prints(tmp_path: Path, drawn: list[Any]) -> None:
    picture = tmp_path / "g.pdf"
    done = call("gradcheck", *SMALL, "--plot", picture, "--out", tmp_path / "g.h5")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["plot"] == str(picture)
    assert picture.read_bytes().startswith(b"%PDF")
    assert len(drawn) == 4


@pytest.mark.slow
@pytest.mark.parametrize("args", [["eqprop-run", *TINY, "--epochs", "1"], ["gradcheck", *SMALL]])
def test_a_finished_run_is_drawn_with_resume(
    args: list[str], tmp_path: Path, drawn: list[Any]
) -> None:
    out, first, later = (tmp_path / name for name in ("r.h5", "a.svg", "b.svg"))
    said = json.loads(call(*args, "--out", out, "--plot", first).stdout)
    before = [*drawn]
    drawn.clear()
    log = out.read_bytes()
    again = call(*args, "--out", out, "--resume", "--plot", later)
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout) == {**said, "plot": str(later)}
    assert out.read_bytes() == log
    assert repr(drawn) == repr(before) != "[]"
    assert later.stat().st_size == pytest.approx(first.stat().st_size, rel=0.01)
    (tmp_path / "folder.svg").mkdir()
    assert refused(call(*args, "--out", out, "--resume", "--plot", tmp_path / "folder.svg"))


@pytest.mark.parametrize("args", [["eqprop-run", *TINY], ["gradcheck", *SMALL]])
def test_a_picture_that_cannot_be_drawn_is_refused(
    args: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.png").write_text("mine")
    Path("folder.png").mkdir()
    for name, words in (
        ("b.gif", [".png, .svg or .pdf"]),
        ("no/b.png", ["no folder no"]),
        ("mine.png", ["exists", "--overwrite"]),
        ("folder.png", ["a folder"]),
    ):
        assert refused(call(*args, "--plot", name), f"--plot {name}", *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.png", "mine.png"]
    assert Path("mine.png").read_text() == "mine"
    done = call(*args, "--plot", "mine.png", "--overwrite", "--out", "r.h5")
    assert done.exit_code == 0, done.output
    assert Path("mine.png").read_bytes().startswith(b"\x89PNG")
