"""Every form in which people have data gives the right arrays; every damaged one a clear line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bioplaus import Dataset
from bioplaus.data import load_dataset
from bioplaus.errors import InputError
from tests.bioplaus import data_files as made


def load(place: Path, **wishes: Any) -> Dataset:
    return load_dataset(str(place), dtype=torch.float64, **wishes)


def flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1) / 255


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("named", ["", "MNIST", "MNIST/raw"])
def test_torchvisions_roots(tmp_path: Path, named: str, packed: bool) -> None:
    made.idx(tmp_path / "MNIST" / "raw", packed=packed)
    (tmp_path / "MNIST" / "raw" / "._train-images-idx3-ubyte").write_bytes(b"not these")
    data = load(tmp_path / named)
    np.testing.assert_array_equal(data.train.inputs.numpy(), flat(made.pictures(12)))
    np.testing.assert_array_equal(data.test.targets.numpy(), made.labels(6))
    assert (data.shape, data.image_shape) == ((4, 5), (1, 4, 5))
    assert "1 file: begin with a dot" in data.facts.of["left out"]


def test_a_root_of_two_data_sets_asks_for_one(tmp_path: Path) -> None:
    made.idx(tmp_path / "MNIST" / "raw")
    made.idx(tmp_path / "FashionMNIST" / "raw")
    with pytest.raises(InputError, match=r"2 data sets.*MNIST/raw.*FashionMNIST/raw"):
        load(tmp_path)
    assert len(load(tmp_path / "FashionMNIST").train) == 12


def test_emnists_letters_begin_at_one(tmp_path: Path) -> None:
    folder = tmp_path / "EMNIST" / "raw"
    for split, first in (("letters", 1), ("digits", 0), ("byclass", 0)):
        made.idx(folder, f"emnist-{split}-" + "{}-{}-idx{}-ubyte", first, True)
    with pytest.raises(InputError, match=r"byclass, digits, letters.*--set data.split=byclass"):
        load(tmp_path)
    with pytest.raises(InputError, match=r"split='leters'.*byclass, digits, letters"):
        load(tmp_path, split="leters")
    letters, digits = load(tmp_path, split="letters"), load(tmp_path, split="digits")
    np.testing.assert_array_equal(letters.train.targets.numpy(), made.labels(12))
    assert (letters.num_outputs, letters.class_names[2]) == (26, "C")
    assert letters.facts.of["labels"] == "1 to 26 in the files, made 0 to 25"
    np.testing.assert_array_equal(digits.train.targets.numpy(), made.labels(12))
    assert (digits.num_outputs, "labels" in digits.facts.of) == (10, False)


def test_a_split_alone_needs_no_name(tmp_path: Path) -> None:
    made.idx(tmp_path, "emnist-letters-{}-{}-idx{}-ubyte", first=1)
    assert load(tmp_path) == load(tmp_path, split="letters")


def test_qmnists_class_is_the_first_of_eight_columns(tmp_path: Path) -> None:
    made.qmnist(tmp_path / "QMNIST" / "raw")
    data = load(tmp_path)
    np.testing.assert_array_equal(data.train.targets.numpy(), made.labels(12))
    assert data.num_outputs == 3
    with pytest.raises(InputError, match="60,000 test images"):
        load(tmp_path, split="test50k")
    with pytest.raises(InputError, match="use one of test, test10k, test50k"):
        load(tmp_path, split="nist")


@pytest.mark.parametrize("named", ["", "cifar-10-batches-bin"])
def test_cifar_10(tmp_path: Path, named: str) -> None:
    made.cifar(tmp_path / "cifar-10-batches-bin")
    data = load(tmp_path / named)
    expected = np.concatenate([made.pictures(10, (3, 32, 32), k) for k in (1, 2, 3, 4, 5)])
    np.testing.assert_array_equal(data.train.inputs.numpy(), flat(expected))
    np.testing.assert_array_equal(data.test.targets.numpy(), np.arange(10))
    assert (data.shape, data.class_names[6]) == ((3, 32, 32), "frog")
    red = data.train.inputs.reshape(50, *data.shape)[0, 0]
    np.testing.assert_array_equal(red.numpy() * 255, expected[0, 0])


def test_cifar_100_has_two_kinds_of_labels(tmp_path: Path) -> None:
    made.cifar(tmp_path, wide=2)
    fine, coarse = load(tmp_path), load(tmp_path, split="coarse")
    assert fine.test.targets.tolist() == list(range(10))
    assert coarse.test.targets.tolist() == [k % 7 for k in range(10)]
    assert (fine.num_outputs, coarse.num_outputs) == (100, 20)
    assert fine.train.inputs.equal(coarse.train.inputs)


def test_batches_of_cifar_that_are_missing_are_told(tmp_path: Path) -> None:
    made.cifar(tmp_path, batches=(1, 2, 4, 5))
    assert "data_batch_3.bin is not there: trained on the rest" in load(tmp_path).facts.warnings


ARRAYS = {
    "keras": ("x_train", "y_train", "x_test", "y_test"),
    "medmnist": ("train_images", "train_labels", "test_images", "test_labels"),
    "capitals": ("X_train", "Y_train", "X_test", "Y_test"),
    "camels": ("trainX", "trainY", "testX", "testY"),
    "one word": ("xtrain", "ytrain", "xtest", "ytest"),
    "data": ("train_data", "train_targets", "test_data", "test_targets"),
    "kuzushiji": ("kmnist-train-imgs", "kmnist-train-labels", "kmnist-test-imgs",
                  "kmnist-test-labels"),
}  # fmt: skip


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays_of_numpy_by_their_usual_names(tmp_path: Path, case: str) -> None:
    names = ARRAYS[case]
    values = [made.pictures(12), made.labels(12)[:, None], made.pictures(6, seed=1), made.labels(6)]
    np.savez(tmp_path / "one.npz", **dict(zip(names, values, strict=True)))
    np.savez_compressed(tmp_path / "two.npz", **dict(zip(names, values, strict=True)))
    for folder in ("single", "packed"):
        (tmp_path / folder).mkdir()
    for name, value in zip(names, values, strict=True):
        np.save(tmp_path / "single" / f"{name}.npy", value)
        np.savez(tmp_path / "packed" / f"{name}.npz", value)
    found = [load(tmp_path / n) for n in ("one.npz", "two.npz", "single", "packed")]
    for data in found:
        np.testing.assert_array_equal(data.test.inputs.numpy(), flat(values[2]))
        np.testing.assert_array_equal(data.train.targets.numpy(), made.labels(12))
        assert data.sha256 == found[0].sha256


def test_a_validation_set_is_a_test_set_where_there_is_no_other(tmp_path: Path) -> None:
    parts = {"train_x": made.pictures(12), "train_y": made.labels(12)}
    parts |= {"val_x": made.pictures(6, seed=1), "val_y": made.labels(6)}
    np.savez(tmp_path / "a.npz", **parts)
    assert len(load(tmp_path / "a.npz").test) == 6
    np.savez(tmp_path / "b.npz", **parts, test_x=made.pictures(3, seed=2), test_y=made.labels(3))
    data = load(tmp_path / "b.npz")
    assert len(data.test) == 3
    assert "val_x: a validation set, beside a test set" in data.facts.of["left out"]


def test_floats_need_a_range_unless_they_lie_in_the_unit_interval(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(20, 3))
    np.savez(tmp_path / "a.npz", x=x, y=made.labels(20))
    with pytest.raises(InputError, match=r"--set data.range=\[-4, 3\]"):
        load(tmp_path / "a.npz", holdout=0.2)
    data = load(tmp_path / "a.npz", holdout=0.2, value_range=(-4, 4))
    both = torch.cat([data.train.inputs, data.test.inputs]).numpy()
    np.testing.assert_allclose(np.sort(both, 0), np.sort((x + 4) / 8, 0))


def test_columns_first_and_big_endian_arrays_are_read_as_they_are_meant(tmp_path: Path) -> None:
    x = made.pictures(12).astype(">u2")
    np.savez(tmp_path / "a.npz", x=np.asfortranarray(x), y=made.labels(12).astype(">i4"))
    data = load(tmp_path / "a.npz", holdout=0.5)
    both = torch.cat([data.train.inputs, data.test.inputs]).numpy()
    assert sorted(map(tuple, both)) == sorted(map(tuple, flat(made.pictures(12))))


@pytest.mark.parametrize("sides", [("train", "test"), ("training", "testing"), ("Train", "val")])
def test_folders_of_images(tmp_path: Path, sides: tuple[str, str]) -> None:
    images = made.image_folder(tmp_path, sides)
    (tmp_path / sides[0] / "cat" / "._000.png").write_bytes(b"a Mac's")
    (tmp_path / sides[0] / "cat" / "notes.txt").write_text("mine")
    data = load(tmp_path)
    assert (data.shape, data.class_names) == ((3, 5, 4), ("cat", "dog"))
    cats, dogs = np.moveaxis(images[sides[0]], 3, 1).reshape(2, 4, 3, 5, 4)
    expected = np.stack([cats, dogs], 1).reshape(8, 3, 5, 4)  # in turn
    np.testing.assert_array_equal(data.train.inputs.numpy(), flat(expected))
    assert data.train.targets.tolist() == [0, 1] * 4
    assert load(tmp_path, train_size=3).train.targets.tolist() == [0, 1, 0]
    assert "1 file: begin with a dot" in data.facts.of["left out"]
    assert "1 file: no images by their names" in data.facts.of["left out"]


def test_classes_that_are_numbers_stand_in_the_order_of_numbers(tmp_path: Path) -> None:
    made.image_folder(tmp_path / "pictures", classes=[str(k) for k in range(11)], mode="L", count=1)
    data = load(tmp_path)  # the one folder in it is looked into
    assert data.class_names == tuple(map(str, range(11)))


def test_one_folder_of_classes_is_parted_class_by_class(tmp_path: Path) -> None:
    made.image_folder(tmp_path, sides=("",), mode="L", count=8)
    data = load(tmp_path, holdout=0.25)
    assert data.train.targets.bincount().tolist() == [6, 6]
    assert data.test.targets.bincount().tolist() == [2, 2]
    assert data == load(tmp_path, holdout=0.25)
    assert data != load(tmp_path, holdout=0.25, holdout_seed=1)
    with pytest.raises(InputError, match=r"has no test set.*--set data.holdout=0.1"):
        load(tmp_path)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_of_pillow_becomes_grey_or_rgb(tmp_path: Path, mode: str) -> None:
    for k, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for i in range(4):
            grey = np.full((2, 2), 40 * i + 20 * k, np.uint8)
            grey[0] = 255
            if mode == "I;16":
                image = Image.fromarray(grey.astype(np.uint16) * 257)
            else:
                colour = np.stack([grey, grey, 255 - grey], 2)
                whole = Image.fromarray(grey if mode in ("1", "L", "LA") else colour)
                image = whole.convert(mode)
            image.save(tmp_path / name / f"{i}.{'tif' if mode == 'CMYK' else 'png'}")
    data = load(tmp_path, holdout=0.5)
    deep = mode == "I;16"
    colour = mode in ("P", "RGB", "RGBA", "CMYK")
    assert data.shape == ((3, 2, 2) if colour else (2, 2))
    assert data.facts.of["values"].endswith(f"0 to {65535 if deep else 255} made 0 to 1")
    assert ("pictures" in data.facts.of) == (mode in ("1", "LA", "P", "RGBA", "CMYK"))
    if mode in ("L", "LA", "I;16"):
        found = torch.cat([data.train.inputs, data.test.inputs])[:, 2] * 255
        assert sorted(found.round().int().tolist()) == sorted(
            40 * i + 20 * k for i in range(4) for k in (0, 1)
        )


def test_grey_among_colours_and_16_among_8_bits_are_told(tmp_path: Path) -> None:
    made.image_folder(tmp_path, sides=("",))
    grey = made.pictures(1, (5, 4))[0]
    Image.fromarray(grey).save(tmp_path / "cat" / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "cat" / "deep.png")
    data = load(tmp_path, holdout=0.2)
    assert sorted(data.facts.of["pictures"]) == [
        "1 are of 16 bits, brought to 8 as the others are",
        "2 are grey, read as RGB as the others are",
    ]
    found = torch.cat([data.train.inputs, data.test.inputs]).numpy()
    expected = np.tile(grey.ravel() / 255, 3)
    assert (np.abs(found - expected).max(1) < 1e-12).sum() == 2


def _npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "a.npz", **arrays)
    return folder / "a.npz"


def _cut(path: Path, keep: int) -> Path:
    path.write_bytes(path.read_bytes()[:keep])
    return path


def _in_npz(folder: Path, change: Callable[[bytearray], Any]) -> Path:
    path = _npz(folder, x=made.pictures(12), y=made.labels(12))
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return path


def _pictures(folder: Path, damage: Callable[[Path], Any]) -> Path:
    made.image_folder(folder, sides=("",), mode="L")
    damage(folder / "dog" / "000.png")
    return folder


def _flip(data: bytearray) -> None:
    data[300] ^= 255


def _emptied(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.mkdir()


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "objects": (
        lambda p: _npz(p, x=np.array([{}, 1], object), y=made.labels(2)),
        r"'x'.*Python objects: a pickle",
    ),
    "keys": (lambda p: _npz(p, foo=made.labels(3)), r"holds foo: looked for are x_train, y_train"),
    "no key": (lambda p: _npz(p), "holds nothing: looked for"),
    "two of a kind": (
        lambda p: _npz(p, x=made.pictures(3), images=made.pictures(3), y=made.labels(3)),
        r"2 arrays that could be its train set, x \(x, images\)",
    ),
    "test alone": (
        lambda p: _npz(p, x=made.pictures(3), y=made.labels(3), x_test=made.pictures(3)),
        "has x_test alone",
    ),
    "lengths": (lambda p: _npz(p, x=made.pictures(3), y=made.labels(2)), "3 images and .* 2 label"),
    "cut npz": (lambda p: _cut(_npz(p, x=made.pictures(9), y=made.labels(9)), 300), "corrupt or"),
    "bit of npz": (lambda p: _in_npz(p, _flip), "corrupt or truncated"),
    "empty npz": (lambda p: _cut(_npz(p, x=made.labels(9)), 0), "a.npz is corrupt or truncated"),
    "labels of text and numbers": (
        lambda p: _npz(p, x=made.pictures(4), y=list("abba"), x_test=made.pictures(2),
                       y_test=[0, 1]),
        "names of classes",
    ),
    "cifar cut": (lambda p: _cut(made.cifar(p) / "data_batch_2.bin", 5000).parent,
                  "data_batch_2.bin is truncated: 5000 bytes"),
    "cifar label": (
        lambda p: [(made.cifar(p) / "test_batch.bin").write_bytes(b"\x0b" * 3073), p][1],
        "test_batch.bin has label 11 at image 0, legal is 0 to 9",
    ),
    "cifar pickled": (
        lambda p: [(p / "cifar-10-batches-py").mkdir(),
                   (p / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"x"), p][2],
        "pickles, which can run code.*cifar-10-binary.tar.gz",
    ),
    "sizes": (
        lambda p: _pictures(p, lambda each: Image.new("L", (7, 5)).save(each)),
        r"dog/000.png is 7 x 5, but .*cat/000.png is 4 x 5 \(width x height\)",
    ),
    "image cut": (lambda p: _pictures(p, lambda each: _cut(each, 60)), "dog/000.png cannot be"),
    "no image": (
        lambda p: _pictures(p, lambda each: each.write_text("<html>")),
        r"dog/000.png cannot be read as an image \(UnidentifiedImageError: cannot identify",
    ),
    "empty image": (lambda p: _pictures(p, lambda each: _cut(each, 0)), "dog/000.png cannot be"),
    "empty class": (lambda p: _pictures(p, _emptied), "dog is empty: put images"),
    "bomb": (
        lambda p: _pictures(p, lambda each: Image.new("1", (14000, 14000)).save(each)),
        "dog/000.png is too large to be an example",
    ),
    "images without classes": (
        lambda p: [Image.new("L", (7, 5)).save(p / "a.png"), p][1],
        "holds images, but no folder a class",
    ),
    "nothing": (lambda p: p, "is empty: readable are"),
    "something else": (lambda p: [(p / "a.csv").touch(), p][1], "holds a.csv: readable are"),
    "packed": (lambda p: [(p / "a.zip").write_bytes(b"zip"), p / "a.zip"][1], "unpack it first"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, case: str) -> None:
    make, message = BAD[case]
    place = make(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        load(place, holdout=None if case == "labels of text and numbers" else 0.5)
    assert "\n" not in str(caught.value)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_damaged_npz_is_refused_or_gives_the_same_arrays(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("npz")
    path = _npz(folder, x=made.pictures(6), y=made.labels(6))
    right = load(path, holdout=0.5)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    found, message = None, ""
    try:
        found = load(path, holdout=0.5)
    except InputError as error:
        message = str(error)
    assert "\n" not in message
    assert found is None or found.train == right.train


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 99),
)
def test_what_is_held_out_is_a_share_of_each_class(
    sizes: list[int], share: float, seed: int
) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    n = len(labels)
    x = np.arange(n, dtype=float)[:, None] / n
    if not 0 < round(share * n) < n:
        return
    data = Dataset.from_arrays(x, labels, holdout=share, holdout_seed=seed)
    both = torch.cat([data.train.inputs, data.test.inputs])
    assert sorted(both[:, 0].tolist()) == x[:, 0].tolist()
    assert len(data.test) == round(share * n)
    held = data.test.targets.bincount(minlength=len(sizes))
    quota = len(data.test) / n * np.array(sizes)
    assert (np.abs(held.numpy() - quota) < 1).all()
    assert data == Dataset.from_arrays(x, labels, holdout=share, holdout_seed=seed)
