"""`export` on the command line: an exported network is read back bit for bit."""

from __future__ import annotations

import json
import sys

import pytest

from bioplaus.interchange import from_nir, metadata, read_nir
from bridge.runlog import read_run
from tests.command_line import call, refused

TINY = ["--hidden", "8", "6", "--epochs", "1", "--set", "data.train_size=40", "--set"]
TINY += ["data.test_size=30", "--set", "batch_size=20", "--quiet"]


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run.h5"
    assert call("eqprop-run", *TINY, "--out", path).exit_code == 0
    return path


def test_a_trained_network_goes_to_nir_and_back_to_the_bit(log, tmp_path):
    pytest.importorskip("nir")
    path = tmp_path / "net.nir"
    result = call("export", log, "--nir", path, "--tau", "20 ms", "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["sizes"] == [784, 8, 6, 10]
    assert said["tau_seconds"] == 0.02
    run, graph = read_run(log), read_nir(path)
    field = from_nir(graph)
    step, weights = run.weights()
    assert said["step"] == step == 2
    assert weights.keys() == field.parameters.keys()
    for name, stored in weights.items():
        assert stored.tobytes() == field.parameters[name].numpy().tobytes(), name
    assert metadata(graph)["phases"]["phases"] == run.config["phases"]


def test_it_says_what_nir_cannot(log, tmp_path):
    pytest.importorskip("nir")
    result = call("export", log, "--nir", tmp_path / "net.nir")
    assert result.exit_code == 0, result.output
    assert all(word in result.stdout for word in ("activation rho", "nudge", "learning rule"))


@pytest.mark.parametrize("tau", ["5 mV", "10", "-1 ms", "x ms", "inf s", "0 s", "1e999 s"])
def test_a_wrong_time_is_refused(tau, log, tmp_path):
    assert refused(call("export", log, "--nir", tmp_path / "n.nir", f"--tau={tau}"), tau, "s, ms")
    assert list(tmp_path.iterdir()) == []


def test_bad_input(log, tmp_path):
    pytest.importorskip("nir")
    kept = tmp_path / "kept.nir"
    kept.write_text("mine")
    assert refused(call("export", log, "--nir", kept), "kept.nir", "already")
    assert kept.read_text() == "mine"
    assert refused(call("export", log, "--nir", tmp_path / "no" / "net.nir"), "written")
    assert refused(call("export", tmp_path / "none.h5", "--nir", tmp_path / "a.nir"), "none.h5")
    assert refused(call("export", kept, "--nir", tmp_path / "a.nir"), "kept.nir")
    assert refused(call("export", log), "--nir")
    assert [path.name for path in tmp_path.iterdir()] == ["kept.nir"]


def test_another_commands_log_is_refused(tmp_path):
    other = tmp_path / "g.h5"
    sizes = ["--sizes", "4,3", "--estimator", "vector-field", "--quiet"]
    assert call("gradcheck", *sizes, "--out", other).exit_code == 0
    assert refused(call("export", other, "--nir", tmp_path / "n.nir"), "g.h5", "weights")


def test_without_nir_the_extra_is_named(log, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nir", None)
    assert refused(call("export", log, "--nir", tmp_path / "net.nir"), "bioplaus[nir]")
    assert list(tmp_path.iterdir()) == []
