"""Arguments are converted, or named in one line that says what is legal."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import bioplaus
from bioplaus import (
    AsymEP,
    LeakyField,
    Settling,
    check_gradients,
    fit,
)
from bioplaus.errors import InputError

X = torch.randn(240, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] * X[:, 1] > 0).long()
DATA = (X[:160], Y[:160], X[160:], Y[160:])


def leaky() -> LeakyField:
    g = torch.Generator().manual_seed(1)
    return LeakyField([6, 12, 2], "tanh", feedback_gain=0.5, generator=g)


def test_predict_takes_what_becomes_a_tensor() -> None:
    field = leaky()
    expected = field.predict(X[:4])
    assert expected.shape == (4, 2)
    for given in (X[:4].numpy(), X[:4].tolist(), X[:4].double(), X[:4].reshape(4, 2, 3)):
        assert torch.equal(field.predict(given), expected)
    assert field.predict(X[:0]).shape == (0, 2)
    with pytest.warns(UserWarning, match="4 of 4 rows did not settle"):
        field.predict(X[:4], settling=Settling(tolerance=1e-12, free_steps=2))


BAD_INPUTS = {
    "shape": (np.zeros((2, 5), np.float32), r"x is of shape \(2, 5\).*6 inputs"),
    "rank": (np.zeros(6), r"x is of shape \(6,\).*x\[None\]"),
    "dtype": (np.zeros((2, 6), np.uint8), "x holds uint8: give floats"),
    "text": ([["a"] * 6], "x holds text"),
    "none": (None, "x is NoneType"),
    "nan": (torch.full((2, 6), torch.nan), "x is NaN or infinite in row 0"),
    "ragged": ([[1.0], [1.0, 2.0]], "x is ragged"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_inputs_are_named(name: str) -> None:
    x, said = BAD_INPUTS[name]
    for call in (
        lambda: leaky().predict(x),
        lambda: check_gradients(leaky(), x, [0, 1]),
        lambda: bioplaus.estimate_gradient(leaky(), x, [0, 1]),
    ):
        with pytest.raises(InputError, match=said) as told:
            call()
        assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("y", "said"),
    [
        ([0, 2], "y holds the label 2, legal is 0 to 1"),
        ([0, -1], "y holds the label -1"),
        ([0.0, 1.0], "y holds float64, one a row"),
        ([0], "y has 1 rows, but there are 2 inputs"),
        (np.zeros((2, 3)), r"y is of shape \(2, 3\)"),
        (1, r"y is of shape \(\)"),
    ],
)
def test_bad_targets_are_named(y: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_gradients(leaky(), X[:2], y)


def test_labels_one_hot_rows_and_numpy_are_the_same_targets() -> None:
    one = check_gradients(leaky().precise(), X[:3], Y[:3], oracles="implicit")
    hot = np.eye(2)[Y[:3].numpy()]
    assert one == check_gradients(leaky().precise(), X[:3].numpy(), hot, oracles="implicit")


BAD = {
    "estimator": ({"estimator": "asym"}, "did you mean asym-ep"),
    "cost": ({"cost": "hinge"}, "cost='hinge'"),
    "optimizer": ({"optimizer": "lion"}, "optimizer='lion'"),
    "solver": ({"solver": "newton"}, "solver='newton'"),
    "epochs": ({"epochs": 0}, "epochs=0"),
    "batch": ({"batch_size": 2.5}, "batch_size=2.5"),
    "seed": ({"seed": -1}, "seed=-1"),
    "rate": ({"learning_rate": -1.0}, "learning_rate=-1.0"),
    "rates": ({"rates": {"zz": 1.0}}, "'zz' is no parameter"),
    "schedule": ({"schedule": "up"}, "schedule='up'"),
    "callbacks": ({"callbacks": 3}, "callbacks=3"),
    "settling": ({"settling": 1e-3}, "settling is float"),
    "gate": ({"gate": 0}, "gate=0"),
    "beta": ({"estimator": AsymEP(beta=4.0)}, "beta=4"),
    "resume": ({"resume": True}, "resume=True"),
    "out": ({"out": 3}, "out=3"),
    "clip": ({"clip_norm": 0.0}, "clip_norm=0.0"),
    "checkpoints": ({"checkpoint_every": 0}, "checkpoint_every=0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_settings_of_fit_are_named(name: str) -> None:
    settings, said = BAD[name]
    with pytest.raises(InputError, match=said) as told:
        fit(leaky(), DATA, **settings)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "data is a NoneType"),
        ((X,), "data has 1 values"),
        ((X, Y[:3]), "y_train 3 labels"),
        ((X[:, :3], Y), r"data has inputs of shape \(3,\), but the field takes \(6,\)"),
        ((X, Y + 5), "data has 7 classes, but the field has n_output=2"),
        ((X, X), "data has 6 numbers a target"),
        ((X, Y - 1), "y_train holds labels from -1"),
        ((X, Y.float()), "y_train holds float32"),
        ("no-such-data", "no data set 'no-such-data'"),
    ],
    ids=str,
)
def test_bad_data_are_named(data: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        fit(leaky(), data)  # type: ignore[arg-type]
