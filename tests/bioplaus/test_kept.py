"""Fields in files, copies and pickles, and `load_state_dict`."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import bioplaus
from bioplaus import (
    LeakyField,
    check_field,
)
from bioplaus.errors import InputError
from tests.graphs import FIELDS


def leaky() -> LeakyField:
    g = torch.Generator().manual_seed(1)
    return LeakyField([6, 12, 2], "tanh", feedback_gain=0.5, generator=g)


@pytest.mark.parametrize("name", [*FIELDS, "leaky"])
def test_a_field_comes_back_from_copies_pickles_and_files(name: str, tmp_path: Path) -> None:
    field = leaky() if name == "leaky" else FIELDS[name]()
    assert field == copy.copy(field) == copy.deepcopy(field)
    moved = copy.deepcopy(field)
    next(iter(moved.parameters.values())).add_(1.0)
    assert moved != field
    path = tmp_path / "net.safetensors"
    field.save(path)
    if name == "gated":
        with pytest.raises(InputError, match=r"FunctionField.*load\(path, into=field\)"):
            bioplaus.load(path)
    else:
        assert pickle.loads(pickle.dumps(field)) == field
        state = torch.get_rng_state()
        back = bioplaus.load(path)
        assert back == field
        assert type(back) is type(field)
        assert torch.equal(state, torch.get_rng_state())
        x = torch.rand(3, *field.input, dtype=field.dtype)  # type: ignore[misc]
        assert torch.equal(back.predict(x), field.predict(x))
        check_field(back)
    assert bioplaus.load(path, into=moved) is moved
    assert moved == field


def test_fixed_weights_masks_and_signs_are_saved_too(tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(2)
    mask, signs = (torch.rand(5, 4, generator=g) < 0.5).float(), torch.tensor([1.0, 1, -1, 1])
    layers = [bioplaus.Layer(5, "clipped"), bioplaus.Layer(2, "linear", bias=False)]
    connections = [
        bioplaus.Dense(0, 1, mask=mask, signs=signs),
        bioplaus.Dense(1, 2, trainable=False, name="readout"),
        bioplaus.Dense(2, 1),
    ]
    field = bioplaus.LayeredField(4, layers, connections, generator=g)
    assert "readout" in field.state_dict()
    assert "readout" not in field.parameters
    field.save(tmp_path / "net.safetensors")
    back = bioplaus.load(tmp_path / "net.safetensors")
    assert back == field
    assert back.specs == field.specs  # type: ignore[attr-defined]


def test_a_layered_field_with_a_users_own_part_is_loaded_into_one(tmp_path: Path) -> None:
    layers = [bioplaus.Layer(5, torch.sin), bioplaus.Layer(2, "linear")]
    field = bioplaus.LayeredField(4, layers, [bioplaus.Dense(0, 1), bioplaus.Dense(1, 2)])
    field.save(tmp_path / "net.safetensors")
    with pytest.raises(InputError, match="into=field"):
        bioplaus.load(tmp_path / "net.safetensors")


def test_files_that_are_none_are_told_in_a_line(tmp_path: Path) -> None:
    torn, plain = tmp_path / "torn.safetensors", tmp_path / "plain.safetensors"
    torn.write_bytes(b"\x80" * 100)
    save_file({"w": torch.zeros(2)}, plain)
    for path, said in (
        (tmp_path / "none.safetensors", "no such file"),
        (torn, "no safetensors file"),
        (tmp_path, "no safetensors file"),
        (plain, "no field of this package"),
    ):
        with pytest.raises(InputError, match=said) as told:
            bioplaus.load(path)
        assert "\n" not in str(told.value)
    with pytest.raises(InputError, match=r"missing forward.1.*unexpected w"):
        bioplaus.load(plain, into=leaky())
    with pytest.raises(InputError, match="cannot be written"):
        leaky().save(tmp_path / "nowhere" / "net.safetensors")
    assert sorted(os.listdir(tmp_path)) == ["plain.safetensors", "torn.safetensors"]


def test_load_state_dict_names_what_does_not_fit_and_changes_nothing_then() -> None:
    field, other = leaky(), leaky()
    state = {k: v.clone() + 1 for k, v in field.state_dict().items()}
    for change, said in (
        ({"bias.1": None}, "missing bias.1"),
        ({"zzz": torch.zeros(1)}, "unexpected zzz"),
        ({"bias.2": torch.zeros(3)}, r"bias.2 is \(3,\), not \(2,\)"),
        ({"bias.2": [0.0, 0.0]}, "bias.2 is list"),
    ):
        bad = {k: v for k, v in {**state, **change}.items() if v is not None}
        with pytest.raises(InputError, match=said):
            field.load_state_dict(bad)
        assert field == other
    found = field.load_state_dict({"bias.1": state["bias.1"], "zzz": torch.zeros(1)}, strict=False)
    assert found.unexpected_keys == ["zzz"]
    assert "forward.1" in found.missing_keys
    field.load_state_dict({k: v.double() for k, v in state.items()})
    assert all(torch.equal(v, state[k]) for k, v in field.state_dict().items())
    assert field.dtype == torch.float32
