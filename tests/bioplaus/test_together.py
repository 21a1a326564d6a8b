"""Runs that are trained together: each is told what it would be told alone."""

import dataclasses

import pytest
import torch

from bioplaus.config import EqpropConfig
from bioplaus.training import build, train
from bioplaus.training.loop import Listeners, course
from bioplaus.training.together import Member, require_joinable, train_together
from bridge.config import load_config
from bridge.errors import RunFailed
from tests.recording import Recorder

SMALL = (
    "network.hidden=[12, 8]",
    "data.train_size=50",
    "data.test_size=20",
    "epochs=2",
    "batch_size=20",  # two whole batches an epoch, and one of ten rows
    "dtype=float64",
)
TIMES = ("seconds", "images_per_second")


def told() -> tuple[dict[str, list], Listeners]:
    rows: dict[str, list] = {name: [] for name in ("steps", "epochs", "checks", "notes", "after")}
    return rows, Listeners(
        on_step=rows["steps"].append,
        on_epoch=rows["epochs"].append,
        on_check=rows["checks"].append,
        note=rows["notes"].append,
        after_step=lambda step, snapshot: rows["after"].append(step),
    )


def alone(*sets: str, **options):
    rows, listeners = told()
    run = build(load_config(EqpropConfig, sets=[*SMALL, *sets]))
    own = {f.name: getattr(listeners, f.name) for f in dataclasses.fields(Listeners)}
    try:
        value = train(run, **own, **options)
    except RunFailed as error:
        value = str(error)
    return run, rows, value


def together(points, *sets: str, recorder=None, starts=(), **options):
    found = []
    for k, point in enumerate(points):
        rows, listeners = told()
        run = build(load_config(EqpropConfig, sets=[*SMALL, *sets, *point]))
        require_joinable(run)
        start = starts[k] if starts else None
        found.append((Member(run, course(run, listeners, start=start, **options)), rows))
    ended = [m for some in train_together([m for m, _ in found], recorder=recorder) for m in some]
    assert {id(each) for each in ended} == {id(each) for each, _ in found}
    return found


def same(mine, other, rel: float) -> None:
    for table in ("steps", "epochs", "checks"):
        assert len(mine[table]) == len(other[table])
        for own, wanted in zip(mine[table], other[table], strict=True):
            for name, value in vars(wanted).items():
                if name not in TIMES:
                    expected = value
                    if isinstance(value, float):
                        expected = pytest.approx(value, rel=rel, abs=rel, nan_ok=True)
                    assert getattr(own, name) == expected, name


SEEDS = [("seed=0",), ("seed=1",), ("seed=2",)]
MIXED = [
    ("seed=3", "optimizer.learning_rate=0.3"),
    ("seed=3", "optimizer.learning_rate=0.1", "network.angle=30"),
    ("seed=4", "network.feedback_gain=0.3", "optimizer.schedule=linear"),
    ("seed=5", "network.gain=1.2", "network.asymmetry=0.5"),
]
WAYS = {
    "default": (SEEDS, ()),
    "swept": (MIXED, ("estimator.name=asym-ep", "phases.tolerance=1e-5")),
    "momentum": (
        MIXED,
        ("optimizer.method=momentum", "optimizer.weight_decay=0.01", "optimizer.clip_norm=0.05",
         "estimator.nudging=one-sided", "phases.solver=euler", "phases.dt=0.6"),
    ),
    "adam": (
        SEEDS,
        ("optimizer.method=adam", "optimizer.learning_rate=0.01", "label_smoothing=0.1",
         "network.coordinates=membrane", "network.activation=tanh", "check_gradients_every=3"),
    ),
    "tied": (
        SEEDS,
        ("network.tied=true", "network.coordinates=activity", "phases.tolerance=0",
         "network.activation=sigmoid", "phases.free_steps=6", "phases.nudged_steps=4"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("recorded", [False, True], ids=["plain", "recorded"])
def test_every_row_is_that_of_the_run_alone(way, recorded) -> None:
    points, sets = WAYS[way]
    found = together(points, *sets, recorder=Recorder() if recorded else None)
    for (member, rows), point in zip(found, points, strict=True):
        run, other, value = alone(*sets, *point)
        same(rows, other, 1e-9)
        assert member.error is None
        assert member.value.test_error == pytest.approx(value.test_error)
        assert rows["notes"][0] == f"updates are those of {len(points)} runs together"
        assert len(rows["notes"]) == (3 if recorded else 1)  # two shapes of batches
        for name, parameter in run.field.parameters.items():
            torch.testing.assert_close(
                member.run.field.parameters[name], parameter, rtol=1e-9, atol=1e-11
            )
        assert member.run.optimizer.steps == run.optimizer.steps
