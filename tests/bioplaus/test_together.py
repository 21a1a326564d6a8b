"""Runs that are trained together: each is told what it would be told alone."""

import copy
import dataclasses
from functools import cache

import pytest
import torch

from bioplaus.config import EqpropConfig
from bioplaus.data import Dataset
from bioplaus.errors import InputError
from bioplaus.training import Run, build, train
from bioplaus.training.loop import Listeners, course
from bioplaus.training.run import read
from bioplaus.training.together import Member, alike, require_joinable, train_together
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


@cache
def data() -> Dataset:
    return read(load_config(EqpropConfig, sets=[*SMALL]))


def made(*sets: str) -> Run:
    return build(load_config(EqpropConfig, sets=[*SMALL, *sets]), dataset=data())


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
    run = made(*sets)
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
        run = made(*sets, *point)
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
    ("seed=4", "network.feedback_gain=0.3", "network.gain=1.2", "optimizer.schedule=linear"),
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


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=pytest.mark.slow) if way == "adam" else way for way in WAYS]
)
@pytest.mark.parametrize("recorded", [False, True], ids=["plain", "recorded"])
def test_every_row_is_that_of_the_run_alone(way, recorded) -> None:
    points, sets = WAYS[way]
    found = together(points, *sets, recorder=Recorder() if recorded else None)
    for (member, rows), point in zip(found, points, strict=True):
        run, other, value = alone(*sets, *point)
        # steps of adam do not shrink with the update, nor does what rounding makes of it
        same(rows, other, 1e-8 if way == "adam" else 1e-11)
        assert member.error is None
        assert member.value.test_error == pytest.approx(value.test_error)
        assert rows["notes"][0] == f"updates are those of {len(points)} runs together"
        assert len(rows["notes"]) == (3 if recorded else 1)  # two shapes of batches
        for name, parameter in run.field.parameters.items():
            torch.testing.assert_close(
                member.run.field.parameters[name], parameter, rtol=1e-8, atol=1e-11
            )
        assert member.run.optimizer.steps == run.optimizer.steps


@pytest.mark.slow
@pytest.mark.parametrize("recorded", [False, True], ids=["plain", "recorded"])
def test_one_that_diverges_fails_as_it_does_alone(recorded) -> None:
    sets = ("epochs=3", "batch_size=2", "optimizer.clip_norm=1e300")
    points = [
        (f"seed={k}", f"optimizer.learning_rate={rate}") for k, rate in enumerate((0.1, 1e300, 0.2))
    ]
    found = together(points, *sets, recorder=Recorder() if recorded else None)
    wanted = [alone(*sets, *point) for point in points]
    for (member, rows), (_, other, value) in zip(found, wanted, strict=True):
        if isinstance(value, str):
            assert isinstance(member.error, RunFailed)
            assert str(member.error) == value
        else:
            same(rows, other, 1e-8)
            assert member.error is None
    assert [member.error is None for member, _ in found] == [True, False, True]
    # the two that are left are joined anew
    assert found[0][1]["notes"][0] == "updates are those of 3 runs together"
    assert "updates are those of 2 runs together" in found[0][1]["notes"]


def test_runs_at_different_steps_go_on_as_if_nothing_had_happened() -> None:
    kept = []
    for point, at in zip(SEEDS, (2, 5, 0), strict=True):
        run, found = made(*point), {}

        def after_step(step: int, snapshot, at=at, found=found) -> None:
            if step == at:
                found.update(copy.deepcopy(snapshot()))

        train(run, on_step=lambda r: None, on_epoch=lambda r: None, after_step=after_step)
        kept.append(found or None)
    found = together(SEEDS, starts=kept)
    for (member, rows), point, start in zip(found, SEEDS, kept, strict=True):
        run, other, _ = alone(*point)
        first = start["step"] if start else 0
        assert [r.step for r in rows["steps"]] == list(range(first + 1, 7))
        later = {**other, "steps": other["steps"][first:], "epochs": other["epochs"][-1:]}
        same({**rows, "epochs": rows["epochs"][-1:]}, later, 1e-10)
        for name, parameter in run.field.parameters.items():
            torch.testing.assert_close(member.run.field.parameters[name], parameter)


def test_what_a_run_is_told_in_blocks_is_all_there_when_it_is_saved() -> None:
    found = together(SEEDS[:2], "epochs=1", recorder=Recorder(), known_every=2)
    for _, rows in found:
        assert rows["after"] == [1, 2, 3]  # the first one is done alone
        assert [r.step for r in rows["steps"]] == [1, 2, 3]


def test_who_gives_up_has_every_run_close_what_it_holds() -> None:
    closed = []

    def held(run, listeners):
        try:
            return (yield from course(run, listeners))
        finally:
            closed.append(run.config.seed)

    runs = [made(*point) for point in SEEDS]
    steps = train_together([Member(run, held(run, told()[1])) for run in runs])
    for _ in range(3):
        assert next(steps) == []
    steps.close()
    assert sorted(closed) == [0, 1, 2]


def test_a_mistake_in_a_joined_update_is_told_to_every_run(monkeypatch) -> None:
    def broken(*args, **kwargs):
        raise ValueError("no such thing")

    monkeypatch.setattr("bioplaus.training.joint.measures", broken)
    found = together(SEEDS[:2])
    assert [str(member.error) for member, _ in found] == ["no such thing"] * 2


def test_only_runs_that_differ_in_what_may_differ_are_alike() -> None:
    sets = [*MIXED, ("seed=9", "batch_size=10"), ("seed=8", "optimizer.method=adam"), ("seed=7",)]
    configs = [load_config(EqpropConfig, sets=[*SMALL, *each]) for each in sets]
    assert alike(configs) == [[0, 1, 2, 5], [3], [4]]


def test_what_has_no_place_in_a_joined_update_is_refused() -> None:
    for sets, word in [
        (["estimator.name=continual"], "estimator.name=continual is none of vector-field and asym"),
        (["estimator.nudging=random-sign"], "nudging=random-sign draws its signs on the host"),
        (["augment.shift=2"], "augment"),
    ]:
        run = made(*sets)
        with pytest.raises(InputError, match=word):
            require_joinable(run)
