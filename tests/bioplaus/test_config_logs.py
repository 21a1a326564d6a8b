"""Configs out of logs: those of earlier versions have the settings of all choices."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from bioplaus.config import EqpropConfig, GradcheckConfig
from bioplaus.config.choices import ESTIMATOR_CONFIGS
from bioplaus.estimators import ESTIMATORS, ORACLES
from bridge.config import load_config
from bridge.errors import InputError
from bridge.runlog.reopening import _same_config

OLD: dict[str, Any] = {
    "data": {"dataset": "mnist", "data_dir": None, "train_size": 100, "test_size": None},
    "network": {"hidden": [512], "activation": "hard-sigmoid", "coordinates": "clipped"}
    | {"linear_output": True, "tied": False, "gain": 1.0, "feedback_gain": 0.5, "angle": 90.0},
    "phases": {"engine": "torch", "solver": "sweeps", "dt": 0.5, "memory": 3, "tolerance": 1e-3}
    | {"brian2": {"tau": "10 ms", "method": "euler", "target": "numpy"}}
    | {"free_steps": 30, "nudged_steps": 15, "check_every": 1, "gate": 0.1},
    "estimator": {"name": "vector-field", "cost": "cross-entropy", "beta": 0.5}
    | {"nudging": "centered", "points": 4, "rate": 0.01, "strength": 0.01, "decay": 1e-3},
    "optimizer": {"method": "sgd", "learning_rate": 0.25, "rates": {"output": 0.1}}
    | {"momentum": 0.9, "weight_decay": 0.0, "schedule": "cosine", "warmup_steps": 0}
    | {"clip_norm": None},
    "epochs": 10,
    "batch_size": 50,
    "micro_shards": 1,
    "evaluation_batch": 500,
    "seed": 0,
    "dtype": "float32",
    "log_every": 1,
    "check_gradients_every": 0,
    "check_rows": 20,
}
"""All keys of a log of version 2, as its config's JSON has them."""


def old(**changes: Any) -> dict[str, Any]:
    """An old log's config with other values at dotted keys."""
    made = {k: dict(v) if isinstance(v, dict) else v for k, v in OLD.items()}
    for key, value in changes.items():
        *group, leaf = key.split("__")
        (made[group[0]] if group else made)[leaf] = value
    return made


PHASES = list(itertools.product(["torch", "brian2"], ["sweeps", "euler", "anderson"]))
METHODS = ["sgd", "momentum", "adam"]
NAMES = list(ESTIMATORS | ORACLES)
KINDS = {(NAMES[0], *phase, method) for phase in PHASES for method in METHODS}
KINDS |= {(name, *PHASES[i % 6], METHODS[i // 2 % 3]) for i, name in enumerate(NAMES)}
"""Every engine with every solver and method; every estimator with one of these."""


@pytest.mark.parametrize(("name", "engine", "solver", "method"), sorted(KINDS))
def test_a_log_of_an_earlier_version_is_read(
    name: str, engine: str, solver: str, method: str
) -> None:
    log = old(
        estimator__name=name, phases__engine=engine, phases__solver=solver, optimizer__method=method
    )
    config = load_config(EqpropConfig, base=log, base_name="run.h5")
    assert (config.estimator.name, config.phases.engine) == (name, engine)
    assert config.optimizer.method == method
    assert config.optimizer.learning_rate == 0.25
    assert config.data.train_size == 100
    assert _same_config(json.dumps(log), config)


def test_a_log_with_another_value_is_another_config() -> None:
    config = load_config(EqpropConfig, base=OLD, base_name="run.h5")
    assert not _same_config(json.dumps(old(optimizer__learning_rate=0.5)), config)
    assert not _same_config(json.dumps(old(estimator__nudging="one-sided")), config)
    assert not _same_config(json.dumps(old(estimator__zzz=1)), config)
    assert _same_config(json.dumps(old(estimator__points=9)), config)
    assert not _same_config(json.dumps(OLD), {"epochs": 10})


def test_an_unknown_key_of_a_log_is_refused() -> None:
    with pytest.raises(InputError, match=r"run.h5: unknown key 'estimator.zzz'"):
        load_config(EqpropConfig, base=old(estimator__zzz=1), base_name="run.h5")


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["estimator.points=4"], "estimator.name=vector-field; it is read with .*holomorphic"),
        (["estimator.strength=1"], "it is read with estimator.name=homeostasis"),
        (["estimator.decay=1"], "it is read with estimator.name=kolen-pollack"),
        (["estimator.rate=1"], "it is read with estimator.name=continual"),
        (["estimator.name=dyadic", "estimator.nudging=centered"], "name=vector-field, asym-ep"),
        (["estimator.name=implicit", "estimator.beta=0.1"], "estimator.name=implicit; it is read"),
        (["estimator.name=unrolled", "phases.nudged_steps=9"], "which has no nudged phase"),
        (["phases.memory=3"], "phases.solver=sweeps; it is read with phases.solver=anderson"),
        (["phases.dt=0.5"], "it is read with phases.solver=euler or phases.engine=brian2"),
        (["phases.brian2.tau=1 ms"], "it is read with phases.engine=brian2"),
        (["phases.brian2={method='rk4'}"], "it is read with phases.engine=brian2"),
        (["phases.engine=brian2", "phases.solver=euler"], "it is read with phases.engine=torch"),
        (["phases.engine=brian2", "phases.check_every=2"], "it is read with phases.engine=torch"),
        (["phases.tolerance=0", "phases.check_every=2"], "it is read with tolerance>0"),
        (["optimizer.momentum=0.9"], "it is read with optimizer.method=momentum"),
        (["optimizer.method=adam", "optimizer.momentum=0.5"], "with optimizer.method=adam"),
        (["network.tied=true", "network.angle=90"], "with tied=true"),
        (["network.tied=true", "network.feedback_gain=1"], "with tied=true"),
        (["network.hidden=[]", "network.angle=0"], "without a hidden layer"),
        (["network.hidden=[]", "network.tied=true"], "without a hidden layer"),
        (["network.hidden=[]", "network.coordinates=membrane"], "with linear outputs"),
        (["check_rows=20"], "without check_gradients_every"),
    ],
)
def test_a_setting_of_a_run_without_effect_is_refused(sets: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        load_config(EqpropConfig, sets=sets)
    assert len(caught.value.mistakes) == 1
    assert "has no effect" in str(caught.value)


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["points=4"], "estimator=vector-field, asym-ep; it is read with estimator=holomorphic"),
        (["rate=0.01"], "it is read with estimator=continual"),
        (['estimator=["dyadic"]', "nudging=centered"], "estimator=dyadic; it is read with"),
        (['estimator=["implicit"]', "beta=[0.1]"], "estimator=implicit; it is read with"),
        (["dt=0.5"], "it is read with solver=euler or engine=brian2"),
        (["brian2.tau=1 ms"], "it is read with engine=brian2"),
        (["sizes=[3, 2]", "angle=0"], "without a hidden layer"),
    ],
)
def test_a_setting_of_a_check_without_effect_is_refused(sets: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        load_config(GradcheckConfig, sets=sets)
    assert "has no effect" in str(caught.value)


def test_one_of_several_estimators_is_enough_to_use_a_setting() -> None:
    sets = ['estimator=["implicit", "holomorphic"]', "points=8", "beta=[0.1]"]
    assert load_config(GradcheckConfig, sets=sets).model_dump()["points"] == 8


@pytest.mark.parametrize("name", ESTIMATORS | ORACLES)
def test_an_estimator_is_made_with_the_settings_that_its_class_has(name: str) -> None:
    config = ESTIMATOR_CONFIGS[name]()
    kind = (ESTIMATORS | ORACLES)[name]
    assert config.make() == kind(**config.settings())
    assert all(getattr(kind(), key) == value for key, value in config.settings().items())
