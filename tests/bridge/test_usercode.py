"""Users' code by name: what is found, what a log records, and one line for what is missing."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import pytest

from bridge.errors import InputError
from bridge.usercode import load_object, names_code

CODE = """
from __future__ import annotations
import dataclasses

import numbers_of_mine


@dataclasses.dataclass
class Net:
    width: int = 3

    @classmethod
    def wide(cls) -> Net:
        return cls(numbers_of_mine.WIDE)


def load():
    import later_of_mine
    return later_of_mine.VALUE


size = 5
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules, in which the test works."""
    (tmp_path / "mynet.py").write_text(CODE)
    (tmp_path / "numbers_of_mine.py").write_text("WIDE = 12\n")
    (tmp_path / "later_of_mine.py").write_text("VALUE = 7\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("spec", ["mynet:load", "mynet.py:load", "./mynet.py:load", "ABSOLUTE"])
def test_a_function_is_found_with_its_file_and_hash(here: Path, spec: str) -> None:
    spec = spec.replace("ABSOLUTE", f"{here}/mynet.py:load")
    found, origin = load_object(spec, "dataset")
    assert found() == 7
    assert (origin.what, origin.spec) == ("dataset", spec)
    assert Path(origin.file) == (here / "mynet.py").resolve()
    assert origin.sha256 == hashlib.sha256((here / "mynet.py").read_bytes()).hexdigest()


def test_classes_and_dotted_names_are_found(here: Path) -> None:
    net, _ = load_object("mynet:Net", "field")
    wide, _ = load_object("mynet.py:Net.wide", "field")
    assert (net().width, wide().width) == (3, 12)


def test_a_file_elsewhere_finds_what_lies_beside_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "work").mkdir()
    monkeypatch.chdir(here / "work")
    assert load_object("../mynet.py:load", "dataset")[0]() == 7


def test_a_package_names_the_file_that_defines_the_object(here: Path) -> None:
    (here / "nets").mkdir()
    (here / "nets" / "__init__.py").write_text("from nets.deep import Deep\n")
    (here / "nets" / "deep.py").write_text("class Deep:\n    pass\n")
    _, origin = load_object("nets:Deep", "field")
    assert Path(origin.file).name == "deep.py"


def test_an_edited_file_is_imported_again(here: Path) -> None:
    for spec in ("edited.py:f", "edited:f"):
        for value in (1, 2):
            (here / "edited.py").write_text(f"def f():\n    return {value}\n")
            os.utime(here / "edited.py", (value, value))
            assert load_object(spec, "x")[0]() == value


def test_a_file_called_like_an_installed_module_hides_nothing(here: Path) -> None:
    import json

    (here / "json.py").write_text("def load():\n    return 'mine'\n")
    assert load_object("json.py:load", "dataset")[0]() == "mine"
    assert sys.modules["json"] is json


def test_code_without_a_file_has_no_hash() -> None:
    found, origin = load_object("builtins:abs", "activation")
    assert (found(-4), origin.file, origin.sha256) == (4, "", "")


BAD = {
    "colon": ("mynet", "write module:name"),
    "no name": ("mynet:", "write module:name"),
    "no module": (":load", "write module:name"),
    "odd name": ("mynet:lo ad", "write module:name"),
    "module that is not there": ("mynets:load", "no module 'mynets'; did you mean mynet?"),
    "package that is not there": ("nowhere.at.all:f", "no module 'nowhere'"),
    "module's name": ("my net:load", "no module's name"),
    "file that is not there": ("mynett.py:load", "did you mean mynet.py?"),
    "folder": ("folder.py:load", "cannot be read (Is a directory)"),
    "attribute": ("mynet:laod", "mynet has no 'laod'; did you mean 'load'?"),
    "attribute far off": ("mynet.py:zzz", "it has Net, load"),
    "method": ("mynet:Net.wid", "did you mean 'wide'?"),
    "no callable": ("mynet:size", "is int, which cannot be called"),
    "syntax": ("broken.py:f", "broken.py:2: "),
    "failing": ("failing:f", "failing.py:2 in <module>: ValueError: no such luck"),
    "leaving": ("leaving:f", "SystemExit: 3"),
    "needs what is not there": ("needy:f", "imports 'package_that_nobody_has'"),
    "long": ("x" * 5000 + ":f", "no module"),
    "not text": ("noise.py:f", "source code"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_loaded_is_one_line(here: Path, case: str) -> None:
    (here / "broken.py").write_text("x = 1\ndef f(:\n")
    (here / "failing.py").write_text("\nraise ValueError('no\\nsuch luck')\n")
    (here / "leaving.py").write_text("raise SystemExit(3)\n")
    (here / "needy.py").write_text("import package_that_nobody_has\n")
    (here / "noise.py").write_bytes(b"\0\xff\x00")
    (here / "folder.py").mkdir()
    spec, words = BAD[case]
    with pytest.raises(InputError) as caught:
        load_object(spec, "dataset")
    text = str(caught.value)
    assert text.startswith("dataset='")
    assert words in text
    assert "\n" not in text
    assert len(text) < 6000


def test_a_path_with_a_colon_names_no_code(here: Path) -> None:
    (here / "a:b").mkdir()
    assert names_code("mine:load")
    assert not names_code("a:b")
    assert not names_code("mnist")
