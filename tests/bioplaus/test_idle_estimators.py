"""A setting of an estimator is refused on networks that leave it without effect, and only there."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from bioplaus import fit
from bioplaus.config import EqpropConfig
from bioplaus.costs import get_cost
from bioplaus.errors import InputError
from bioplaus.estimators import Homeostasis, Implicit, KolenPollack, RecurrentBackprop
from bioplaus.fields import Conv, FunctionField, LayeredField, LeakyField, Tied
from bioplaus.fields.convolutional import convolutional
from bioplaus.fields.coupling import coupling_of
from bioplaus.training import build
from bridge.config import load_config
from tests.bioplaus import idx_files
from tests.fields import TIGHT, Problem, problem

COST = get_cost("squared-error")
SETTINGS = [
    (KolenPollack, "decay", 0.9),
    (Homeostasis, "strength", 5.0),
    (Implicit, "max_iterations", 1),
    (Implicit, "adjoint_tolerance", 0.5),
    (RecurrentBackprop, "dt", 0.2),
    (RecurrentBackprop, "adjoint_tolerance", 0.5),
    (RecurrentBackprop, "adjoint_steps", 1),
]
NETWORKS: list[dict[str, Any]] = [
    {},
    {"sizes": (6, 3)},
    {"sizes": (6, 3), "linear_output": False},
    {"sizes": (4, 1, 1), "asymmetry": 0.5},
    {"tied": True},
    {"tied": True, "sizes": (4, 1, 1)},
    {"tied": True, "activation": "linear"},
]


def updates(estimator: Any, p: Problem) -> dict[str, torch.Tensor]:
    return estimator(p.field, p.x, p.y, COST).updates


@pytest.mark.parametrize("network", NETWORKS, ids=str)
@pytest.mark.parametrize(
    ("kind", "name", "value", "dense"),
    [(*each, True) for each in SETTINGS]
    + [(*each, False) for each in SETTINGS if each[0] is Implicit],
)
def test_a_setting_is_idle_if_and_only_if_no_update_depends_on_it(
    network: dict[str, Any], kind: Any, name: str, value: Any, dense: bool
) -> None:
    p = problem(**network)
    if p.field.n == 2 and not dense and name == "adjoint_tolerance":
        return  # the second product ends GMRES in any case
    loose = dataclasses.replace(TIGHT, tolerance=1.0)
    usual = kind(settling=loose) if dense else kind(settling=loose, dense_up_to=0)
    first = updates(usual, p)
    other = updates(dataclasses.replace(usual, **{name: value}), p)
    same = all(torch.allclose(first[k], other[k], rtol=1e-14, atol=1e-16) for k in first)
    assert (name in usual.idle(coupling_of(p.field))) == same


CASES = [
    ("kolen-pollack", ["estimator.decay=0.9", "network.tied=true"], "read with network.tied=false"),
    ("kolen-pollack", ["estimator.decay=0.9", "network.hidden=[]"], "without a hidden layer"),
    ("homeostasis", ["estimator.strength=5", "network.hidden=[]"], "without a hidden layer"),
    (
        "homeostasis",
        ["estimator.strength=5", "network.tied=true", "network.activation=linear",
         "network.coordinates=membrane"],
        "linear units, which act symmetrically",
    ),
    ("implicit", ["estimator.max_iterations=1", "network.hidden=[4,3]"], "dense_up_to=16 or less"),
    ("implicit", ["estimator.adjoint_tolerance=0.5", "network.hidden=[290]"], "with 300 units"),
    ("implicit", ["estimator.dense_up_to=5", "network.hidden=[]"], "without a hidden layer"),
    ("recurrent-backprop", ["estimator.dt=0.2", "network.hidden=[]"], "without a hidden layer"),
    ("dyadic", ["phases.memory=4", "phases.solver=anderson", "network.hidden=[]"], "give network"),
    (
        "dyadic",
        ["phases.repeats=4", "phases.solver=symmetric-sweeps", "network.hidden=[]"],
        "give network.hidden",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "sets", "said"), CASES)
def test_a_config_refuses_what_its_network_leaves_idle(
    name: str, sets: list[str], said: str
) -> None:
    with pytest.raises(InputError, match="has no effect") as caught:
        load_config(EqpropConfig, flags={"estimator.name": name}, sets=sets)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"--set {sets[0]}: ")


@pytest.mark.parametrize(
    ("name", "sets"),
    [
        ("kolen-pollack", ["estimator.decay=0.9"]),
        ("homeostasis", ["estimator.strength=5", "network.tied=true"]),
        ("implicit", ["estimator.max_iterations=1", "network.hidden=[291]"]),
        ("implicit", ["estimator.max_iterations=1", "estimator.dense_up_to=9"]),
        ("implicit", ["estimator.max_iterations=1", "network.hidden=[4]", "data.dataset=x.npz"]),
        ("asym-ep", ["phases.solver=anderson", "phases.memory=4"]),
    ],
)
def test_a_config_takes_what_its_network_reads(name: str, sets: list[str]) -> None:
    assert load_config(EqpropConfig, flags={"estimator.name": name}, sets=sets)


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (
            ["estimator.name=implicit", "estimator.max_iterations=1", "network.hidden=[4,3]"],
            "estimator.max_iterations=1 has no effect with 11 units",
        ),
        (
            ["estimator.name=kolen-pollack", "estimator.decay=0.9", "network.field=convolutional",
             "network.channels=[2]", "network.feedback=tied", "network.unpooled=[1]"],
            "estimator.decay=0.9 has no effect on LayeredField",
        ),
    ],
)  # fmt: skip
def test_a_run_refuses_what_only_its_data_and_its_field_tell(
    sets: list[str], said: str, tmp_path: Path
) -> None:
    folder = idx_files.write(tmp_path / "images", idx_files.arrays())
    config = load_config(EqpropConfig, sets=[f"data.dataset={folder}", *sets])
    with pytest.raises(InputError, match=said):
        build(config)


def test_a_log_that_has_every_setting_is_read_again() -> None:
    sets = ["estimator.name=kolen-pollack", "network.tied=true"]
    config = load_config(EqpropConfig, sets=sets)
    log = config.model_dump(mode="json")
    log["estimator"]["decay"] = 0.9  # taken by earlier versions
    assert load_config(EqpropConfig, base=log, base_name="run.h5").network == config.network


def test_fit_refuses_an_estimator_whose_settings_its_field_leaves_idle() -> None:
    data = (torch.rand(4, 6), torch.tensor([0, 1, 2, 0]))
    with pytest.raises(InputError, match=r"strength=5.0 has no effect on LeakyField\(6 -> 3"):
        fit(LeakyField([6, 3]), data, estimator=Homeostasis(strength=5.0), epochs=1)
    assert fit(LeakyField([6, 3]), data, estimator=Homeostasis(), epochs=1).status == "finished"


def test_a_field_of_the_user_s_may_couple_all_units() -> None:
    weights = {"w": torch.eye(3)}
    field = FunctionField(lambda p, x, s: x - s @ p["w"], weights, n=3, n_output=1)
    coupling = coupling_of(field)
    assert (coupling.n, coupling.alone, coupling.symmetric) == (3, None, None)
    assert coupling.unpaired is not None


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LeakyField([4, 1, 1], tied=True, angle=45.0), "angle=45.0 .* with tied=True"),
        (lambda: LeakyField([4, 3, 2], tied=True, angle=90.0), "angle=90.0 .* with tied=True"),
        (lambda: LeakyField([4, 3, 2], angle=45.0, asymmetry=0.5), "angle.* with asymmetry=0.5"),
        (lambda: LeakyField([4, 3, 2], tied=True, asymmetry=0.5), "asymmetry.* with tied=True"),
        (lambda: Tied(2, 1, gain=0.5), "gain=0.5"),
        (lambda: Tied(2, 1, trainable=False), "trainable=False"),
        (lambda: Conv(0, 1, window=3), "window=3 of forward.1 .* with pool='none'"),
        (lambda: convolutional((1, 4, 4), 2, (3,), feedback="none", feedback_gain=0.5), "'none'"),
        (lambda: convolutional((1, 4, 4), 2, (3,), feedback="tied", feedback_gain=0.5), "'tied'"),
        (lambda: convolutional((1, 4, 4), 2, (3,), unpooled=(1,), pool="max"), "pool='max'"),
    ],
)
def test_an_argument_that_another_leaves_idle_is_refused(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"{said}.*") as caught:
        make()
    assert "no effect" in str(caught.value)


def test_defaults_are_those_of_whoever_gives_nothing() -> None:
    g = torch.Generator()
    given, left = (
        LeakyField([4, 3, 2], generator=g.manual_seed(0), angle=angle) for angle in (90.0, None)
    )
    assert all(torch.equal(given.parameters[k], left.parameters[k]) for k in left.parameters)
    assert isinstance(convolutional((1, 4, 4), 2, (3,), feedback="none"), LayeredField)
