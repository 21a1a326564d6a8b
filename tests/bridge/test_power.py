"""A power cut at any moment leaves every row that was forced, and no wrong row."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.bridge.disk import File, kinds_of_forcing
from tests.bridge.power import PROGRAMS, build, check_states, record
from tests.bridge.test_kill import quick_folder

__all__ = ["quick_folder"]


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that records calls."""
    try:
        return build(tmp_path_factory.mktemp("shim"))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no C compiler for the shim")


@pytest.mark.parametrize("states", [80, pytest.param(3000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_power_cut_takes_nothing_that_was_forced(
    shim: Path, quick_folder: Path, name: str, states: int
) -> None:
    trace = record(name, shim, quick_folder)
    wanted = round(states * PROGRAMS[name].share)
    counts, wrong = check_states(name, trace, quick_folder, wanted, seed=states)
    assert not wrong, wrong
    assert counts.total() == wanted


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_no_forcing_can_be_left_out(shim: Path, quick_folder: Path, name: str) -> None:
    trace = record(name, shim, quick_folder)
    kinds = list(kinds_of_forcing(trace))
    assert len(kinds) > 1
    for kind in kinds:
        _, wrong = check_states(name, trace, quick_folder, 400, seed=1, without=kind)
        assert wrong, f"{name} is as good without forcing {kind}"


def test_a_log_without_its_heartbeats_forcing_loses_rows(shim: Path, quick_folder: Path) -> None:
    trace = record("log", shim, quick_folder)
    # The file has lost the name that it was made under.
    beats = next(kind for kind in kinds_of_forcing(trace) if "run.h5.new" in kind and "(" in kind)
    _, wrong = check_states("log", trace, quick_folder, 60, 1, beats)
    assert "rows of" in wrong or "weights of" in wrong


def test_a_file_keeps_any_version_of_each_page() -> None:
    from tests.bridge.disk import Call

    file = File(bytearray(b"a" * 8))
    file.since = [Call("W", 0, 2, 4, "", b"bbbb"), Call("W", 0, 8, 4, "", b"cccc")]
    assert file.pages(4) == [0, 1, 2]
    assert file.sizes() == [8, 8, 12]
    assert file.state({0: 1, 1: 0, 2: 0}.__getitem__, 2, 4) == b"aabbaaaa\0\0\0\0"
    assert file.state({0: 0, 1: 1, 2: 2}.__getitem__, 2, 4) == b"aaaabbaacccc"
    assert file.state({0: 2, 1: 2, 2: 2}.__getitem__, 0, 4) == b"aabbbbaa"
    file.since.append(Call("T", 0, 3, 0, "", b""))
    assert file.state({0: 3, 1: 3, 2: 3}.__getitem__, 3, 4) == b"aab"
