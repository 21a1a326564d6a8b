"""Thousands of malformed inputs, each refused by one line, with nothing written and nothing run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bad_input import plain
from tests.bad_input.refusing import Maker, refusals

QUICK, ALL = 12, 640
KINDS: dict[str, Maker] = {
    "config": plain.config,
    "csv": plain.table,
    "idx": plain.images,
    "hdf5": plain.log,
    "command line": plain.line,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [QUICK, pytest.param(ALL, marks=pytest.mark.slow)])
def test_bad_inputs_are_refused(
    kind: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refusals(kind, KINDS[kind], count, tmp_path, monkeypatch) == []
