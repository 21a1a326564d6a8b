"""`gradcheck` accepts every network setting of `eqprop-run`, and users' code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bioplaus.config import EqpropConfig, GradcheckConfig, LeakyConfig
from bridge.config import valid_keys
from bridge.runlog import read_run
from tests.command_line import call, refused
from tests.test_fields_by_name import CODE

SMALL = ["gradcheck", "--sizes", "6,7,3", "--batch", 4, "--beta", 1e-3, "--json"]
SMALL += ["--oracle", "implicit", "--out", "g.h5", "--estimator", "asym-ep"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, in which the command runs."""
    (tmp_path / "mine.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_no_setting_of_a_network_is_missing() -> None:
    keys = {f"network.{name}" for name in LeakyConfig.model_fields}
    assert {"network.field", "network.tied", "network.feedback_gain"} <= keys
    assert keys <= set(valid_keys(EqpropConfig)) & set(valid_keys(GradcheckConfig))


NETWORKS = {
    "tied": ["--set", "network.tied=true"],
    "gains": ["--set", "network.gain=0.2", "--set", "network.feedback_gain=0.3"],
    "nonlinear outputs": ["--set", "network.linear_output=false"],
    "target vectors": ["--targets", "vectors", "--cost", "cross-entropy"],
    "activation of the user's": ["--activation", "mine.py:bend"],
    "field of the user's": ["--field", "mine.py:net", "--set", "network.width=5"],
    "cost of the user's": ["--cost", "mine:cost"],
    "estimator of the user's": ["--estimator", "mine.py:Rule"],
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_exact_rule_is_exact_on_each(name: str) -> None:
    args = list(SMALL)
    if name.startswith("field"):
        args[2] = "6,3"
    result = call(*args, *NETWORKS[name])
    assert result.exit_code == 0, result.output
    rows = [row for row in json.loads(result.stdout)["rows"] if row["parameter"] == "all"]
    assert len(rows) == 1 + name.startswith("estimator")
    assert all(row["relative_error"] < 1e-5 for row in rows)
    noted = [e["what"] for e in read_run("g.h5").events if e["kind"] == "code"]
    assert noted == ([name.split()[0]] if "user" in name else [])


def test_hidden_layers_are_said_once() -> None:
    args = [*SMALL[:1], *SMALL[3:], "--set", "network.hidden=[4, 3]"]
    assert call(*args).exit_code == 0
    config = read_run("g.h5").config
    assert (config["sizes"], config["network"]["hidden"]) == ([20, 4, 3, 10], [4, 3])
    assert call(*SMALL, "--overwrite").exit_code == 0
    assert read_run("g.h5").config["network"]["hidden"] == [7]
    said = call(*SMALL, "--set", "network.hidden=[4]", "--overwrite")
    assert refused(said, "sizes=[6, 7, 3]", "network.hidden=[4]")
    assert refused(call(*SMALL, "--field", "mine.py:net", "--overwrite"), "sizes=[6, 3]")


def test_keys_of_earlier_versions_are_taken(here: Path) -> None:
    assert call(*SMALL, "--set", "gain=0.2", "--set", "angle=30").exit_code == 0
    network = read_run("g.h5").config["network"]
    assert (network["gain"], network["angle"], network["asymmetry"]) == (0.2, 30, None)
    assert refused(call(*SMALL, "--set", "gain=-1", "--overwrite"), "--set gain=-1: must be > 0")


def test_a_field_that_does_not_fit_is_one_line() -> None:
    args = ["gradcheck", "--field", "mine.py:ready"]
    assert refused(call(*args), "n_output=3", "sizes=[20, 10]")
    assert call(*args, "--sizes", "12,3", "--quiet").exit_code == 0
