"""What Hypothesis can think of, instead of a table: bytes, texts and values of every kind."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.bad_input.refusing import faults

pytest.importorskip("peft")
from tests.bad_input import models

FEW, MANY = 10, 100
examples = settings(
    max_examples=FEW,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=9,
)
NO_OBJECT = JSON.filter(lambda value: not isinstance(value, dict)).map(json.dumps).map(str.encode)
# A lone surrogate is no text that a file could hold, and a NUL none that a command line could.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAME = TEXT.map(lambda text: "zz" + text.replace("\0", "").replace("/", ""))


@contextmanager
def folder() -> Iterator[Path]:
    """A new working directory."""
    before = Path.cwd()
    with TemporaryDirectory() as name:
        os.chdir(name)
        try:
            yield Path(name)
        finally:
            os.chdir(before)


def refusing(words: Sequence[str], **files: bytes) -> list[str]:
    """Give a command some files, "__" being the dot in a name; what was wrong with its refusal."""
    with folder() as here:
        models.texts(here)
        for name, data in files.items():
            (here / name.replace("__", ".")).write_bytes(data)
        return faults(words, here, "Hypothesis")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.good_folders(tmp_path_factory.mktemp("properties") / "good")


def a_config(data: st.DataObject) -> list[str]:
    """A known key with an illegal value, or an unknown key."""
    key = data.draw(st.sampled_from(["epochs", "batch_size", "network.hidden", "data.train_size"]))
    value = data.draw(st.floats(max_value=-1) | st.booleans() | TEXT.map(json.dumps))
    unknown = f"{json.dumps(data.draw(NAME))} = 1"
    line = data.draw(st.sampled_from([f"{key} = {str(value).lower()}", unknown]))
    return refusing(["eqprop-run", "c.toml"], c__toml=f"{line}\n".encode())


def a_config_of_bytes(data: st.DataObject) -> list[str]:
    """Any text after a line that is not TOML."""
    return refusing(["eqprop-run", "c.toml"], c__toml=b"= " + data.draw(st.binary()))


def a_table(data: st.DataObject) -> list[str]:
    """A good table with one cell that is not a probability."""
    cell = data.draw(st.floats().filter(lambda x: not 0 <= x <= 1).map(str) | NAME)
    rows = [["", "a", "b"], ["a", "0.5", json.dumps(cell)], ["b", "0.5", "0.5"]]
    return refusing(["nash-md", "--game", "g.csv"], g__csv="\n".join(map(",".join, rows)).encode())


def an_idx_file(data: st.DataObject) -> list[str]:
    """Images of random bytes, without the header of two zeros that they need."""
    wrong = data.draw(st.binary().filter(lambda each: each[:2] != b"\0\0"))
    with folder() as here:
        for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                     "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):  # fmt: skip
            (here / "d").mkdir(exist_ok=True)
            (here / "d" / name).write_bytes(wrong)
        return faults(["eqprop-run", "--dataset", "d"], here, "Hypothesis")


def a_line(data: st.DataObject) -> list[str]:
    """A line that is not a JSON object, after good lines."""
    wrong = data.draw(NO_OBJECT | st.binary(min_size=1).map(lambda each: b"x" + each))
    good = b'{"prompt": "a", "chosen": "b", "rejected": "c"}\n'
    words = ["preference-train", "--pairs", "p.jsonl", "--out", "out"]
    return refusing(words, p__jsonl=good + wrong.replace(b"\n", b" ") + b"\n")


def a_log(data: st.DataObject) -> list[str]:
    """Any bytes, with HDF5's signature before them or not."""
    start = data.draw(st.sampled_from([b"", b"\x89HDF\r\n\x1a\n"]))
    command = data.draw(st.sampled_from([["runs", "show"], ["runs", "recover"], ["compare"]]))
    return refusing([*command, "r.h5"], r__h5=start + data.draw(st.binary()))


def a_command_line(data: st.DataObject) -> list[str]:
    """A word that is not a command, option, key or value."""
    word = data.draw(NAME)
    command = data.draw(st.sampled_from(["eqprop-run", "nash-md", "gradcheck"]))
    tails = [["--" + word.lstrip("-=") + "x"], ["--set", word + "=1"], ["--device", word],
             ["--threads", word]]  # fmt: skip
    return refusing(data.draw(st.sampled_from([[word], *([command, *tail] for tail in tails)])))


def weights(data: st.DataObject, good: Path) -> list[str]:
    """The weights of a model, an adapter or a preference: cut, or with bytes in their header."""
    of, name, words = data.draw(
        st.sampled_from(
            [
                ("base", "model", models.READERS["policy"][0]),
                ("adapter", "adapter_model", models.READERS["policy"][0]),
                ("hashed", "head", models.READERS["preference"][0]),
            ]
        )
    )
    whole = (good / of / f"{name}.safetensors").read_bytes()
    cut = st.integers(0, len(whole) - 1).map(lambda n: whole[:n])
    other = st.binary().map(lambda each: models.with_header(b"[" + each, whole[-64:]))
    with folder() as here:
        models.texts(here)
        (here / "x").mkdir()
        for each in (good / of).iterdir():
            if each.is_file():
                (here / "x" / each.name).write_bytes(each.read_bytes())
        (here / "x" / f"{name}.safetensors").write_bytes(data.draw(cut | other | st.binary()))
        return faults(words, here, "Hypothesis")


def a_manifest(data: st.DataObject, good: Path) -> list[str]:
    """The config or the manifest of a model that is not a JSON object."""
    wrong = data.draw(NO_OBJECT | st.binary().map(lambda each: b"{" + each))
    name, words = data.draw(
        st.sampled_from(
            [
                ("config.json", models.READERS["policy"][2]),
                ("adapter_config.json", models.READERS["policy"][0]),
                ("preference.json", models.READERS["preference"][0]),
            ]
        )
    )
    with folder() as here:
        models.texts(here)
        (here / "x").mkdir()
        (here / "x" / name).write_bytes(wrong)
        return faults(words, here, "Hypothesis")


PLAIN = [a_config, a_config_of_bytes, a_table, an_idx_file, a_line, a_log, a_command_line]


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", PLAIN)
def test_whatever_it_is_it_is_refused(
    kind: Callable[[st.DataObject], list[str]], count: int
) -> None:
    @settings(examples, max_examples=count)
    @given(st.data())
    def refuses(data: st.DataObject) -> None:
        assert kind(data) == []

    refuses()


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", [weights, a_manifest])
def test_whatever_a_model_is_it_is_refused(
    kind: Callable[[st.DataObject, Path], list[str]], count: int, good: Path
) -> None:
    @settings(examples, max_examples=count)
    @given(st.data())
    def refuses(data: st.DataObject) -> None:
        assert kind(data, good) == []

    refuses()
