"""The training loop on a small real task: it learns, repeats itself, and says why it fails."""

import dataclasses
import re

import pytest
import torch

from bioplaus.config import EqpropConfig, make_settling
from bioplaus.diagnosis import stability
from bioplaus.errors import InputError
from bioplaus.fields import LeakyField
from bioplaus.measuring import alignments
from bioplaus.phases import Settling, free_phase
from bioplaus.solvers import Anderson
from bioplaus.training import Summary, build, train
from bridge.config import load_config
from bridge.errors import RunFailed
from tests.fields import Problem, jacobian

SMALL = (
    "network.hidden=[128]",
    "data.train_size=2000",
    "data.test_size=500",
    "epochs=3",
    "batch_size=20",
    "optimizer.rates.output=0.3",
)


def _run(*sets):
    steps, epochs = [], []
    run = build(load_config(EqpropConfig, sets=[*SMALL, *sets]))
    summary = train(run, on_step=steps.append, on_epoch=epochs.append)
    return run, summary, steps, epochs


def test_learns_mnist_better_than_chance_and_reports_what_it_did():
    advanced = []
    run = build(load_config(EqpropConfig, sets=list(SMALL)))
    steps, epochs = [], []
    summary = train(run, on_step=steps.append, on_epoch=epochs.append, advance=advanced.append)
    assert isinstance(summary, Summary)
    assert summary.test_error < 25.0  # chance is 90 %
    assert summary.test_error == epochs[-1].test_error
    assert [r.step for r in steps] == list(range(1, 301))
    assert [r.step for r in epochs] == [100, 200, 300]
    assert sum(advanced) == 6000
    mean = sum(r.train_error for r in steps[-100:]) / 100
    assert epochs[-1].train_error == pytest.approx(mean)
    assert 0.0 < epochs[-1].alignment_1 <= 1.0
    assert epochs[-1].alignment_1 == alignments(run.field)["alignment_1"]
    assert all(r.converged <= 1.0 and r.free_steps >= 1 for r in steps)


def test_same_seed_same_numbers_and_another_seed_others():
    few = ("data.train_size=400",)
    first, again, other = _run(*few), _run(*few), _run(*few, "seed=1")
    for one, two in zip(first[2], again[2], strict=True):
        assert one == two
    for name, parameter in first[0].field.parameters.items():
        assert torch.equal(parameter, again[0].field.parameters[name])
    assert first[2] != other[2]


@pytest.mark.parametrize(
    "sets",
    [
        ("estimator.cost=squared-error", "optimizer.learning_rate=0.1"),
        ("estimator.nudging=one-sided",),
        ("estimator.nudging=random-sign",),
        ("network.coordinates=membrane", "network.activation=tanh"),
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for each in (
                ("phases.solver=euler", "phases.free_steps=60", "phases.nudged_steps=60"),
                ("phases.solver=anderson",),
                ("network.tied=true", "network.coordinates=activity", "network.activation=sigmoid"),
                ("optimizer.method=adam", "optimizer.learning_rate=2e-3", "dtype=float64"),
                ("network.hidden=[48, 32]",),
            )
        ),
    ],
    ids=str,
)
def test_every_setting_trains(sets):
    _, summary, steps, _ = _run(*sets)
    assert summary.test_error < 40.0
    assert steps[-1].cost < steps[0].cost


def test_output_stands_for_the_weights_of_the_last_layer():
    run = build(load_config(EqpropConfig, sets=[*SMALL, "optimizer.rates.output=0"]))
    before = {name: p.clone() for name, p in run.field.parameters.items()}
    train(run, on_step=lambda r: None, on_epoch=lambda r: None)
    moved = {n for n, p in run.field.parameters.items() if not torch.equal(p, before[n])}
    assert moved == {"forward.1", "bias.1"}


def test_a_diverging_network_fails_with_cause_and_remedy():
    with pytest.raises(RunFailed, match=r"diverged: .* step \d+.*use (a )?smaller"):
        _run("optimizer.learning_rate=1e6", "optimizer.schedule=constant")


def test_a_state_that_ran_off_has_no_residual_to_show():
    with pytest.raises(RunFailed) as caught:
        _run("optimizer.learning_rate=1e9", "optimizer.schedule=constant")
    assert "residual" not in str(caught.value)
    assert "optimizer.learning_rate=1e+08" in str(caught.value)


@pytest.mark.slow
def test_the_cure_that_a_failed_run_names_is_one():
    strong = ("network.coordinates=membrane", "network.activation=tanh", "network.gain=3")
    strong = (*strong, "network.feedback_gain=3", "network.hidden=[32, 32]", "phases.gate=0.01")
    with pytest.raises(RunFailed) as caught:
        _run(*strong, "estimator.nudging=one-sided")
    found = re.findall(r"--set ([\w.]+=[\w.]+)", str(caught.value).rpartition(";")[2])
    assert found, str(caught.value)
    _, _, steps, _ = _run(*strong, "estimator.nudging=one-sided", *found, "epochs=1")
    assert steps[0].accepted >= 0.9


def test_an_epoch_ends_with_a_look_at_the_stability_of_free_points(monkeypatch):
    told = []
    run = build(load_config(EqpropConfig, sets=[*SMALL, "epochs=1"]))
    epochs = []
    train(run, on_step=lambda r: None, on_epoch=epochs.append, warn=told.append)
    assert -1.0 <= epochs[0].stability < 0
    assert not told
    monkeypatch.setattr("bioplaus.training.updates.stability", lambda *of: 0.25)
    run = build(load_config(EqpropConfig, sets=[*SMALL, "epochs=1"]))
    train(run, on_step=lambda r: None, on_epoch=epochs.append, warn=told.append)
    assert len(told) == 1
    assert "epoch 1: some free points do not attract" in told[0]
    assert "+0.25" in told[0]


@pytest.mark.slow
def test_stability_is_the_largest_real_part_over_points_that_attract_or_not(monkeypatch):
    g = torch.Generator().manual_seed(0)
    kw = {"angle": 0.0, "gain": 1.5, "generator": g, "dtype": torch.float64}
    field = LeakyField([6, 10, 10, 4], "tanh", **kw)
    x = torch.rand(48, 6, generator=g, dtype=torch.float64)
    mixing = Settling(Anderson(3), 1e-10, free_steps=2000)
    assert -1 < stability(field, x, mixing) < 0
    monkeypatch.setattr("bioplaus.solvers.loop.DAMPED", ())
    s = free_phase(field, x, settling=mixing).s
    parts = torch.linalg.eigvals(jacobian(Problem(field, x, x), s)).real.amax(1)
    assert stability(field, x, mixing) == pytest.approx(float(parts.max()), abs=1e-8)
    assert parts.max() > 0


def test_gradients_are_checked_on_the_way():
    checked = []
    run = build(load_config(EqpropConfig, sets=[*SMALL, "epochs=1", "check_gradients_every=40"]))
    train(run, on_step=lambda r: None, on_epoch=lambda r: None, on_check=checked.append)
    assert [r.step for r in checked if r.parameter == "all"] == [40, 80]
    assert all(isinstance(r, run.check_record) for r in checked)
    assert all(0 < r.angle_degrees < 90 for r in checked if r.parameter == "all")
    names = {"all", "feedforward", "feedback", *run.field.parameters}
    assert {r.parameter for r in checked} == names


def test_config_reaches_the_solver():
    config = load_config(EqpropConfig, sets=["phases.solver=euler", "phases.dt=0.25"])
    settling = make_settling(config.phases)
    assert dataclasses.asdict(settling.solver) == {"dt": 0.25}
    assert (settling.free_steps, settling.nudged_steps) == (30, 15)


def test_unknown_names_in_the_config_list_the_legal_ones():
    with pytest.raises(ValueError, match="vector-field") as caught:
        load_config(EqpropConfig, sets=["estimator.name=backprop", "epochs=0"])
    assert "epochs" in str(caught.value)  # all errors at once


def test_a_bad_data_set_is_an_input_error():
    with pytest.raises(InputError, match="mnits"):
        build(load_config(EqpropConfig, sets=["data.dataset=mnits"]))
