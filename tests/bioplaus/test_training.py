"""The training loop on a small real task: it learns, repeats itself, and says why it fails."""

import dataclasses

import pytest
import torch

from bioplaus.config import EqpropConfig, make_settling
from bioplaus.errors import InputError
from bioplaus.measuring import alignments
from bioplaus.training import Summary, build, train
from bridge.config import load_config
from bridge.errors import RunFailed

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
    first, again, other = _run(), _run(), _run("seed=1")
    for one, two in zip(first[2], again[2], strict=True):
        assert one == two
    for name, parameter in first[0].field.parameters.items():
        assert torch.equal(parameter, again[0].field.parameters[name])
    assert first[2] != other[2]


@pytest.mark.parametrize(
    "sets",
    [
        ("phases.solver=euler", "phases.free_steps=60", "phases.nudged_steps=60"),
        ("phases.solver=anderson",),
        ("estimator.nudging=one-sided",),
        ("estimator.nudging=random-sign",),
        ("network.tied=true", "network.coordinates=activity", "network.activation=sigmoid"),
        ("network.coordinates=membrane", "network.activation=tanh"),
        ("estimator.cost=squared-error", "optimizer.learning_rate=0.1"),
        ("optimizer.method=adam", "optimizer.learning_rate=2e-3", "dtype=float64"),
        ("network.hidden=[48, 32]",),
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


def test_gradients_are_checked_on_the_way():
    checked = []
    run = build(load_config(EqpropConfig, sets=[*SMALL, "epochs=1", "check_gradients_every=40"]))
    train(run, on_step=lambda r: None, on_epoch=lambda r: None, on_check=checked.append)
    assert [r.step for r in checked if r.parameter == "all"] == [40, 80]
    assert all(isinstance(r, run.check_record) for r in checked)
    assert all(0 < r.angle_degrees < 90 for r in checked if r.parameter == "all")
    assert {r.parameter for r in checked} == {"all", *run.field.parameters}


def test_config_reaches_the_solver():
    config = load_config(EqpropConfig, sets=["phases.solver=euler", "phases.dt=0.25"])
    settling = make_settling(config.phases)
    assert dataclasses.asdict(settling.solver) == {"dt": 0.25}
    assert (settling.free_steps, settling.nudged_steps) == (30, 15)


def test_unknown_names_in_the_config_list_the_legal_ones():
    with pytest.raises(ValueError, match="vector-field") as caught:
        load_config(EqpropConfig, sets=["estimator.name=backprop", "epochs=0"])
    assert "epochs" in str(caught.value)  # every error at once


def test_a_bad_data_set_is_an_input_error():
    with pytest.raises(InputError, match="mnits"):
        build(load_config(EqpropConfig, sets=["data.dataset=mnits"]))
