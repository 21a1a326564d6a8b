"""Arrays as users have them become a data set, or one line names the argument."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bioplaus import Dataset
from bioplaus.errors import InputError
from tests.bioplaus.data_files import labels, pictures

X, Y = np.random.default_rng(0).normal(size=(6, 3)), labels(6)
XT, YT = X[:2] + 1, labels(2)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (X, Y),
        (torch.from_numpy(X), torch.from_numpy(Y).long()),
        (torch.from_numpy(X).requires_grad_(), torch.from_numpy(Y)),
        (torch.from_numpy(X).to_sparse(), Y.astype(np.int64)),
        (pd.DataFrame(X, columns=list("abc")), pd.Series(Y)),
        (pd.DataFrame(X).astype("Float64"), pd.Series(Y, dtype="Int64")),
        (X.tolist(), Y.tolist()),
        (list(torch.from_numpy(X)), list(Y)),
        (np.asfortranarray(X.astype(">f8")), Y.astype(">i4")),
        (X, Y[:, None]),
        (X, np.eye(3)[Y]),
        (X, np.eye(3, dtype=bool)[Y]),
        (X, np.array(["ape", "bat", "cow"])[Y]),
        (X, pd.Series(np.array(["ape", "bat", "cow"])[Y])),
        (X, pd.Series(np.array(["ape", "bat", "cow"])[Y], dtype="category")),
    ],
)
def test_every_kind_of_array_gives_the_same(x: Any, y: Any) -> None:
    data = Dataset.from_arrays(x, y)
    np.testing.assert_array_equal(data.train.inputs.numpy(), X)
    assert data.train.inputs.dtype == torch.float64
    assert data.train.targets.dtype == torch.int64
    np.testing.assert_array_equal(data.train.targets.numpy(), Y)
    assert (data.num_classes, data.num_outputs, data.shape) == (3, 3, (3,))
    assert (len(data.test), data.shown) == (0, data.train)


def test_target_vectors_are_kept() -> None:
    y = np.random.default_rng(1).normal(size=(6, 2))
    data = Dataset.from_arrays(X, y, XT, y[:2], dtype=torch.float32)
    np.testing.assert_allclose(data.train.targets.numpy(), y, rtol=1e-6)
    assert data.train.targets.dtype == torch.float32
    assert (data.num_outputs, data.num_classes, data.has_labels) == (2, None, False)
    assert data.vectors(data.test.targets, torch.float64).shape == (2, 2)
    labelled = Dataset.from_arrays(X, Y)
    assert labelled.vectors(labelled.train.targets, torch.float32).tolist() == np.eye(3)[Y].tolist()


@pytest.mark.parametrize(
    ("shape", "channels", "expected"),
    [
        ((4, 5), None, (4, 5)),
        ((3, 4, 5), None, (3, 4, 5)),
        ((4, 5, 3), None, (3, 4, 5)),
        ((4, 5, 1), None, (1, 4, 5)),
        ((7, 4, 5), None, (7, 4, 5)),
        ((3, 4, 3), None, (3, 4, 3)),
        ((3, 4, 3), "last", (3, 3, 4)),
        ((4, 5, 3), "first", (4, 5, 3)),
        ((4, 5, 6), "last", (6, 4, 5)),
        ((2, 3, 4, 5), None, (2, 3, 4, 5)),
    ],
)
def test_images_keep_their_shape_channels_first(
    shape: tuple[int, ...], channels: Any, expected: tuple[int, ...]
) -> None:
    images = pictures(6, shape)
    data = Dataset.from_arrays(images, Y, channels=channels)
    assert data.shape == expected
    moved = images if images.shape[1:] == expected else np.moveaxis(images, 3, 1)
    if channels == "last":
        moved = np.moveaxis(images, 3, 1)
    np.testing.assert_array_equal(
        data.train.inputs.numpy(), (moved.reshape(6, -1) / np.float32(255)).astype(np.float32)
    )
    assert data.input_size == images[0].size
    three = {2: (1, *expected), 3: expected}.get(len(expected))
    assert data.image_shape == three


def test_a_given_range_becomes_the_unit_interval_and_integers_need_one() -> None:
    data = Dataset.from_arrays(X, Y, value_range=(-4, 4))
    np.testing.assert_allclose(data.train.inputs.numpy(), (X + 4) / 8)
    with pytest.raises(InputError, match=r"x_train holds values from 0 to 900.*value_range=\(0, "):
        Dataset.from_arrays(np.array([[0], [900]]), [0, 1])


NAN = X.copy()
NAN[4, 1] = np.nan
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "one dimension": ({"x_train": X[:, 0]}, r"x_train has shape \[6\].*2 or more dimensions"),
    "no rows": ({"x_train": X[:0], "y_train": Y[:0]}, "x_train holds no inputs"),
    "lengths": ({"y_train": Y[:5]}, "x_train holds 6 rows and y_train 5 labels"),
    "test lengths": ({"y_test": Y}, "x_test holds 2 rows and y_test 6 labels"),
    "shapes": ({"x_test": XT[:, :2]}, r"x_train .*shape \[3\] and x_test of \[2\]"),
    "not a number": ({"x_train": NAN}, "x_train is NaN or infinite in row 4, and in 1 rows"),
    "infinite": ({"x_test": XT * np.inf}, "x_test is NaN or infinite in row 0"),
    "target NaN": ({"y_train": NAN, "y_test": NAN[:2]}, "y_train is NaN or infinite in row 4"),
    "negative label": ({"y_train": Y.astype(int) - 1}, "y_train holds labels from -1 to 1"),
    "label beyond": ({"num_classes": 2}, "y_train holds labels from 0 to 2, legal is 0 to 1"),
    "fractions": ({"y_train": Y / 2}, r"y_train holds float64, one a row.*y.astype\(int\)"),
    "two kinds": ({"y_test": XT}, "y_train holds labels and y_test target vectors"),
    "two lengths": ({"y_train": X, "y_test": XT[:, :2]}, "vectors of 3 numbers and y_test of 2"),
    "complex": ({"x_train": X + 1j}, "x_train holds complex128"),
    "complex tensor": ({"x_train": torch.from_numpy(X + 1j)}, "x_train holds torch.complex128"),
    "dates": ({"x_train": X.astype("M8[s]")}, "x_train holds datetime64"),
    "text": ({"x_train": [["a", "b"]] * 6}, "x_train holds <U1: inputs are integers or floats"),
    "ragged": ({"x_train": [[1.0], [1.0, 2.0]] * 3}, "x_train is ragged"),
    "a path": ({"x_train": "mnist.npz"}, "x_train is str: give a numpy array"),
    "a dict": ({"y_train": {}}, "y_train is dict: give a numpy array"),
    "nothing": ({"x_train": None, "y_train": None}, "x_train is None"),
    "no targets": ({"y_train": None}, "x_train is given without y_train"),
    "no test inputs": ({"x_test": None}, "y_test is given without x_test"),
    "a column of text": (
        {"x_train": pd.DataFrame({"a": [1.0] * 6, "name": list("abcdef")})},
        "x_train has no number everywhere in column 'name'",
    ),
    "an object": ({"x_train": object()}, "x_train is object: give a numpy array"),
    "objects": ({"y_train": [None] * 6}, "y_train holds NoneType in row 0"),
    "masked": ({"x_train": np.ma.masked_less(X, 0)}, "x_train has masked values"),
    "channels": ({"channels": "last"}, "channels='last' is for four dimensions"),
    "unknown channels": ({"channels": "middle"}, 'use "first" or "last"'),
    "holdout": ({"holdout": 0.5}, "holdout=0.5 is for a training set without a test set"),
    "holdout share": ({"x_test": None, "y_test": None, "holdout": 2}, "holdout=2 is no share"),
    "one value": ({"x_train": X * 0, "x_test": XT * 0}, "nothing to learn"),
    "range": ({"value_range": (1, 1)}, r"range=\[1, 1\] is empty"),
    "classes of vectors": ({"y_train": X, "y_test": XT, "num_classes": 3}, "num_classes=3 goes"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_one_line_that_names_the_argument(case: str) -> None:
    change, message = BAD[case]
    arguments = {"x_train": X, "y_train": Y, "x_test": XT, "y_test": YT} | change
    with pytest.raises(InputError, match=message) as caught:
        Dataset.from_arrays(**arguments)
    assert "\n" not in str(caught.value)


def test_a_data_set_shows_itself_compares_copies_and_pickles() -> None:
    data = Dataset.from_arrays(X, Y, XT, YT, name="mine")
    told = "Dataset('mine', 6 to learn, 2 to test, shape (3,), 3 classes)"
    assert repr(data) == told
    assert repr(data.test) == "Examples(2, inputs [2, 3], labels)"
    for same in (pickle.loads(pickle.dumps(data)), copy.deepcopy(data), data.to("cpu")):
        assert same == data
        assert hash(same) == hash(data)
    assert data != Dataset.from_arrays(X, Y, XT, YT)
    assert data != Dataset.from_arrays(X, Y[::-1], XT, YT, name="mine")
    assert data.to(dtype=torch.float32).train.inputs.dtype == torch.float32
    assert data.train.first(2) == type(data.train)(data.train.inputs[:2], data.train.targets[:2])


def test_the_user_keeps_the_arrays() -> None:
    x, y = X.copy(), Y.astype(np.int64)
    data = Dataset.from_arrays(x, y)
    data.train.inputs.zero_()
    data.train.targets.zero_()
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)


@settings(max_examples=50, deadline=None)
@given(
    x=hnp.arrays(
        st.sampled_from([np.float32, np.float64]),
        st.tuples(st.integers(2, 5), st.integers(1, 4)),
        elements=st.floats(-1e6, 1e6, width=32),
    ),
    data=st.data(),
)
def test_floats_are_kept_to_the_last_bit(x: np.ndarray, data: st.DataObject) -> None:
    y = data.draw(hnp.arrays(np.int64, len(x), elements=st.integers(0, 4)))
    if x.min() == x.max():
        return
    made = Dataset.from_arrays(x, y)
    np.testing.assert_array_equal(made.train.inputs.numpy(), x)
    assert made.num_outputs == y.max() + 1
    assert made.sha256 == Dataset.from_arrays(torch.from_numpy(x), y.tolist()).sha256
