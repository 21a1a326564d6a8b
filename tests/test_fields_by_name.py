"""A user's field, cost, activation, estimator and data by name: train, log, resume."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path

import pytest
import torch

from bridge.runlog import read_run
from tests.command_line import call, refused
from tests.resuming import command, end_at, fingerprint, same_as

CODE = """
from dataclasses import dataclass

import torch
from bioplaus import Activation, AsymEP, Conv, Dense, FunctionField, Layer, LayeredField
from bioplaus import VectorField


def mu(p, x, s):
    return torch.tanh(s @ p["w"].T + x.flatten(1) @ p["u"].T + p["b"]) - s


def weights(n, n_input, generator=None):
    draw = {"w": (n, n), "u": (n, n_input)}
    made = {k: 0.3 * torch.randn(v, generator=generator) / v[1] ** 0.5 for k, v in draw.items()}
    return {**made, "b": torch.zeros(n)}


def net(n_input, n_output, generator, width: int = 8):
    n = width + n_output
    return FunctionField(mu, weights(n, n_input, generator), n=n, n_output=n_output)


class Net(VectorField):
    def __init__(self, n_input, n_output, *, generator, gain: float = 0.3):
        super().__init__(weights(6, n_input, generator), n=6, n_output=n_output)
        self.gain = gain

    def field(self, x, s):
        return self.gain * mu(self.parameters, x, s) - (1 - self.gain) * s


ready = FunctionField(mu, weights(9, 12, torch.Generator().manual_seed(3)), n=9, n_output=3)
picture = FunctionField(
    lambda p, x, s: mu(p, x.mean(1), s), weights(9, 12), n=9, n_output=3, input=(1, 3, 4)
)


def layered(input, n_output, generator, dtype, activation="tanh", feedback_gain: float = 0.4):
    layers = [Layer((2, 3, 4), activation), Layer(n_output, "linear")]
    joined = [Conv(0, 1), Dense(1, 2), Dense(2, 1, gain=feedback_gain)]
    return LayeredField(input, layers, joined, generator=generator, dtype=dtype)


rho = Activation("mine", torch.sin)


def bend(s):
    return torch.tanh(2 * s)


def cost(s, y):
    return 0.5 * (s - y).square().sum(1)


@dataclass(frozen=True)
class Rule(AsymEP):
    scale: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        if self.scale <= 0:
            raise ValueError(f"scale={self.scale} must be above 0")

    def adjust(self, updates, batch, accepted):
        for update in updates.values():
            update.mul_(self.scale)


def load():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(45, 3, 4, generator=g)
    y = x.flatten(1)[:, :3].argmax(1)
    return x[:30], y[:30], x[30:], y[30:]
"""
DATA = ["eqprop-run", "--dataset", "mine.py:load", "--epochs", 2, "--seed", 3, "--quiet"]
DATA += ["--set", "batch_size=6"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, in which the command runs."""
    (tmp_path / "mine.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


FORMS = {
    "function": ["--field", "mine.py:net", "--set", "network.width=5"],
    "class": ["--field", "mine:Net", "--set", "network.gain=0.5"],
    "object": ["--field", "mine.py:ready"],
    "of a shape": ["--field", "mine.py:picture", "--set", "dtype=float64"],
    "layers": ["--field", "mine.py:layered", "--activation", "mine.py:rho"],
    "layers, rho by name": ["--field", "mine.py:layered", "--activation", "softplus"],
    "rho of value alone": [
        *("--activation", "mine.py:bend", "--set", "network.coordinates=membrane"),
        *("--hidden", 5),
    ],
}


@pytest.mark.parametrize("form", FORMS)
def test_a_field_in_every_form_is_trained(form: str) -> None:
    args = [*DATA, *FORMS[form], "--estimator", "asym-ep", "--cost", "mine.py:cost"]
    args += ["--set", "estimator.beta=0.02", "--set", "phases.tolerance=1e-6"]
    result = call(*args, "--out", "run.h5", "--check-gradients-every", 5, "--set", "check_rows=4")
    assert result.exit_code == 0, result.output
    run = read_run("run.h5")
    epochs = run.table("epochs")
    assert epochs["cost"][-1] < epochs["cost"][0]
    checks = run.table("gradients")
    of_all = [p == "all" for p in checks["parameter"]]
    assert max(e for e, it in zip(checks["relative_error"], of_all, strict=True) if it) < 0.01
    noted = {e["what"]: e for e in run.events if e["kind"] == "code"}
    assert {"dataset", "cost"} <= noted.keys()
    assert noted["cost"]["sha256"] == hashlib.sha256(Path("mine.py").read_bytes()).hexdigest()
    assert ("field" in noted) == ("--field" in FORMS[form])


def test_an_estimator_brings_its_settings() -> None:
    rule = [*DATA, "--hidden", 4, "--estimator", "mine:Rule", "--set", "optimizer.method=sgd"]
    for scale, name in ((1.0, "one"), (0.5, "half")):
        rate = 0.1 / scale
        told = ["--set", f"estimator.scale={scale}", "--set", f"optimizer.learning_rate={rate}"]
        assert call(*rule, *told, "--out", f"{name}.h5").exit_code == 0
    one, half = (read_run(f"{name}.h5").weights()[1] for name in ("one", "half"))
    for name, values in one.items():
        torch.testing.assert_close(torch.tensor(values), torch.tensor(half[name]))
    shipped = call(*DATA, "--hidden", 4, "--estimator", "asym-ep", "--out", "asym.h5",
                   "--set", "optimizer.learning_rate=0.1")  # fmt: skip
    assert shipped.exit_code == 0
    assert read_run("asym.h5").config["estimator"].keys() | {"scale"} == (
        read_run("one.h5").config["estimator"].keys()
    )
    assert refused(
        call(*rule, "--set", "estimator.scale=-1"), "estimator.scale=-1", "must be above 0"
    )
    assert refused(call(*rule, "--set", "estimator.scael=1"), "did you mean 'estimator.scale'")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the command is forked")
def test_a_run_goes_on_and_says_what_has_changed(here: Path) -> None:
    args = [*DATA, "--field", "mine.py:net", "--estimator", "mine.py:Rule"]
    assert command([*args, "--out", "whole.h5"]) == 0
    for name in ("same", "edited"):
        assert command([*args, "--out", f"{name}.h5"], end_at(7, signal.SIGTERM, True)) == 75
    assert call("eqprop-run", "--resume", "--out", "same.h5", "--quiet").exit_code == 0
    assert same_as(here / "same.h5", fingerprint(read_run("whole.h5")))
    with (here / "mine.py").open("a") as file:
        file.write("# another line\n")
    result = call("eqprop-run", "--resume", "--out", "edited.h5", "--quiet")
    assert result.exit_code == 0, result.output
    changed = [line for line in result.stderr.splitlines() if "has changed" in line]
    assert [line.partition("=")[0] for line in changed] == [
        f"warning: {what}" for what in ("dataset", "field", "estimator")
    ]
    events = [e for e in read_run("edited.h5").events if e["kind"] == "code"]
    assert [e["what"] for e in events] == 2 * ["dataset", "field", "estimator"]
    assert len({e["sha256"] for e in events}) == 2
