"""Replaced folders are complete, and nothing that someone else has put there is lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bioplaus_cli.folders import choose_folder, new_folder
from tests.command_line import call, refused


def save(folder: Path, files: dict[str, str]) -> None:
    """Save a model with these files, replacing what is there."""
    with new_folder(folder, overwrite=True) as fresh:
        for name, text in files.items():
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            (fresh / name).write_text(text)


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


ADAPTER = {"adapter_config.json": "1", "adapter_model.safetensors": "1", "encoder/config.json": "1"}
MODEL = {"config.json": "2", "model.safetensors": "2", "encoder/config.json": "2"}
MINE = {"notes.txt": "mine", "figures/a.png": "mine", ".git/HEAD": "mine"}


def litter(folder: Path) -> None:
    for name, text in {**MINE, "encoder/notes.txt": "mine"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_a_strangers_files_outlive_a_replaced_model_and_those_of_the_old_model_do_not(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "model"
    save(folder, ADAPTER)
    litter(folder)
    save(folder, MODEL)
    expected = MODEL | MINE | {"kept/encoder/notes.txt": "mine"}
    assert content(folder) == expected
    save(folder, MODEL)
    assert content(folder) == expected
    assert list(tmp_path.iterdir()) == [folder]


def test_so_they_do_where_the_process_was_killed_before_they_were_moved(tmp_path: Path) -> None:
    folder, old = tmp_path / "model", tmp_path / ".model.4194304.old"
    save(folder, MODEL)
    litter(old)
    options = {"resume": False, "overwrite": True}
    assert choose_folder(folder, tmp_path / "run.h5", options) == (folder, True)
    assert content(folder) == MODEL | MINE | {"kept/encoder/notes.txt": "mine"}
    assert list(tmp_path.iterdir()) == [folder]


def test_what_cannot_be_moved_stays_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    save(folder, MODEL)
    litter(folder)
    rename = os.rename

    def refuse(source: Path, target: Path) -> None:
        if Path(source).name == "notes.txt":
            raise PermissionError(1, "Operation not permitted")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    save(folder, MODEL)
    monkeypatch.undo()
    texts = [path.read_text() for path in tmp_path.rglob("notes.txt")]
    assert texts == ["mine", "mine"]
    assert {name: text for name, text in content(folder).items() if name in MODEL} == MODEL


def test_a_picture_that_is_there_is_replaced_only_when_asked_to(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "mine.png"
    picture.write_text("mine")
    run = ["nash-md", "--game", "rock-paper-scissors", "--iterations", "3", "--quiet"]
    run += ["--plot", str(picture), "--out", str(tmp_path / "run.h5")]
    assert refused(call(*run), "mine.png: exists", "--overwrite")
    assert picture.read_text() == "mine"
    assert call(*run, "--overwrite").exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
