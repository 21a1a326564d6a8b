"""What is read is told: scales, classes, equal and empty images; and nothing trains in the dark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bioplaus.data import Dataset, load_dataset
from bioplaus.errors import InputError
from tests.bioplaus.idx_files import write


def images(high: float, dtype: Any, count: int = 12, seed: int = 0) -> np.ndarray:
    """Different images whose largest value is `high`."""
    drawn = np.random.default_rng(seed).random((count, 3, 3))
    return (drawn / drawn.max() * high).astype(dtype)


def load(folder: Path, train: np.ndarray, test: np.ndarray | None = None, **more: Any) -> Dataset:
    """A data set of these images; by default the labels cycle through three classes."""
    test = images(float(train.max()), train.dtype, 6, seed=1) if test is None else test
    content = {
        "train images": train,
        "train labels": np.arange(len(train), dtype=np.uint8) % 3,
        "test images": test,
        "test labels": np.arange(len(test), dtype=np.uint8) % 3,
    }
    settings = {k: more.pop(k) for k in ("value_range", "train_size") if k in more}
    return load_dataset(
        str(write(folder / "data", content | more)), dtype=torch.float64, **settings
    )


@pytest.mark.parametrize(
    ("high", "dtype"),
    [(1, np.uint8), (16, np.uint8), (100, np.int16), (127, np.int8), (0.06, np.float32)],
)
def test_values_far_below_their_types_range_are_scaled_by_their_own(
    tmp_path: Path, high: float, dtype: Any
) -> None:
    data = load(tmp_path, images(high, dtype))
    assert data.train.inputs.max() == pytest.approx(1, abs=1e-6)
    expected = images(high, dtype).reshape(12, 9) / np.array(high, dtype)
    np.testing.assert_allclose(data.train.inputs.numpy(), expected, rtol=1e-6)
    (warning,) = [w for w in data.facts.warnings if "values end at" in w]
    assert "--set data.range=[0, " in warning


@pytest.mark.parametrize(("high", "dtype"), [(255, np.uint8), (200, np.uint8), (0.9, np.float64)])
def test_other_values_keep_their_types_range(tmp_path: Path, high: float, dtype: Any) -> None:
    data = load(tmp_path, images(high, dtype))
    full = 255 if dtype == np.uint8 else 1
    np.testing.assert_allclose(data.train.inputs.numpy(), images(high, dtype).reshape(12, 9) / full)
    assert not [w for w in data.facts.warnings if "values end at" in w]


def many(high: float) -> np.ndarray:
    return np.random.default_rng(0).integers(0, high, (60, 10, 10), endpoint=True).astype(np.uint8)


def test_a_few_bright_pixels_do_not_hide_dark_images(tmp_path: Path) -> None:
    dark = many(16)
    dark[0, 0, 0] = dark[1, 0, 0] = 255
    data = load(tmp_path, dark, test=dark)
    np.testing.assert_allclose(data.train.inputs.numpy(), dark.reshape(60, 100) / 255, rtol=1e-6)
    (warning,) = [w for w in data.facts.warnings if "above zero" in w]
    assert warning.startswith("all but 4 of 11,")
    assert "end at 16, and 255 becomes 1" in warning
    assert "--set data.range=[0, 16]" in warning
    blank = np.full((3, 10, 10), 255, np.uint8)  # of which no value is dark
    blank[0, 0, 0] = 254
    found = load(tmp_path, np.concatenate([dark] * 40), test=blank[:1]).facts.warnings
    assert [w for w in found if w.startswith("all but 180 of ")]
    plain = many(255)
    sparse = np.where(plain > 250, plain, 0)  # few pixels, but all of them bright
    for images in (plain, sparse):
        found = load(tmp_path, images, test=images).facts.warnings
        assert not [w for w in found if "above zero" in w]


@pytest.mark.parametrize(
    ("low", "high", "given"),
    [(0, 255, "(0, 255)"), (-30, 900, "(-32, 1023)"), (0, 1, ""), (-4, 6, "")],
)
def test_large_floats_that_are_used_unchanged_are_said(low: int, high: int, given: str) -> None:
    x = np.linspace(low, high, 120).reshape(12, 10)
    data = Dataset.from_arrays(x, np.arange(12) % 3, x, np.arange(12) % 3, dtype=torch.float64)
    np.testing.assert_array_equal(data.train.inputs.numpy(), x)
    warned = [w for w in data.facts.warnings if "used unchanged" in w]
    assert [f"value_range={given} scales" in w for w in warned] == [True] * bool(given)


def test_a_given_range_is_kept(tmp_path: Path) -> None:
    dark = load(tmp_path, images(16, np.uint8), value_range=(0, 255))
    np.testing.assert_allclose(dark.train.inputs.numpy(), images(16, np.uint8).reshape(12, 9) / 255)
    wide = load(tmp_path, images(1023, np.int16), value_range=(0, 1023))
    assert wide.train.inputs.max() == 1
    signed = (images(255, np.int16) - 128).astype(np.int8)
    shifted = load(tmp_path, signed, test=signed[:6], value_range=(-128, 127))
    np.testing.assert_allclose(
        shifted.train.inputs.numpy(), (signed.reshape(12, 9).astype(float) + 128) / 255
    )


@pytest.mark.parametrize(
    ("train", "fix"),
    [
        (images(1000, np.int16), "data.range=[0, 1023]"),
        (images(900, np.float32), "data.range=[0, 1023]"),
        ((images(255, np.int16) - 128).astype(np.int8), "data.range=[-128, 127]"),
        (images(255, np.float64), "data.range=[0, 255]"),
    ],
)
def test_values_outside_are_refused_with_the_key(
    tmp_path: Path, train: np.ndarray, fix: str
) -> None:
    with pytest.raises(InputError, match="legal are integers 0 to 255 or floats 0 to 1") as caught:
        load(tmp_path, train, test=train[:6])
    assert fix in str(caught.value)
    with pytest.raises(InputError, match=r"outside of range=\[0, 0.5\]"):
        load(tmp_path, train, test=train[:6], value_range=(0, 0.5))
    with pytest.raises(InputError, match="is empty"):
        load(tmp_path, train, test=train[:6], value_range=(1, 1))


@pytest.mark.parametrize("value", [0, 7, 255])
def test_images_that_are_all_of_one_grey_level_are_refused(tmp_path: Path, value: int) -> None:
    flat = np.full((6, 3, 3), value, np.uint8)
    with pytest.raises(InputError, match=f"every pixel of every image is {value}"):
        load(tmp_path, flat, test=flat)


def test_parts_of_different_scale_are_told(tmp_path: Path) -> None:
    data = load(tmp_path, images(255, np.uint8), test=images(1, np.uint8, 6, seed=1))
    (warning,) = [w for w in data.facts.warnings if "scaled otherwise" in w]
    assert "ends at 255" in warning
    assert "ends at 1:" in warning


def test_equal_and_empty_images_are_counted(tmp_path: Path) -> None:
    train, test = images(255, np.uint8), images(255, np.uint8, 6, seed=1)
    train[4] = train[1]  # of the same class
    train[5] = train[0]  # class 2 for 0
    train[7] = train[8] = 0
    train[9] = 90
    test[3] = train[0]  # the same class
    test[5] = test[4]  # another
    facts = load(tmp_path, train, test).facts
    assert facts.of["training images seen before"] == 3
    assert facts.of["test images that are in the training set"] == 1
    assert facts.of["test images seen before"] == 1
    assert facts.of["equal images with different labels"] == 3
    assert facts.of["images of one grey level"] == 3
    assert any("3 images are of one grey level" in w for w in facts.warnings)
    assert any("1 test image is also in the training set" in w for w in facts.warnings)
    assert any("3 images are equal to an earlier one that has another" in w for w in facts.warnings)


def test_classes_are_counted_and_the_odd_ones_named(tmp_path: Path) -> None:
    train = images(255, np.uint8)
    labels = np.array([1, 2, 3] * 4, np.uint8)
    facts = load(tmp_path, train, **{"train labels": labels, "test labels": labels[:6]}).facts
    assert facts.of["classes"] == 4
    assert facts.of["train images a class"] == {"0": 0, "1": 4, "2": 4, "3": 4}
    assert facts.warnings == (
        "1 of 4 outputs have no image (class 0): they learn to be silent; labels begin at 1?",
    )
    far = labels.copy()
    far[0] = 199
    facts = load(tmp_path, train, **{"train labels": far, "test labels": labels[:6]}).facts
    assert facts.of["classes without an image"] == "0, 4 to 198"
    assert facts.of["classes in the training set only"] == "199"
    assert "196 of 200 outputs have no image (class 0, 4 to 198)" in facts.warnings[0]
    only = labels[:6].copy()
    only[0] = 4
    facts = load(tmp_path, train, **{"train labels": labels, "test labels": only}).facts
    assert any("class 4 in the test set only" in w for w in facts.warnings)
    one = np.zeros(12, np.uint8)
    facts = load(tmp_path, train, **{"train labels": one, "test labels": one[:6]}).facts
    assert facts.warnings == ("all training images are of class 0",)


def test_what_is_told_is_of_the_images_that_are_used(tmp_path: Path) -> None:
    train = images(255, np.uint8)
    train[11] = train[0]
    assert load(tmp_path, train).facts.of["training images seen before"] == 1
    facts = load(tmp_path, train, train_size=6).facts
    assert facts.of["training images seen before"] == 0
    assert facts.of["train images"] == 6
