"""Configs: what wins over what, and every mistake in one line, all at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, field_validator

from bridge.config import Config, config_json, config_sha256, load_config, valid_keys
from bridge.errors import InputError


class Optimizer(Config):
    rate: float = Field(0.1, gt=0)
    method: Literal["sgd", "adam"] = "sgd"


class Settings(Config):
    epochs: int = Field(3, ge=1)
    sizes: tuple[int, ...] = (512,)
    optimizer: Optimizer = Optimizer()
    limit: float | None = None
    name: str = "run"
    folder: Path | None = None
    clip: bool = False

    @field_validator("name")
    @classmethod
    def _no_spaces(cls, name: str) -> str:
        if " " in name:
            raise ValueError("must not have spaces {}")
        return name


class Needed(Config):
    seed: int


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text('epochs = 5\nname = "file"\n[optimizer]\nrate = 0.2\nmethod = "adam"\n')
    return path


def mistakes(*args: Any, model: type[Config] = Settings, **kwargs: Any) -> list[str]:
    """The lines of the error that loading raises."""
    with pytest.raises(InputError) as caught:
        load_config(model, *args, **kwargs)
    return str(caught.value).splitlines()


def test_later_sources_win(toml: Path) -> None:
    flags = {"epochs": 7, "optimizer.rate": 0.3, "name": None, "sizes": ()}
    config = load_config(Settings, toml, flags, ["optimizer.rate=0.4", "clip=true"])
    assert config == Settings(
        epochs=7, name="file", optimizer=Optimizer(rate=0.4, method="adam"), clip=True
    )


def test_defaults_alone_are_a_config() -> None:
    assert load_config(Settings) == Settings()


def test_an_empty_table_takes_the_place_of_what_was_given(toml: Path) -> None:
    assert load_config(Settings, toml, sets=["optimizer={rate=0.4}"]).optimizer.method == "adam"
    assert load_config(Settings, toml, sets=["optimizer={}"]).optimizer == Optimizer()


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("epochs=4", "epochs", 4),
        ("sizes=[1, 2]", "sizes", (1, 2)),
        ("limit=1e-3", "limit", 1e-3),
        ("limit=.5", "limit", 0.5),
        ("limit=2.", "limit", 2.0),
        ("limit=2", "limit", 2.0),
        ("name=bare", "name", "bare"),
        ('name="quoted"', "name", "quoted"),
        ("name=a=b", "name", "a=b"),
        (" name = padded ", "name", "padded"),
        ("folder=/tmp/x", "folder", Path("/tmp/x")),
        ("name=1\nclip=true", "name", "1\nclip=true"),
    ],
)
def test_set_reads_toml_values_and_bare_text(text: str, key: str, value: Any) -> None:
    assert getattr(load_config(Settings, sets=[text]), key) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch=3", "--set epoch=3: unknown key 'epoch'; did you mean 'epochs'?"),
        ("rate=3", "--set rate=3: unknown key 'rate'; did you mean 'optimizer.rate'?"),
        (
            "optimizer.rte=3",
            "--set optimizer.rte=3: unknown key 'optimizer.rte'; did you mean 'optimizer.rate'?",
        ),
        (
            "zzz=3",
            "--set zzz=3: unknown key 'zzz'; valid keys: epochs, sizes, optimizer.rate, "
            "optimizer.method, limit, name, folder, clip",
        ),
        ("epochs=0", "--set epochs=0: must be >= 1"),
        ("epochs=1.5", "--set epochs=1.5: must be a whole number, e.g. 3"),
        ('epochs="3"', '--set epochs="3": must be a whole number, e.g. 3'),
        ("epochs=true", "--set epochs=true: must be a whole number, e.g. 3"),
        ("optimizer.rate=0", "--set optimizer.rate=0: must be > 0.0"),
        ("optimizer.rate=nan", "--set optimizer.rate=nan: must be finite"),
        ("limit=inf", "--set limit=inf: must be finite"),
        ("optimizer.rate=fast", "--set optimizer.rate=fast: must be a number, e.g. 0.5"),
        ("optimizer.method=rms", "--set optimizer.method=rms: must be one of 'sgd' or 'adam'"),
        ("optimizer=3", "--set optimizer=3: must be a table of keys and values"),
        ("sizes=3", "--set sizes=3: must be a list, e.g. [512, 512]"),
        ("clip=1", "--set clip=1: must be true or false"),
        ("name=3", '--set name=3: must be text; put it in quotes, e.g. "adam"'),
        ("name=a b", "--set name=a b: must not have spaces {}"),
        ("epochs=1\n2", "--set epochs=1 2: must be a whole number, e.g. 3"),
        ("epochs", "--set epochs: write --set key=value"),
        ("=3", "--set =3: write --set key=value"),
    ],
)
def test_a_mistake_is_one_line_with_value_law_and_fix(text: str, message: str) -> None:
    assert mistakes(sets=[text]) == [message]


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('epoch = 3\nsizes = [1, "x"]\n[optimizer]\nmethod = "rms"\n')
    lines = mistakes(path, {"epochs": 0}, ["nonsense", "limit=q"])
    assert sorted(lines) == sorted(
        [
            f"{path}: unknown key 'epoch'; did you mean 'epochs'?",
            f'{path}: sizes.1="x": must be a whole number, e.g. 3',
            f"{path}: optimizer.method=\"rms\": must be one of 'sgd' or 'adam'",
            "--epochs 0: must be >= 1",
            "--set nonsense: write --set key=value",
            "--set limit=q: must be a number, e.g. 0.5",
        ]
    )


def test_a_required_key_that_is_missing_is_named() -> None:
    assert mistakes(model=Needed) == [
        "seed is required; give it with --set seed=VALUE or in the TOML file"
    ]


def test_a_value_cannot_also_be_a_group() -> None:
    assert mistakes(sets=["epochs=3", "epochs.x=1"])[0] == (
        "--set epochs.x=1: epochs is a value, no group of keys"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a = ", "no TOML"), (b"\xff", "no TOML"), (b"a = [" * 5000, "no TOML")],
)
def test_broken_toml_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    (line,) = mistakes(path)
    assert line.startswith(f"{path}: {message}")


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    assert mistakes(path) == [f"{path}: cannot read this config: No such file or directory"]


@given(st.text(max_size=30))
def test_any_text_after_set_is_a_config_or_an_error(text: str) -> None:
    try:
        config = load_config(Settings, sets=[text])
    except InputError as error:
        assert str(error)  # noqa: PT017
    else:
        assert isinstance(config, Settings)


def test_valid_keys_are_dotted() -> None:
    assert "optimizer.rate" in valid_keys(Settings)
    assert "optimizer" not in valid_keys(Settings)


def test_equal_configs_have_equal_hashes() -> None:
    first = load_config(Settings, sets=["epochs=4", "name=x"])
    second = load_config(Settings, sets=["name=x", "epochs=4"])
    assert config_sha256(first) == config_sha256(second) == config_sha256(first.model_dump())
    assert config_sha256(first) != config_sha256(Settings())
    assert json.loads(config_json(first))["optimizer"] == {"method": "sgd", "rate": 0.1}
