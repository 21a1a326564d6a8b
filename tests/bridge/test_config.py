"""Configs: which source overrides which, and all mistakes at once, one line each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, field_validator

from bridge.config import (
    Config,
    choice,
    config_json,
    config_sha256,
    load_config,
    owned,
    valid_keys,
)
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


@dataclass(frozen=True)
class Circle:
    """A shape with a setting of its own."""

    radius: float = 1.0
    at: object = None

    def __post_init__(self) -> None:
        if self.radius <= 0:
            raise ValueError(f"radius={self.radius} must be positive")


@dataclass(frozen=True)
class Grid:
    """A shape with two."""

    rows: int = 3
    radius: float = 2.0


class Shape(Config):
    name: str
    colour: str = "red"


SHAPES = {n: owned(kind, Shape, "name", n) for n, kind in (("circle", Circle), ("grid", Grid))}


class Sweeps(Config):
    solver: Literal["sweeps"] = "sweeps"
    engine: Literal["torch"] = "torch"


class Euler(Config):
    solver: Literal["euler"] = "euler"
    engine: Literal["torch"] = "torch"
    dt: float = 0.5


class Inner(Config):
    tau: str = "10 ms"


class Brian(Config):
    engine: Literal["brian2"] = "brian2"
    brian2: Inner = Inner()
    dt: float = 0.5


class Drawing(Config):
    shape: choice("name", "circle", SHAPES) = SHAPES["circle"]()  # type: ignore[valid-type]
    phases: choice(  # type: ignore[valid-type]
        "engine",
        "torch",
        {"torch": choice("solver", "sweeps", {"sweeps": Sweeps, "euler": Euler}), "brian2": Brian},
    ) = Sweeps()
    every: int = 0
    rows: int = 20

    def idle(self) -> dict[str, str]:
        return {} if self.every else {"rows": "without every; give it too"}


def test_a_choice_has_its_own_settings_and_those_of_all() -> None:
    drawing = load_config(Drawing, sets=["shape.name=grid", "shape.rows=5", "shape.colour=blue"])
    assert drawing.shape.model_dump() == {
        "name": "grid",
        "rows": 5,
        "radius": 2.0,
        "colour": "blue",
    }
    assert load_config(Drawing, sets=["shape.radius=3"]).shape.radius == 3
    assert load_config(Drawing, sets=["phases.solver=euler", "phases.dt=0.1"]).phases.dt == 0.1
    assert load_config(Drawing, sets=["phases.engine=brian2"]).phases.brian2.tau == "10 ms"
    assert "at" not in SHAPES["circle"].model_fields


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (
            ["shape.rows=5"],
            "--set shape.rows=5: has no effect with shape.name=circle; "
            "it is read with shape.name=grid",
        ),
        (
            ["phases.dt=0.5"],
            "--set phases.dt=0.5: has no effect with phases.solver=sweeps and "
            "phases.engine=torch; it is read with phases.solver=euler or phases.engine=brian2",
        ),
        (
            ["phases.brian2.tau=1 ms"],
            "--set phases.brian2.tau=1 ms: has no effect with phases.engine=torch; "
            "it is read with phases.engine=brian2",
        ),
        (
            ["phases.engine=brian2", "phases.solver=euler"],
            "--set phases.solver=euler: has no effect with phases.engine=brian2; "
            "it is read with phases.engine=torch",
        ),
        (["rows=3"], "--set rows=3: has no effect without every; give it too"),
        (["rows=20"], "--set rows=20: has no effect without every; give it too"),
        (
            ["shape.name=crcle"],
            "--set shape.name=crcle: unknown; use one of circle, grid; did you mean circle?",
        ),
        (["shape.name=3"], "--set shape.name=3: unknown; use one of circle, grid"),
        (["shape.radius=-1"], "--set shape.radius=-1: radius=-1.0 must be positive"),
        (["shape.radius=x"], "--set shape.radius=x: must be a number, e.g. 0.5"),
        (
            ["shape.colr=x"],
            "--set shape.colr=x: unknown key 'shape.colr'; did you mean 'shape.colour'?",
        ),
    ],
)
def test_a_setting_without_effect_is_refused(sets: list[str], message: str) -> None:
    assert mistakes(sets=sets, model=Drawing) == [message]


def test_a_setting_without_effect_is_refused_whatever_it_came_from(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("rows = 5\n[shape]\nrows = 4\n")
    assert mistakes(path, model=Drawing) == [
        f"{path}: shape.rows=4: has no effect with shape.name=circle; "
        "it is read with shape.name=grid"
    ]
    path.write_text("rows = 5\n")
    assert mistakes(path, model=Drawing) == [
        f"{path}: rows=5: has no effect without every; give it too"
    ]
    assert mistakes(flags={"rows": 5}, model=Drawing) == [
        "--rows 5: has no effect without every; give it too"
    ]
    with pytest.raises(ValueError, match="rows has no effect without every"):
        Drawing(rows=5)
    assert Drawing(rows=5, every=1).rows == 5


def test_a_log_may_have_settings_without_effect() -> None:
    base = {
        "shape": {"name": "circle", "radius": 3.0, "rows": 9},
        "phases": {"engine": "torch", "solver": "sweeps", "dt": 0.5, "brian2": {"tau": "1 ms"}},
        "rows": 20,
    }
    found = load_config(Drawing, base=base, base_name="run.h5")
    assert found == Drawing(shape=SHAPES["circle"](radius=3.0), phases=Sweeps())
    assert mistakes(base=base, base_name="run.h5", sets=["phases.dt=0.5"], model=Drawing) == [
        "--set phases.dt=0.5: has no effect with phases.solver=sweeps and phases.engine=torch; "
        "it is read with phases.solver=euler or phases.engine=brian2"
    ]
    (line,) = mistakes(
        base=base, base_name="run.h5", sets=["phases.brian2.tau=2 ms"], model=Drawing
    )
    assert line.startswith("--set phases.brian2.tau=2 ms: has no effect with phases.engine=torch")
    base["shape"]["radus"] = 3
    assert mistakes(base=base, base_name="run.h5", model=Drawing) == [
        "run.h5: unknown key 'shape.radus'; did you mean 'shape.radius'?"
    ]
