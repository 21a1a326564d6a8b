"""The engine brian2 on the command line, with and without the package."""

from __future__ import annotations

import json
import sys

import pytest

from bioplaus.errors import InputError
from tests.command_line import call, refused

TINY = ["--hidden", "8", "--epochs", "1", "--set", "data.train_size=40", "--set"]
TINY += ["data.test_size=30", "--set", "batch_size=20", "--quiet", "--json"]
SMALL = ["--sizes", "6,5,4", "--batch", "3", "--estimator", "asym-ep", "--json"]


@pytest.fixture
def brian2():
    try:
        from bioplaus.engines.package import load_brian2

        return load_brian2()
    except InputError as error:
        pytest.skip(f"could not import 'brian2': {error}")


@pytest.fixture
def without_brian2(monkeypatch):
    monkeypatch.setitem(sys.modules, "brian2", None)


def test_a_gradient_is_checked_in_brian2(brian2, tmp_path):
    result = call("gradcheck", *SMALL, "--engine", "brian2", "--out", tmp_path / "g.h5")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    both = [row for row in rows if row["parameter"] == "all"]
    assert {row["oracle"] for row in both} == {"implicit", "unrolled"}
    for whole in both:
        assert whole["relative_error"] < 1e-3
        assert whole["converged"] == 1


def test_a_network_learns_in_brian2_as_it_does_in_torch(brian2, tmp_path):
    ends = {}
    for engine in ("brian2", "torch"):
        flags = ["--set", "phases.tolerance=1e-7", "--set", "phases.free_steps=300"]
        flags += ["--set", "phases.nudged_steps=300", "--set", 'dtype="float64"']
        result = call(
            *("eqprop-run", *TINY, *flags, "--engine", engine),
            *("--out", tmp_path / f"{engine}.h5"),
        )
        assert result.exit_code == 0, result.output
        ends[engine] = json.loads(result.stdout)["train_error"]
    assert ends["brian2"] == ends["torch"]
    logs = [tmp_path / f"{engine}.h5" for engine in ends]
    result = call("compare", *logs, "--tolerance", "cost=1e-6", "--json")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["eqprop-run", *TINY, "--set", 'phases.brian2.tau="5 mV"'], ["tau='5 mV'", "10 ms"]),
        (["eqprop-run", *TINY, "--estimator", "holomorphic"], ["holomorphic", "vector-field"]),
        (["gradcheck", *SMALL, "--estimator", "dyadic"], ["dyadic", "vector-field"]),
        (["gradcheck", *SMALL, "--set", 'brian2.method="heun"'], ["method", "rk4"]),
    ],
)
def test_bad_input(brian2, args, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused(call(*args, "--engine", "brian2"), *words)
    assert list(tmp_path.rglob("*.h5")) == []


def test_an_unknown_engine_is_refused(tmp_path):
    result = call("gradcheck", *SMALL, "--engine", "nest", "--out", tmp_path / "g.h5")
    assert refused(result, "engine", "'torch' or 'brian2'")


@pytest.mark.parametrize("command", ["eqprop-run", "gradcheck"])
def test_without_brian2_the_extra_is_named(command, without_brian2, tmp_path):
    args = TINY if command == "eqprop-run" else SMALL
    out = tmp_path / "run.h5"
    assert refused(call(command, *args, "--engine", "brian2", "--out", out), "bioplaus[brian]")
    assert not out.exists()
    assert call(command, *args, "--out", out).exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "left_out"),
    [
        ([], 0),
        (["--set", 'network.activation="softplus"', "--set", 'network.coordinates="activity"'], 2),
    ],
)
def test_the_trained_network_is_drawn(brian2, network, left_out, tmp_path):
    picture = tmp_path / "brian.png"
    flags = ["--engine", "brian2", "--plot", picture, "--out", tmp_path / "r.h5", *network]
    result = call("eqprop-run", *TINY, *flags)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["plot"] == str(picture)
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert len([line for line in result.stderr.splitlines() if line.startswith("no ")]) == left_out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--plot", "b.gif", "--engine", "brian2"], ["b.gif", ".png"]),
        (["--plot", "no/b.png", "--engine", "brian2"], ["no folder"]),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_refused(brian2, flags, words, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    assert refused(call("eqprop-run", *TINY, *flags), *words)
    assert list(tmp_path.iterdir()) == []
