"""Calls from Python with arguments that do not fit: one line that names argument and fix."""

# the mistakes are what is tested
# pyright: reportArgumentType=false, reportCallIssue=false, reportOptionalMemberAccess=false

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import bioplaus
from bioplaus import (
    AsymEP,
    Conv,
    Dataset,
    Dense,
    Euler,
    FunctionField,
    InputError,
    Lateral,
    Layer,
    LayeredField,
    LeakyField,
    Settling,
    check_field,
    check_gradients,
    estimate_gradient,
    fit,
    free_phase,
    supports,
)
from bioplaus.estimators import ESTIMATORS, ORACLES, get_estimator
from bioplaus.solvers import SOLVERS, get_solver
from bridge.optim import Optimizer

NET = LeakyField([4, 5, 3], generator=torch.Generator().manual_seed(0))
X, Y = torch.linspace(0, 1, 12).view(3, 4), torch.tensor([0, 1, 2])
RESULTS = ("Estimate", "FieldReport", "GradientReport", "History", "Solution", "Status")
CALLED = [
    name
    for name in bioplaus.__all__
    if callable(made := getattr(bioplaus, name))
    and name not in RESULTS
    and not (inspect.isclass(made) and (inspect.isabstract(made) or issubclass(made, Exception)))
]


def told(call: Callable[[], Any]) -> str:
    with pytest.raises(InputError) as caught:
        call()
    (line,) = caught.value.mistakes
    assert "\n" not in line
    return line


@pytest.mark.parametrize("name", CALLED)
def test_every_public_call_names_an_argument_that_it_does_not_have(name: str) -> None:
    kind = getattr(bioplaus, name)
    given: dict[str, Any] = {"no_such_thing": 3}
    if name in ("estimate_gradient", "supports"):
        given |= {"field": NET} | ({} if name == "supports" else {"x": X, "y": Y})
    line = told(lambda: kind(**given))
    assert line.startswith("no_such_thing=3 is no ")
    assert "; legal: " in line


@pytest.mark.parametrize("kind", [*ESTIMATORS.values(), *ORACLES.values(), *SOLVERS.values()])
def test_every_setting_is_named_as_it_is_spelt(kind: Any) -> None:
    """If any setting of any estimator or solver lacks a letter, the right name is found."""
    for setting in (field.name for field in dataclasses.fields(kind)):
        wrong = setting[:-1] if len(setting) > 2 else setting + "h"
        assert f"did you mean {setting}? legal: " in told(lambda: kind(**{wrong: 1}))  # noqa: B023


MISSPELT = {
    "epoch": (lambda: fit(NET, (X, Y), epoch=3), "did you mean epochs?"),
    "lr": (lambda: fit(NET, (X, Y), lr=3), "did you mean learning_rate?"),
    "bta": (lambda: estimate_gradient(NET, X, Y, bta=3), "did you mean beta?"),
    "supports": (lambda: supports(NET, bta=3), "did you mean beta?"),
    "beta": (lambda: check_gradients(NET, X, Y, beta=3), "did you mean betas?"),
    "inside": (lambda: check_gradients(NET, X, Y, settings={"point": 3}), "did you mean points?"),
    "solver": (lambda: get_solver("anderson", memry=3), "did you mean memory?"),
    "lookup": (lambda: get_estimator("asym-ep", beta=3), "legal: name"),
    "lateral": (lambda: Lateral(1, gian=0.5), "did you mean gain?"),
    "data": (lambda: Dataset.from_arrays(X, Y, holdut=0.1), "did you mean holdout?"),
    "rate": (lambda: Optimizer(NET.parameters, lr=0.1), "did you mean learning_rate?"),
    "predict": (lambda: NET.predict(X, setling=None), "did you mean settling?"),
    "optimizer": (lambda: fit(NET, (X, Y), optimizer=lambda params: None), "is called with params"),
}
OF_ANOTHER_KIND = {
    "text for a number": (lambda: AsymEP(beta="0.5"), "beta='0.5' must be a number"),
    "NaN": (lambda: AsymEP(beta=float("nan")), "beta=nan must be a number"),
    "infinite": (lambda: AsymEP(gate=-1), "gate=-1 must be"),
    "truth for a number": (lambda: Euler(dt=True), "dt=True must be a number"),
    "fraction for a count": (lambda: get_solver("anderson", memory=2.5), "whole number"),
    "positional": (lambda: AsymEP(0.1), "settling is float; give a bioplaus.Settling"),
    "settling": (lambda: free_phase(NET, X, settling=3), "settling=3 must be a Settling"),
    "tolerance": (lambda: Settling(tolerance=-1), "tolerance=-1 must be >= 0"),
    "steps": (lambda: Settling(free_steps=0), "free_steps=0 must be at least 1"),
    "solver": (lambda: Settling(solver="eulr"), "did you mean euler?"),
    "sizes": (lambda: LeakyField(4), "sizes=4 must be a list"),
    "text of sizes": (lambda: LeakyField("ab"), "sizes='ab' must be a list"),
    "gain": (lambda: Dense(0, 1, gain="x"), "gain='x' must be a number"),
    "pool": (lambda: Conv(0, 1, kernel=3, pool=2), "pool=2"),
    "missing": (lambda: Layer(), "'shape'"),
    "rows": (lambda: check_field(NET, rows=0), "rows=0 must be at least 1"),
    "betas": (lambda: check_gradients(NET, X, Y, betas=["x"]), "beta='x' must be a number"),
    "array": (lambda: free_phase(NET, X.numpy()), "x is ndarray; it must be a Tensor"),
    "path": (lambda: NET.save(3), "path=3 must be a text"),
}
OUT_OF_RANGE = {
    "epochs": (0, "epochs=0: must be >= 1"),
    "batch_size": (0, "batch_size=0: must be >= 1"),
    "seed": (-1, "seed=-1: must be >= 0"),
    "check_rows": (2.5, "check_rows=2.5: must be a whole number"),
    "log_every": ("x", "whole number"),
    "evaluation_batch": (True, "whole number"),
}


@pytest.mark.parametrize("case", MISSPELT)
def test_what_is_misspelt_is_named(case: str) -> None:
    call, words = MISSPELT[case]
    assert words in told(call)


@pytest.mark.parametrize("case", OF_ANOTHER_KIND)
def test_a_value_of_another_kind_is_named(case: str) -> None:
    call, words = OF_ANOTHER_KIND[case]
    assert words in told(call)


@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_fit_says_what_is_legal_as_the_command_line_does(name: str) -> None:
    value, words = OUT_OF_RANGE[name]
    assert words in told(lambda: fit(NET, (X, Y), **{name: value}))


def test_what_users_code_raises_is_left_as_it_is() -> None:
    def mu(p: Any, x: Any, s: Any) -> Any:
        raise TypeError("of my own")

    net = FunctionField(mu, {"w": torch.ones(1)}, n=3, n_output=2, input=4)
    with pytest.raises(TypeError, match="of my own"):
        free_phase(net, X)


def test_objects_are_made_copied_and_kept_as_before() -> None:
    rule = AsymEP(beta=np.float32(0.25), settling=Settling(solver="euler", tolerance=0))
    assert rule.settling.solver == Euler()
    assert dataclasses.replace(rule, beta=1).beta == 1
    joined = Lateral(1, gain=0.5, signs=[1, -1, 1])
    for again in (copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))):
        assert again(rule) == rule
        assert again(joined).gain == 0.5
        assert again(joined).signs.tolist() == [1, -1, 1]
    assert list(inspect.signature(fit).parameters)[:2] == ["field", "data"]
    assert list(inspect.signature(AsymEP).parameters)[:3] == ["settling", "gate", "beta"]
    assert list(inspect.signature(FunctionField).parameters)[:2] == ["mu", "parameters"]


def test_masks_and_signs_are_taken_as_arrays_and_lists() -> None:
    g = torch.Generator().manual_seed(0)
    mask = np.array([[1, 0, 0], [0, 1, 1]])
    joined = [Dense(0, 1), Dense(1, 2, mask=mask, signs=[1, -1, 1])]
    net = LayeredField(4, [Layer(3), Layer(2, "linear")], joined, generator=g)
    weight = net.parameters["forward.2"]
    assert bool((weight[torch.from_numpy(mask) == 0] == 0).all())
    assert bool((weight * torch.tensor([1, -1, 1]) >= 0).all())
