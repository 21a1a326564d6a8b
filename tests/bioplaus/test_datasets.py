"""Data sets: right arrays from right files, one clear line for anything else."""

from __future__ import annotations

import gzip
import hashlib
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bioplaus.data import batches, known, load_dataset
from bioplaus.data.idx import read_idx
from bioplaus.data.readers.idx import find_roles
from bioplaus.errors import InputError
from tests.bioplaus.idx_files import NAMES, arrays, encode, write


def files_of(folder: Path) -> list[str]:
    """Names of the one data set's files in a folder."""
    (roles,) = find_roles(folder).values()
    return [path.name for path in roles.values()]


FASHION = Path("/usr/share/datasets/fashion-mnist")


def test_mnist_is_the_real_one() -> None:
    data = load_dataset("mnist")
    assert (data.name, data.num_classes, data.input_size) == ("mnist", 10, 784)
    assert data.train.inputs.shape == (60_000, 784)
    assert data.test.inputs.shape == (10_000, 784)
    assert data.train.inputs.dtype == torch.float32
    assert data.train.targets.dtype == torch.int64
    assert (data.train.inputs.min(), data.train.inputs.max()) == (0, 1)
    assert data.train.targets[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    assert data.test.targets[:8].tolist() == [7, 2, 1, 0, 4, 1, 4, 9]
    # The mean and deviation that everybody normalises MNIST with.
    assert data.train.inputs.double().mean().item() == pytest.approx(0.1307, abs=5e-5)
    assert data.train.inputs.double().std().item() == pytest.approx(0.3081, abs=5e-5)


@pytest.mark.skipif(not FASHION.is_dir(), reason="apt-get install dataset-fashion-mnist")
def test_fashion_mnist_is_the_real_one() -> None:
    data = load_dataset("fashion-mnist")
    assert (data.name, data.num_classes, data.input_size) == ("fashion-mnist", 10, 784)
    assert data.train.targets.bincount().tolist() == [6000] * 10
    assert data.test.targets.bincount().tolist() == [1000] * 10
    # The mean and deviation of the data set's own benchmarks.
    assert data.train.inputs.double().mean().item() == pytest.approx(0.2860, abs=5e-5)
    assert data.train.inputs.double().std().item() == pytest.approx(0.3530, abs=5e-5)


def test_fashion_mnist_missing_tells_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    there = known.KNOWN["fashion-mnist"]
    gone = known.Known(Path("/nowhere"), there.help, there.sha256)
    monkeypatch.setitem(known.KNOWN, "fashion-mnist", gone)
    with pytest.raises(InputError, match=r"apt-get install dataset-fashion-mnist.*data_dir"):
        load_dataset("fashion-mnist")


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_gives_scaled_images_and_labels(tmp_path: Path, packed: bool) -> None:
    content = arrays()
    folder = write(tmp_path / "digits", content, packed)
    data = load_dataset(str(folder), dtype=torch.float64)
    expected = content["train images"].reshape(5, 6) / 255
    assert data.train.inputs.dtype == torch.float64
    np.testing.assert_array_equal(data.train.inputs.numpy(), expected)
    np.testing.assert_array_equal(data.test.targets.numpy(), content["test labels"])
    assert (data.name, data.num_classes, data.input_size) == ("digits", 4, 6)
    digests = [hashlib.sha256(encode(array)).hexdigest() for array in content.values()]
    assert data.sha256 == hashlib.sha256("\n".join(digests).encode()).hexdigest()


def test_sha256_tells_types_shapes_and_elements_apart(tmp_path: Path) -> None:
    content = arrays((2, 3))
    seen = {load_dataset(str(write(tmp_path, content))).sha256}
    seen.add(load_dataset(str(write(tmp_path, arrays((3, 2))))).sha256)
    labels = content["test labels"].astype(np.int8)
    seen.add(load_dataset(str(write(tmp_path, content | {"test labels": labels}))).sha256)
    labels = np.array([2, 1, 0], np.uint8)
    seen.add(load_dataset(str(write(tmp_path, content | {"test labels": labels}))).sha256)
    assert len(seen) == 4


def test_sizes_keep_the_first_items_and_the_sha256(tmp_path: Path) -> None:
    folder = str(write(tmp_path, arrays()))
    whole, part = load_dataset(folder), load_dataset(folder, train_size=2, test_size=1)
    assert torch.equal(part.train.inputs, whole.train.inputs[:2])
    assert torch.equal(part.train.targets, whole.train.targets[:2])
    assert torch.equal(part.test.targets, whole.test.targets[:1])
    assert (part.sha256, part.num_classes) == (whole.sha256, whole.num_classes)
    for train_size, test_size in ((6, None), (0, None), (None, 4), (None, -1)):
        option = "test_size" if train_size is None else "train_size"
        with pytest.raises(InputError, match=f"{option}=.* use 1 to"):
            load_dataset(folder, train_size=train_size, test_size=test_size)


def test_float_images_are_kept_and_must_lie_in_the_unit_interval(tmp_path: Path) -> None:
    content = arrays()
    unit = content["train images"].astype(np.float32) / 255
    folder = str(write(tmp_path, content | {"train images": unit}))
    np.testing.assert_array_equal(load_dataset(folder).train.inputs.numpy(), unit.reshape(5, 6))
    for wrong in (unit * 255, unit - 1, np.where(unit == unit.max(), np.float32(math.nan), unit)):
        write(tmp_path, content | {"train images": wrong})
        with pytest.raises(InputError, match="integers 0 to 255 or floats 0 to 1"):
            load_dataset(folder)


@pytest.mark.parametrize(
    "names",
    [
        ["train-images.idx3-ubyte", "train-labels.idx1-ubyte", "test-images.idx3-ubyte"],
        ["emnist-train-images-idx3-ubyte.gz", "Train_Label.idx", "T10K-image.idx3"],
    ],
)
def test_names_that_can_mean_one_file_only_are_found(tmp_path: Path, names: list[str]) -> None:
    names = [*names, "test-labels.idx1-ubyte"]
    for name in [*names, "train-notes.txt", "train-images.png", "trains-images-idx3-ubyte"]:
        (tmp_path / name).touch()
    assert files_of(tmp_path) == names


def test_a_standard_name_comes_first_and_unpacked_before_packed(tmp_path: Path) -> None:
    write(tmp_path, arrays(), packed=True)
    write(tmp_path, arrays())
    (tmp_path / "other-train-images-idx3-ubyte").touch()
    assert files_of(tmp_path) == list(NAMES.values())


def test_names_that_can_mean_several_files_are_refused(tmp_path: Path) -> None:
    for name in ("a-train-images-idx3-ubyte", "b-train-images-idx3-ubyte", NAMES["train labels"]):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match="2 files that could be its train images"):
        find_roles(tmp_path)


def test_packed_or_not_is_told_by_the_content(tmp_path: Path) -> None:
    folder = write(tmp_path, arrays())
    plain = folder / NAMES["train images"]
    plain.rename(folder / (plain.name + ".gz"))
    assert load_dataset(str(folder)).input_size == 6


TWO_LABELS = np.array([1, 2], np.uint8)
BAD_CONTENT = {
    "labels where images are": ("train images", TWO_LABELS, "mislabelled.*train images have 2"),
    "images where labels are": (
        "test labels",
        np.zeros((3, 2, 3), np.uint8),
        "mislabelled.*test labels have 1 dimension",
    ),
    "lengths": ("train labels", TWO_LABELS, "5 images and .*2 labels"),
    "no images": ("train images", np.zeros((0, 2, 3), np.uint8), "holds no train images"),
    "no pixels": ("train images", np.zeros((5, 0, 3), np.uint8), "holds no train images"),
    "no labels": ("test labels", np.zeros(0, np.uint8), "holds no test labels"),
    "negative": ("test labels", np.array([0, -1, 2], np.int8), "labels from -1 to 2"),
    "too many classes": ("test labels", np.array([0, 1, 65536], np.int32), "0 to 65535"),
    "real labels": ("test labels", np.array([0, 1, 2], np.float32), "float32.*integers"),
    "image sizes": ("test images", np.zeros((3, 3, 3), np.uint8), r"\[2, 3\].*\[3, 3\]"),
    "grey levels": ("test images", np.full((3, 2, 3), 256, np.int16), "256.*0 to 255"),
}


@pytest.mark.parametrize("case", BAD_CONTENT)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, case: str) -> None:
    role, array, message = BAD_CONTENT[case]
    write(tmp_path, arrays() | {role: array})
    with pytest.raises(InputError, match=message) as caught:
        load_dataset(str(tmp_path))
    assert NAMES[role] in str(caught.value)
    assert "\n" not in str(caught.value)


BAD_FILES = {
    "missing": (None, "has no test labels"),
    "empty": (b"", "is empty"),
    "cut header": (b"\0\0\x08\x01\0\0", "truncated"),
    "cut": (b"\0\0\x08\x01\0\0\0\x03\x01\x02", "truncated"),
    "long": (b"\0\0\x08\x01\0\0\0\x03\x01\x02\x03\x04", "too long"),
    "magic": (b"\x89PNG\r\n\x1a\n", "not an IDX file.*starts with 89 50 4e 47, legal is 00 00"),
    "type": (b"\0\0\x0a\x01\0\0\0\x01\x01", "not an IDX file"),
    "dimensions": (b"\0\0\x08\0", "not an IDX file"),
    "cut gzip": (gzip.compress(encode(np.array([2, 1, 3], np.uint8)))[:-9], "truncated"),
    "corrupt gzip": (b"\x1f\x8b\x07 and so on", "corrupt"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_damaged_files_are_refused(tmp_path: Path, case: str) -> None:
    content, message = BAD_FILES[case]
    path = write(tmp_path, arrays()) / NAMES["test labels"]
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load_dataset(str(tmp_path))
    assert NAMES["test labels"] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_in_the_place_of_a_file_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path, arrays()) / NAMES["train images"]
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match="has no train images"):
        load_dataset(str(tmp_path))
    with pytest.raises(InputError, match="cannot be read"):
        read_idx(path)


def test_another_data_set_under_a_known_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not mnist's train images: its unpacked sha256"):
        load_dataset("mnist", data_dir=write(tmp_path, arrays()))


def test_a_known_name_can_come_from_another_folder(tmp_path: Path) -> None:
    for path in (Path(known.__file__).parent / "mnist").glob("*.gz"):
        (tmp_path / path.name).symlink_to(path)
    part = load_dataset("mnist", data_dir=tmp_path, train_size=1, test_size=1)
    assert part.sha256 == load_dataset("mnist", train_size=1).sha256


@pytest.mark.parametrize("name", ["mnits", "", "no/such/folder", "a\0b", "~nobody/x", "x" * 9999])
def test_an_unknown_name_lists_the_legal_ones(name: str) -> None:
    with pytest.raises(InputError, match=re.escape("legal are mnist, fashion-mnist, or")) as caught:
        load_dataset(name)
    assert ("did you mean mnist?" in str(caught.value)) == (name == "mnits")


def test_a_folder_and_a_data_dir_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two folders given"):
        load_dataset(str(write(tmp_path, arrays())), data_dir=tmp_path)
    with pytest.raises(InputError, match="cannot be listed"):
        load_dataset("mnist", data_dir=tmp_path / "gone")


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 300), batch_size=st.integers(1, 400), seed=st.integers(0, 2**40))
def test_batches_hold_each_index_once_in_an_order_set_by_the_generator(
    n: int, batch_size: int, seed: int
) -> None:
    first = list(batches(n, batch_size, torch.Generator().manual_seed(seed)))
    again = list(batches(n, batch_size, torch.Generator().manual_seed(seed)))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert sorted(torch.cat(first).tolist()) == list(range(n))
    assert len(first) == -(-n // batch_size)
    assert all(len(batch) == batch_size for batch in first[:-1])
    assert torch.cat(list(batches(n, batch_size))).tolist() == list(range(n))


def test_batches_differ_between_epochs() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.cat(list(batches(100, 7, generator))) for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("n", "batch_size"), [(0, 1), (5, 0), (5, -3)])
def test_batches_of_nothing_are_refused(n: int, batch_size: int) -> None:
    with pytest.raises(InputError, match="gives no batch"):
        batches(n, batch_size)
