"""The library in a user's ten lines: its imports, `fit` and its history."""

from __future__ import annotations

import ast
import copy
import pickle
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bioplaus
from bioplaus import (
    AsymEP,
    FunctionField,
    History,
    LeakyField,
    Settling,
    check_field,
    check_gradients,
    fit,
)
from bioplaus.config import EqpropConfig
from bioplaus.errors import InputError
from bioplaus.training import build, train
from bridge.config import load_config
from bridge.errors import RunFailed
from bridge.optim import Optimizer
from bridge.runlog import read_run
from tests.graphs import FIELDS, batch

ROOT = Path(__file__).parents[1]
G = torch.Generator().manual_seed(0)
X = torch.randn(240, 6, generator=G)
Y = (X[:, 0] * X[:, 1] > 0).long()
DATA = (X[:160], Y[:160], X[160:], Y[160:])
TIMES = ("seconds", "images_per_second")


def leaky() -> LeakyField:
    g = torch.Generator().manual_seed(1)
    return LeakyField([6, 12, 2], "tanh", feedback_gain=0.5, generator=g)


def numbers(rows: list[object]) -> list[dict[str, float]]:
    return [{k: v for k, v in vars(row).items() if k not in TIMES} for row in rows]


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_readme_trains_a_field_that_the_package_has_never_seen() -> None:
    torch.manual_seed(0)
    known: dict[str, Any] = {}
    readme = (ROOT / "README.md").read_text("utf-8")
    (shown,) = re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    exec(compile(shown, "README.md", "exec"), known)
    history, field = known["history"], known["field"]
    assert isinstance(history, History)
    assert isinstance(field, FunctionField)
    assert history.rows[-1].test_error < 10  # chance is 50 %
    assert history.rows[-1].train_error < 0.5 * history.rows[0].train_error
    guess = field.predict(known["x"]).argmax(1)
    assert float((guess == known["y"]).double().mean()) > 0.9
    precise = field.precise()
    report = check_gradients(
        precise,
        known["x"][:8],
        known["y"][:8],
        "cross-entropy",
        AsymEP(beta=1e-3),
    )
    (row,) = [r for r in report.rows if r.parameter == "all" and r.oracle == "implicit"]
    assert row.relative_error is not None
    assert row.relative_error < 1e-6


@pytest.mark.slow
def test_without_a_log_nothing_is_written_and_h5py_is_not_needed(tmp_path: Path) -> None:
    said = run_python(
        "import sys, os; sys.modules['h5py'] = None\n"
        "import torch, bioplaus\n"
        f"here = {str(tmp_path)!r}; sys.path.insert(0, os.getcwd()); os.chdir(here)\n"
        "x = torch.rand(40, 3); y = (x[:, 0] > 0.5).long()\n"
        "h = bioplaus.fit(bioplaus.LeakyField([3, 4, 2]), (x, y), epochs=2)\n"
        "print(len(h.rows), h.path, os.listdir('.'))"
    )
    assert said == "2 None []"


def test_to_import_the_package_imports_little_and_never_a_log() -> None:
    said = run_python(
        "import sys, torch; before = set(sys.modules); import bioplaus\n"
        "print(sorted({m.split('.')[0] for m in set(sys.modules) - before}))\n"
        "import bioplaus.training; print('h5py' in sys.modules, 'scipy' in sys.modules)"
    )
    assert said.splitlines()[0] == "['bioplaus']"
    assert said.splitlines()[1].split()[0] == "False"


def test_every_exported_name_is_there_and_known_to_a_type_checker() -> None:
    tree = ast.parse(Path(bioplaus.__file__).read_text("utf-8"))
    typed = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("bioplaus.")
        for alias in node.names
    }
    assert typed - {"version"} == set(bioplaus.__all__)
    assert all(getattr(bioplaus, name) is not None for name in bioplaus.__all__)
    assert set(bioplaus.__all__) <= set(dir(bioplaus))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        bioplaus.nonsense  # noqa: B018


def test_the_version_is_that_of_the_project_and_the_package_runs_as_a_program() -> None:
    import tomllib

    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert bioplaus.__version__ == version
    done = subprocess.run(
        [sys.executable, "-m", "bioplaus", "--version"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.split()[-1]) == (0, version)
    for package in ("bioplaus", "nlhf", "bridge", "bioplaus_cli"):
        assert (ROOT / package / "py.typed").exists()


def test_fit_is_the_loop_of_the_command_line() -> None:
    sets = ["network.hidden=[16]", "data.train_size=200", "data.test_size=50", "epochs=2"]
    sets += ["estimator.name=asym-ep", "check_gradients_every=3", "check_rows=2"]
    run = build(load_config(EqpropConfig, sets=sets))
    net = copy.deepcopy(run.field)
    steps, epochs, checks = [], [], []
    train(run, on_step=steps.append, on_epoch=epochs.append, on_check=checks.append)
    told: list[object] = []
    history = fit(
        net,
        run.dataset,
        estimator="asym-ep",
        settling=run.estimator.settling,
        optimizer="sgd",
        learning_rate=0.5,
        rates={"forward.2": 0.1, "bias.2": 0.1, "feedback.1": 0.1},
        epochs=2,
        callbacks=told.append,
        check_gradients_every=3,
        check_rows=2,
    )
    assert net == run.field
    assert numbers(history.rows) == numbers(epochs) == numbers(told)
    assert history.steps == steps
    assert [r.angle_degrees for r in history.checks] == [r.angle_degrees for r in checks]


@pytest.mark.parametrize("by_ctrl_c", [True, False], ids=["signal", "exception"])
def test_ctrl_c_leaves_what_there_is_and_a_log_to_go_on_with(
    tmp_path: Path, by_ctrl_c: bool
) -> None:
    whole, part = leaky(), leaky()
    expected = fit(whole, DATA, epochs=3, out=tmp_path / "whole.h5")
    assert expected.status == "finished"

    def stop(row: object) -> None:
        if row.epoch == 2:  # type: ignore[attr-defined]
            if not by_ctrl_c:
                raise KeyboardInterrupt
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    for out in (None, tmp_path / "part.h5"):
        part = leaky()
        history = fit(part, DATA, epochs=3, callbacks=[stop], out=out)
        assert (history.status, [r.epoch for r in history.rows]) == ("stopped", [1, 2])
        assert numbers(history.rows) == numbers(expected.rows[:2])
    assert signal.getsignal(signal.SIGINT) is before
    again = leaky()
    history = fit(again, DATA, epochs=3, out=tmp_path / "part.h5", resume=True)
    assert again == whole
    assert numbers(history.rows) == numbers(expected.rows)
    assert history.steps == expected.steps
    # once more, where there is nothing left to do
    again = leaky()
    same = fit(again, DATA, epochs=3, out=tmp_path / "part.h5", resume=True)
    assert again == whole
    assert numbers(same.rows) == numbers(expected.rows)
    with pytest.raises(InputError, match="batch_size=50, not 10"):
        fit(again, DATA, epochs=3, batch_size=10, out=tmp_path / "part.h5", resume=True)
    with pytest.raises(InputError, match=r"cosine.*reschedule=True"):
        fit(again, DATA, epochs=5, out=tmp_path / "part.h5", resume=True)


def test_a_log_of_fit_holds_its_rows_its_weights_and_whose_code_ran(tmp_path: Path) -> None:
    field = FIELDS["gated"]()
    x, _ = batch(field, rows=40)
    y = np.arange(40) % 3
    history = fit(field, (x, y), epochs=2, out=tmp_path / "run.h5", log_every=1)
    run = read_run(tmp_path / "run.h5")
    assert run.status == "finished"
    assert run.tables["epochs"]["cost"].tolist() == [r.cost for r in history.rows]
    assert run.tables["metrics"]["step"].tolist() == [r.step for r in history.steps]
    for name, values in run.weights()[1].items():
        assert np.array_equal(values, field.parameters[name].numpy())
    (code,) = [e for e in run.events if e["kind"] == "code"]
    assert (code["what"], Path(code["file"]).name) == ("field", "graphs.py")
    assert run.config["estimator"]["name"] == "asym-ep"


def test_a_callback_that_fails_is_told_with_its_place_and_a_way_on(tmp_path: Path) -> None:
    def bad(row: object) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        fit(leaky(), DATA, epochs=1, callbacks=bad)
    with pytest.raises(RunFailed, match=r"test_library.*mine.*resume=True"):
        fit(leaky(), DATA, epochs=1, callbacks=bad, out=tmp_path / "run.h5")


def test_a_network_that_diverges_says_so_in_terms_of_fit() -> None:
    wild = LeakyField([6, 30, 2], "linear", gain=3.0, feedback_gain=3.0, generator=G)
    few = Settling(tolerance=1e-3, free_steps=20, nudged_steps=10, verify=False)
    with pytest.raises(RunFailed) as told:
        fit(wild, DATA, epochs=60, settling=few)
    assert "--set" not in str(told.value)


def test_history_shows_itself() -> None:
    pytest.importorskip("pandas")
    pytest.importorskip("matplotlib")
    history = fit(leaky(), DATA[:2], epochs=2, check_gradients_every=4)
    assert repr(history).splitlines()[1].split()[:3] == ["epoch", "cost", "train_error"]
    assert len(history.to_dataframe()) == 2
    assert len(history.to_dataframe("steps")) == len(history.steps) == 8
    assert set(history.to_dataframe("checks")["oracle"]) == {"implicit"}
    assert len(history.plot().axes) >= 3
    for other in (copy.deepcopy(history), pickle.loads(pickle.dumps(history))):
        assert other == history
        assert other.rows[-1] == history.rows[-1] or np.isnan(history.rows[-1].test_error)
    with pytest.raises(InputError, match="table='x'"):
        history.to_dataframe("x")
    with pytest.raises(InputError, match="first epoch"):
        History().plot()


def test_reports_show_themselves() -> None:
    pytest.importorskip("pandas")
    field = FIELDS["gated"]()
    x, y = batch(field)
    report = check_gradients(field, x, y, "cross-entropy", AsymEP(beta=1e-3), oracles="implicit")
    assert len(report.to_dataframe()) == len(report.rows) > 1
    assert "asym-ep" in repr(report)
    assert "relative_error" in repr(report)
    assert pickle.loads(pickle.dumps(report)) == report
    found = check_field(field)
    assert len(found.to_dataframe()) == len(found.rows)
    assert found.rows[0].what in repr(found)


def test_names_classes_and_objects_mean_the_same() -> None:
    def cubed(s: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (s - y).abs().pow(3).sum(1)

    def trained(**settings: object) -> LeakyField:
        field = leaky()
        if settings.pop("own", False):
            settings["optimizer"] = Optimizer(field.parameters, method="sgd", learning_rate=0.1)
        fit(field, DATA, epochs=1, **settings)
        return field

    assert trained(estimator="asym-ep") == trained(estimator=AsymEP) == trained(estimator=AsymEP())
    anderson = bioplaus.Anderson()
    assert trained(solver="anderson") == trained(solver=anderson)
    assert trained(own=True) == trained(optimizer="sgd", learning_rate=0.1, schedule="constant")
    assert trained(cost=cubed) != trained()
    with pytest.raises(InputError, match="other tensors than the field's"):
        fit(leaky(), DATA, optimizer=Optimizer(leaky().parameters, learning_rate=0.1))


def test_images_keep_their_shape_for_a_formula_that_takes_them() -> None:
    x, y = torch.rand(30, 1, 4, 4), torch.arange(30) % 2
    seen: set[tuple[int, ...]] = set()

    def mu(p: dict[str, torch.Tensor], x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        seen.add(tuple(x.shape[1:]))
        return torch.nn.functional.conv2d(x, p["k"]).flatten(1)[:, :4] + s @ p["w"].T - s

    def flat(p: dict[str, torch.Tensor], x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return x @ p["u"].T - s

    field = FunctionField(mu, {"k": torch.rand(1, 1, 3, 3), "w": 0 * torch.eye(4)}, n=4, n_output=2)
    fit(field, (x, y), epochs=1)
    assert seen == {(1, 4, 4)}
    assert field.predict(x.flatten(1)).shape == (30, 2)
    other = FunctionField(flat, {"u": torch.rand(4, 16)}, n=4, n_output=2)
    fit(other, (x, y), epochs=1)
    assert other.input == (16,)


def test_one_class_of_mistakes() -> None:
    import bridge.errors
    import nlhf.errors

    assert InputError is bridge.errors.InputError is nlhf.errors.InputError
    assert bioplaus.InputError is InputError
