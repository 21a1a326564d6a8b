"""Damaged folders of models, given to every command that reads one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bad_input.refusing import refusals

pytest.importorskip("peft")
from tests.bad_input import commands, models

QUICK, ALL = 6, 160
KINDS = [
    "policy",
    "encoder",
    "adapter",
    "adapter as encoder",
    "preference, hashed words",
    "preference, a model",
]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.good_folders(tmp_path_factory.mktemp("good"))


@pytest.mark.parametrize("count", [4 * QUICK, pytest.param(3 * ALL, marks=pytest.mark.slow)])
def test_bad_command_lines_are_refused(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refusals("commands", commands.line, count, tmp_path, monkeypatch) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [QUICK, pytest.param(ALL, marks=pytest.mark.slow)])
def test_bad_models_are_refused(
    kind: str, count: int, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refusals(kind, models.makers(good)[kind], count, tmp_path, monkeypatch) == []
