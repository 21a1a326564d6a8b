"""A checkpoint loads exactly as it was saved or not at all, whatever happened to its files."""

from __future__ import annotations

import errno
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from bridge import checkpoint
from bridge.checkpoint import checkpoints, load_checkpoint, restore, save_checkpoint
from bridge.errors import InputError, StorageError

STATE: dict[str, Any] = {
    "weights": {
        "W": torch.arange(12, dtype=torch.float32).reshape(3, 4) / 7,
        "empty": torch.ones(0),
    },
    "half": torch.arange(3, dtype=torch.bfloat16),
    "moments": {0: {"step": torch.tensor(3.0), "seen": True}, 1: {}},
    "generator": torch.Generator().manual_seed(3).get_state(),
    "betas": (0.9, 0.999),
    "sums": [1, 2.5, None, "text", float("inf")],
}


def same(a: Any, b: Any) -> bool:
    """Equality with types, of tensors bit for bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_what_is_saved_is_loaded_and_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 3, 20):
        save_checkpoint(tmp_path, step, STATE, {"rows": {"metrics": step}})
    assert [path.name[-2:] for path in checkpoints(tmp_path)] == ["20", "03"]
    found = load_checkpoint(checkpoints(tmp_path)[0])
    assert (found.step, found.facts) == (20, {"rows": {"metrics": 20}})
    assert same(found.state, STATE)


def test_what_cannot_be_kept_is_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a/0: set"):
        save_checkpoint(tmp_path, 1, {"a": [{1}]}, {})
    with pytest.raises(TypeError, match="whole numbers"):
        save_checkpoint(tmp_path, 1, {"a": {1: 2, "b": 3}}, {})
    assert checkpoints(tmp_path) == []


def test_tensors_of_another_run_are_refused() -> None:
    have = {"W": torch.zeros(2), "b": torch.zeros(1)}
    for saved in ({"W": torch.ones(2)}, {"W": torch.ones(3), "b": torch.ones(1)}):
        with pytest.raises(InputError, match="does not fit"):
            restore(have, saved)
    assert not have["W"].any()


def test_a_full_disk_leaves_the_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = save_checkpoint(tmp_path, 1, STATE, {})

    def full(file: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "force_file", full)
    with pytest.raises(StorageError, match="step 2 cannot be written: No space left"):
        save_checkpoint(tmp_path, 2, STATE, {})
    assert list(tmp_path.iterdir()) == [old]
    assert same(load_checkpoint(old).state, STATE)


def attempt(path: Path) -> str:
    """Load a checkpoint, which must be as saved; give the error that refuses it, or ""."""
    try:
        assert same(load_checkpoint(path).state, STATE)
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("n", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_damaged_one_is_refused_or_as_it_was(tmp_path: Path, n: int) -> None:
    path = save_checkpoint(tmp_path, 1, STATE, {"rows": {}})
    random_, refused = random.Random(n), 0
    whole = {file: file.read_bytes() for file in sorted(path.iterdir())}
    assert len(whole) == 3
    for _ in range(n):
        file = random_.choice(list(whole))
        data = bytearray(whole[file])
        if random_.random() < 0.5:
            data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
        else:
            del data[random_.randrange(len(data)) :]
        file.write_bytes(data)
        message = attempt(path)
        if message:
            assert message.startswith(f"{path}: ")
            assert "\n" not in message
            refused += 1
        file.write_bytes(whole[file])
    # A flipped bit of the manifest changes at most the case of a digit, and that is refused.
    assert refused >= 0.99 * n
    file = path / "manifest.json"
    file.unlink()
    with pytest.raises(InputError, match="no whole checkpoint"):
        load_checkpoint(path)
