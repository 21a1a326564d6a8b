"""Updates as recorded programs: a recorder on the CPU stands for CUDA graphs."""

import math

import pytest
import torch

from bioplaus.config import EqpropConfig
from bioplaus.fields import LeakyField, VectorField
from bioplaus.nudging import absolute
from bioplaus.solvers import Euler, Sweeps, solve
from bioplaus.solvers.masked import MaskedSearch
from bioplaus.training import build, train
from bioplaus.training.updates import Recorded, StepByStep, chosen
from bridge.config import load_config
from tests.recording import Recorder

SMALL = (
    "network.hidden=[12]",
    "data.train_size=50",
    "data.test_size=20",
    "epochs=2",
    "batch_size=20",  # two whole batches an epoch, and one of ten rows
)


def trained(*sets: str, recorder: Recorder | None = None, **options):
    """A run's tables, its weights and what it noted."""
    steps, epochs, told = [], [], []
    run = build(load_config(EqpropConfig, sets=[*SMALL, *sets]))
    train(
        run,
        on_step=steps.append,
        on_epoch=epochs.append,
        note=told.append,
        recorder=recorder,
        **options,
    )
    return run, steps, epochs, told


def same_rows(found, wanted) -> None:
    assert [r.step for r in found] == [r.step for r in wanted]
    for mine, other in zip(found, wanted, strict=True):
        for name, value in vars(other).items():
            if name not in ("seconds", "images_per_second", "stability"):
                assert getattr(mine, name) == pytest.approx(value, rel=2e-3, abs=1e-5), name


RECORDERS = {
    "host": Recorder,
    "if": lambda: Recorder(branches=True, longest=64),
    "while": lambda: Recorder(branches=True),
}
"""Recorders of CUDA graphs: with loops on the host, in blocks, and on the device."""


@pytest.mark.parametrize("kind", RECORDERS)
@pytest.mark.parametrize(
    "sets",
    [
        (),
        ("estimator.name=asym-ep", "network.hidden=[12, 8]", "optimizer.method=adam",
         "optimizer.learning_rate=0.01"),
        ("optimizer.method=momentum", "optimizer.weight_decay=0.01", "optimizer.clip_norm=0.05",
         "estimator.nudging=one-sided", "phases.solver=euler", "phases.dt=0.6"),
        ("phases.tolerance=0", "phases.free_steps=6", "phases.nudged_steps=4"),
    ],
    ids=["default", "asym-ep", "euler", "fixed"],
)  # fmt: skip
def test_recorded_updates_are_those_done_step_by_step(sets, kind) -> None:
    run, steps, epochs, _ = trained(*sets)
    recorder = RECORDERS[kind]()
    mine, my_steps, my_epochs, told = trained(*sets, recorder=recorder)
    same_rows(my_steps, steps)
    same_rows(my_epochs, epochs)
    for name, parameter in run.field.parameters.items():
        torch.testing.assert_close(mine.field.parameters[name], parameter, rtol=1e-4, atol=1e-5)
    assert [text.partition(" are ")[0] for text in told] == [
        "updates of 20 rows",
        "updates of 10 rows",
    ]
    assert recorder.told.count("replay") >= 2
    loops = "phases.tolerance=0" not in sets
    where = "host" if kind == "host" else "device"
    assert all(text.endswith(f"2 loops that end on the {where}") == loops for text in told)


@pytest.mark.parametrize("kind", ["if", "while"])
def test_an_update_with_loops_on_the_device_is_one_replay(kind) -> None:
    recorder = RECORDERS[kind]()
    trained("phases.tolerance=1e-5", recorder=recorder)
    told = [each for each in recorder.told if each != "branch"]
    # of each size of a batch, the first update is done and recorded, the others are replayed
    assert " ".join(told).count("replay fetch read") == told.count("replay") == 3
    assert recorder.told.count("branch") > 3 * 3  # two loops and the second half of each


def test_a_long_loop_stays_on_the_host_if_the_device_cannot_repeat() -> None:
    recorder = Recorder(branches=True, longest=3)
    told = trained("phases.free_steps=10", "phases.nudged_steps=4", recorder=recorder)[3]
    assert all(text.endswith("2 loops that end on the host") for text in told)
    assert "branch" in recorder.told


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 5, 8, 20])
@pytest.mark.parametrize("longest", [64, math.inf])
def test_a_repeated_block_ends_where_it_should(limit, longest) -> None:
    recorder = Recorder(branches=True, longest=longest)
    count, last = torch.zeros((), dtype=torch.int32), torch.tensor(limit)
    recorder.begin()
    recorder.repeat(lambda: count.add_((count < last).int()), lambda: count < last, 20)
    replay = recorder.end()
    assert int(count) == 0  # recording does nothing
    for most in (limit, 20):
        last.fill_(most)
        replay()
        assert int(count) == most


def test_the_host_hears_of_a_look_while_the_next_one_is_under_way() -> None:
    recorder = Recorder()
    trained("phases.tolerance=1e-5", recorder=recorder)
    told = " ".join(recorder.told)
    looks = told.count("fetch replay read")
    assert looks >= 6  # three updates are replayed, of two phases each
    blocks = told.count("fetch read")
    assert blocks == 2  # the ends of epochs
    assert told.count("fetch") == looks + blocks


def test_measures_come_a_block_at_a_time_and_in_order() -> None:
    run = build(load_config(EqpropConfig, sets=[*SMALL]))
    updates = Recorded(run, Recorder(), lambda text: None, block=4)
    rows = torch.arange(20)
    known = [len(updates.step(rows, now=k == 5)) for k in range(8)]
    assert known == [0, 0, 0, 4, 0, 2, 0, 0]


def test_every_checkpoint_finds_all_steps_known() -> None:
    told: list[int] = []

    def after_step(step: int, snapshot) -> None:
        told.append(step)
        assert snapshot()["step"] == step

    trained("epochs=1", recorder=Recorder(), known_every=2, after_step=after_step)
    assert told == [2, 3]


def test_a_resumed_run_goes_on_as_if_nothing_had_happened() -> None:
    kept = {}

    def after_step(step: int, snapshot) -> None:
        if step == 3:
            kept["start"] = snapshot()
            kept["start"]["parameters"] = {
                k: p.clone() for k, p in kept["start"]["parameters"].items()
            }

    run, steps, *_ = trained(recorder=Recorder(), after_step=after_step)
    again, later, *_ = trained(recorder=Recorder(), start=kept["start"])
    assert [r.step for r in later] == list(range(4, 7))
    assert later == steps[3:]
    for name, parameter in run.field.parameters.items():
        assert torch.equal(again.field.parameters[name], parameter)


@pytest.mark.parametrize("kind", RECORDERS)
def test_rows_that_need_smaller_steps_are_done_step_by_step(kind) -> None:
    # strong feedback against feedforward: whole sweeps go round, and the loop tries smaller steps
    sets = ("network.feedback_gain=3.0", "network.angle=180", "network.activation=tanh",
            "network.coordinates=membrane", "epochs=1", "phases.free_steps=400")  # fmt: skip
    _, steps, *_ = trained(*sets)
    recorder = RECORDERS[kind]()
    _, mine, *_ = trained(*sets, recorder=recorder)
    assert max(r.free_steps for r in steps) > 20
    same_rows(mine, steps)


def test_what_waits_for_the_device_goes_on_step_by_step() -> None:
    sets = ("estimator.name=homeostasis",)  # it asks whether any row was accepted
    _, steps, *_ = trained(*sets)
    _, mine, _, told = trained(*sets, recorder=Recorder())
    waits = "_local_scalar_dense waits for the device, which is recording"
    assert told == [f"updates are done step by step: {waits}"]
    same_rows(mine, steps)


def test_random_signs_and_shards_are_not_recorded() -> None:
    for sets, word in [
        (["estimator.nudging=random-sign"], "random-sign"),
        (["micro_shards=2"], "micro_shards=2"),
    ]:
        told: list[str] = []
        run = build(load_config(EqpropConfig, sets=[*SMALL, *sets]))
        assert isinstance(chosen(run, told.append, Recorder()), StepByStep)
        assert word in told[0]


def test_on_a_cpu_nothing_is_recorded() -> None:
    run = build(load_config(EqpropConfig, sets=[*SMALL]))
    told: list[str] = []
    assert isinstance(chosen(run, told.append), StepByStep)
    assert told == []


@pytest.mark.parametrize("solver", [Sweeps(), Euler(0.4)])
@pytest.mark.parametrize(("check_every", "max_steps"), [(1, 40), (3, 31), (1, 4)])
def test_rows_end_by_mask_where_they_end_in_the_loop(solver, check_every, max_steps) -> None:
    g = torch.Generator().manual_seed(0)
    net: VectorField = LeakyField([6, 12, 9, 4], "tanh", generator=g, dtype=torch.float64)
    x = torch.rand(15, 6, generator=g, dtype=torch.float64)
    dynamics, start = absolute(net, net.drive(x)), torch.randn(15, 25, generator=g).double()
    start[3] = torch.nan
    limits = {"tolerance": 1e-6, "max_steps": max_steps, "check_every": check_every}
    search = MaskedSearch(dynamics, start, solver, **limits)
    search.begin()
    while int(search.waiting[0]):
        search.look_again()
    search.look_again()  # one too many changes nothing
    found = search.solution()
    wanted = solve(absolute(net, net.drive(x)), start, solver, **limits)
    settled = wanted.converged
    assert (
        search.failed.tolist() == [i == 3 and max_steps > 3 + 3 for i in range(15)]
        or max_steps == 4
    )
    assert torch.equal(found.status[settled], wanted.status[settled])
    assert torch.equal(found.n_steps[settled], wanted.n_steps[settled])
    torch.testing.assert_close(found.s[settled], wanted.s[settled], rtol=0, atol=1e-12)
