"""A name or an object wherever something is chosen, and one line for what is neither."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bioplaus import estimate_gradient
from bioplaus.config import resolve
from bioplaus.costs import AbstractCost, CrossEntropy, SquaredError, get_cost
from bioplaus.data import Dataset
from bioplaus.errors import InputError
from bioplaus.estimators import AsymEP, Implicit, VectorFieldEP
from bioplaus.phases import Settling
from bioplaus.solvers import Anderson, Euler, Sweeps
from bridge.optim import Optimizer
from tests.fields import TIGHT, distance, flat
from tests.graphs import batch, gated


def cubed(s: Tensor, y: Tensor) -> Tensor:
    return (s - y).abs().pow(3).sum(1)


class Fourth(AbstractCost):
    curvature = 2.0

    def value(self, s: Tensor, y: Tensor) -> Tensor:
        return (s - y).pow(4).sum(1)


@dataclass(frozen=True)
class Scaled(AsymEP):
    scale: float = 2.0


def test_names_classes_and_objects_give_the_same() -> None:
    settling = Settling(tolerance=1e-5)
    by_name = resolve("estimator", "asym-ep", settling=settling, beta=0.1, points=3)
    assert by_name == AsymEP(settling, beta=0.1)
    assert resolve("estimator", AsymEP, settling=settling, beta=0.1) == by_name
    # an object keeps its own settings, and phases are the caller's
    assert resolve("estimator", AsymEP(beta=0.1), settling=settling, beta=0.3) == by_name
    assert resolve("oracle", "implicit", beta=0.1) == Implicit()
    assert resolve("cost", CrossEntropy) == resolve("cost", "cross-entropy") == CrossEntropy()
    assert resolve("activation", torch.tanh).slope(torch.zeros(1)) == 1
    assert resolve("solver", "euler", dt=0.1) == resolve("solver", Euler, dt=0.1) == Euler(0.1)
    assert resolve("solver", Anderson(2)) == Anderson(2)
    assert resolve("solver", "sweeps", dt=0.1) == Sweeps()
    weights = {"w": torch.zeros(2)}
    made = resolve("optimizer", "adam", params=weights, learning_rate=0.1)
    assert (made.method, made.base_rate) == ("adam", 0.1)
    assert resolve("optimizer", made) is made
    assert resolve("optimizer", Optimizer, params=weights, learning_rate=0.2).base_rate == 0.2


def test_data_is_taken_in_every_form() -> None:
    x, y = np.eye(6, 4, dtype=np.float32), np.arange(6) % 3
    made = Dataset.from_arrays(x, y)
    for choice in ((x, y), lambda: (x, y), made):
        data = resolve("dataset", choice, dtype=torch.float64)
        assert (len(data.train), data.num_outputs) == (6, 3)
        assert data.train.inputs.dtype == torch.float64


def test_code_by_name_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "parts.py").write_text(
        "from bioplaus.estimators import AsymEP\nfrom bioplaus.activations import Activation\n"
        "import torch\nclass Rule(AsymEP):\n    pass\nrule = AsymEP(beta=0.25)\n"
        "rho = Activation('mine', torch.sin)\n"
    )
    monkeypatch.chdir(tmp_path)
    assert resolve("estimator", "parts.py:Rule", beta=0.1).beta == 0.1
    assert resolve("estimator", "parts.py:rule").beta == 0.25
    assert resolve("activation", "parts.py:rho").name == "mine"


def test_a_cost_of_value_alone_has_the_slope_of_its_formula() -> None:
    g = torch.Generator().manual_seed(0)
    s, y = torch.rand(2, 5, 3, generator=g, dtype=torch.float64)
    expected = 3 * (s - y).abs() * (s - y)
    torch.testing.assert_close(get_cost(cubed).slope(s, y), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(get_cost(Fourth).slope(s, y), 4 * (s - y) ** 3, atol=1e-12, rtol=0)
    assert (get_cost(Fourth).name, get_cost(Fourth).curvature) == ("Fourth", 2.0)
    assert get_cost(cubed) == get_cost(cubed)
    # complex states, as the holomorphic estimator has them
    z = torch.complex(s, 0.1 * y)
    power = get_cost(lambda s, y: (s - y).pow(3).sum(1))
    torch.testing.assert_close(power.slope(z, y), 3 * (z - y) ** 2, atol=1e-12, rtol=0)


def test_a_function_for_a_cost_gives_the_exact_gradient() -> None:
    field = gated()
    x, y = batch(field)
    by_hand = estimate_gradient(field, x, y, SquaredError(), "implicit", settling=TIGHT)
    written = estimate_gradient(
        field,
        x,
        y,
        lambda s, y: 0.5 * (s - y).square().sum(1),
        Scaled(TIGHT, beta=1e-3, scale=3.0),
    )
    assert distance(written.updates, flat(by_hand.updates)) < 1e-6
    other = estimate_gradient(field, x, y, SquaredError(), VectorFieldEP, settling=TIGHT)
    assert distance(other.updates, flat(by_hand.updates)) > 1e-3


@dataclass(frozen=True)
class _Base(AsymEP):
    pass


class Bare(_Base):
    strength: float = 1.0


REFUSED = [
    ("estimator", "asym-eq", "did you mean asym-ep?"),
    ("estimator", int, "is no estimator but int"),
    ("estimator", 3, "is no estimator but int"),
    ("estimator", Bare, "write @dataclass"),
    ("oracle", "asym-ep", "use one of implicit"),
    ("cost", "hinge", "use one of squared-error, cross-entropy"),
    ("cost", 3, "is no cost but int"),
    ("cost", dict, "is no cost but dict"),
    ("activation", "reul", "did you mean relu?"),
    ("activation", int, "is a type"),
    ("solver", "newton", "use one of euler, sweeps, symmetric-sweeps"),
    ("solver", int, "is no solver but int"),
    ("optimizer", "adagrad", "use one of sgd, momentum, adam"),
    ("optimizer", 3, "is no optimizer but int"),
    ("dataset", 3, "is a int"),
    ("dataset", "mnits", "did you mean mnist?"),
    ("dataset", lambda: 3, "gave int"),
    ("cost", "nowhere:f", "no module 'nowhere'"),
    ("network", "x", "use one of estimator"),
]


@pytest.mark.parametrize(("what", "choice", "words"), REFUSED)
def test_what_is_neither_is_one_line(what: str, choice: object, words: str) -> None:
    settings = {"params": {"w": torch.zeros(1)}, "learning_rate": 0.1}
    with pytest.raises(ValueError, match=r"\w") as caught:
        resolve(what, choice, **(settings if what == "optimizer" and choice != 3 else {}))  # pyright: ignore[reportCallIssue, reportArgumentType]
    text = str(caught.value)
    assert words in text
    assert "\n" not in text


def test_a_cost_that_is_no_number_a_row_is_one_line() -> None:
    mean = get_cost(torch.nn.functional.mse_loss)
    with pytest.raises(InputError, match=r"mse_loss gave shape \[\] for 4 rows"):
        mean.value(torch.zeros(4, 3), torch.zeros(4, 3))
