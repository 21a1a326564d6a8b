"""The IDX format: every array comes back, every damaged file is one clear error."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bioplaus.data.idx import read_idx
from bioplaus.errors import InputError
from tests.bioplaus.idx_files import encode

cheap = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def outcome(path: Path) -> tuple[np.ndarray | None, str]:
    """The array, or the error's text."""
    try:
        return read_idx(path)[0], ""
    except InputError as error:
        return None, str(error)


idx_arrays = hnp.arrays(
    dtype=st.sampled_from(["u1", "i1", "i2", "i4", "f4", "f8"]),
    shape=hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4),
)


@cheap
@given(array=idx_arrays, packed=st.booleans())
def test_every_type_and_shape_is_read_back(tmp_path: Path, array: np.ndarray, packed: bool) -> None:
    data = encode(array)
    path = tmp_path / "array"
    path.write_bytes(gzip.compress(data) if packed else data)
    values, digest = read_idx(path)
    assert values.dtype == array.dtype
    assert values.dtype.isnative
    np.testing.assert_array_equal(values, array)
    assert digest == hashlib.sha256(data).hexdigest()


@cheap
@given(array=idx_arrays, packed=st.booleans(), data=st.data())
def test_every_cut_and_every_added_byte_is_refused(
    tmp_path: Path, array: np.ndarray, packed: bool, data: st.DataObject
) -> None:
    whole = gzip.compress(encode(array)) if packed else encode(array)
    path = tmp_path / "array"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(InputError, match=r"truncated|empty"):
        read_idx(path)
    longer = encode(array) + data.draw(st.binary(min_size=1, max_size=4))
    path.write_bytes(gzip.compress(longer) if packed else longer)
    with pytest.raises(InputError, match="too long"):
        read_idx(path)


@cheap
@given(data=st.data())
def test_a_changed_byte_of_a_packed_file_is_refused_or_harmless(
    tmp_path: Path, data: st.DataObject
) -> None:
    array = np.arange(40, dtype=np.uint8).reshape(10, 4)
    whole = bytearray(gzip.compress(encode(array)))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "array.gz"
    path.write_bytes(whole)
    values, message = outcome(path)
    if values is None:
        assert str(path) in message
    else:
        np.testing.assert_array_equal(values, array)


@cheap
@given(head=st.sampled_from([b"", b"\0\0", b"\x1f\x8b\x08"]), tail=st.binary(max_size=40))
def test_noise_is_an_input_error_or_an_array(tmp_path: Path, head: bytes, tail: bytes) -> None:
    path = tmp_path / "noise"
    path.write_bytes(head + tail)
    values, message = outcome(path)
    if values is None:
        assert str(path) in message
        assert "\n" not in message
    else:
        assert encode(values) == head + tail


@pytest.mark.parametrize("packed", [False, True])
def test_a_huge_promise_is_refused_before_memory_is_taken(tmp_path: Path, packed: bool) -> None:
    data = struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1) + bytes(1000)
    path = tmp_path / "huge"
    path.write_bytes(gzip.compress(data) if packed else data)
    with pytest.raises(InputError, match="truncated: its header promises"):
        read_idx(path)


def test_a_packed_bomb_is_unpacked_no_further_than_its_header_promises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(encode(np.zeros(100, np.uint8)) + bytes(10_000_000)))
    read = []
    original = gzip.GzipFile.read

    def counted(self: gzip.GzipFile, size: int | None = -1) -> bytes:
        chunk = original(self, size)
        read.append(len(chunk))
        return chunk

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    with pytest.raises(InputError, match="too long"):
        read_idx(path)
    assert sum(read) == 8 + 100 + 1
