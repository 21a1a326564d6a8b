"""Whatever interrupts a step, the last complete step is kept, and the run can be resumed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bridge.checkpoint import checkpoints, random_states, set_random_states
from bridge.errors import InputError, RunFailed, Stopped
from bridge.failures import describe, user_place
from bridge.held import Held
from bridge.optim import METHODS, Optimizer
from bridge.runlog import read_run
from bridge.session import checkpoint_folder, training_session
from tests.bridge.records import Step

STEPS = 6


class Learner:
    """Weights that an optimizer moves in place along noise, and a list that grows."""

    def __init__(self, method: str) -> None:
        self.noise = torch.Generator().manual_seed(5)
        self.weights = {"w": torch.zeros(3, dtype=torch.float64), "b": torch.zeros(2)}
        self.optimizer = Optimizer(self.weights, method=method, learning_rate=0.1)
        self.seen: list[int] = []

    def step(self, fail: Callable[[str], None]) -> Step:
        """Move; `fail` is called at each place at which it may raise."""
        self.seen.append(len(self.seen))
        fail("as the step begins")
        updates = {
            name: torch.randn(w.shape, generator=self.noise, dtype=w.dtype)
            for name, w in self.weights.items()
        }
        fail("before the weights move")
        self.optimizer.step(updates)
        fail("after the weights have moved")
        return Step(len(self.seen), float(self.weights["w"].sum()), True, "free")

    def snapshot(self) -> dict[str, Any]:
        """Everything that the next step needs."""
        return {
            "weights": self.weights,
            "optimizer": self.optimizer.state_dict(),
            "seen": self.seen,
            "random": random_states(noise=self.noise),
        }

    def load(self, saved: dict[str, Any]) -> None:
        """Continue from a snapshot."""
        for name, tensor in self.weights.items():
            tensor.copy_(saved["weights"][name])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.seen = list(saved["seen"])
        set_random_states(saved["random"], noise=self.noise)


def run(path: Path, method: str, fail: Callable[[int, str], None]) -> None:
    """Train to the end, from the start or resumed."""
    learner = Learner(method)
    tables, config = {"metrics": Step}, {"steps": STEPS}
    with training_session(path, tables=tables, config=config, seed=5, resume=True) as session:
        if session.start is not None:
            learner.load(session.start)
        for step in range(session.step + 1, STEPS + 1):
            row = learner.step(lambda place, step=step: fail(step, place))
            session.log.log("metrics", row)
            fail(step, "after the row is logged")
            session.after_step(step, learner.snapshot)


def nothing(step: int, place: str) -> None:
    """Do not fail."""


def losses(path: Path) -> list[float]:
    return read_run(path).table()["loss"].tolist()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "place", ["as the step begins", "before the weights move", "after the weights have moved"]
)
def test_a_failure_anywhere_in_a_step_keeps_a_whole_one(
    tmp_path: Path, method: str, place: str
) -> None:
    whole, path = tmp_path / "whole.h5", tmp_path / "run.h5"
    run(whole, method, nothing)

    def fail(step: int, where: str) -> None:
        if (step, where) == (4, place):
            raise TimeoutError("no answer")

    words = r"test_failing\.py:\d+ in fail: TimeoutError: no answer; the run stopped in step 4"
    with pytest.raises(RunFailed, match=words):
        run(path, method, fail)
    log = read_run(path)
    assert (log.status, log.sealed) == ("failed", True)
    traces = [event["text"] for event in log.events if event["kind"] == "traceback"]
    assert len(traces) == 1
    assert "TimeoutError: no answer" in traces[0]
    (saved,) = checkpoints(checkpoint_folder(path))
    # Once the weights have moved, only a copy that was made before is whole.
    assert saved.name <= "step-000000000003"
    assert (saved.name == "step-000000000003") >= ("moved" not in place)
    run(path, method, nothing)
    assert losses(path) == losses(whole)
    assert not checkpoint_folder(path).exists()


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA error"), SystemExit(0), RecursionError("deep")]
)
def test_every_kind_of_end_is_a_failure_with_a_checkpoint(
    tmp_path: Path, error: BaseException
) -> None:
    def fail(step: int, where: str) -> None:
        if (step, where) == (3, "before the weights move"):
            raise error

    with pytest.raises(RunFailed, match="a checkpoint of step 2 is written; go on with --resume"):
        run(tmp_path / "run.h5", "adam", fail)


def test_an_error_that_says_what_to_do_says_how_to_go_on_too(tmp_path: Path) -> None:
    def fail(step: int, where: str) -> None:
        if step == 3:
            raise InputError("no probability")

    with pytest.raises(InputError) as caught:
        run(tmp_path / "run.h5", "adam", fail)
    path = tmp_path / "run.h5"
    said = f"a checkpoint of step 2 is written; go on with --resume --out {path}"
    assert caught.value.__notes__ == [said]


def test_a_second_ctrl_c_leaves_the_step_and_keeps_the_one_before(tmp_path: Path) -> None:
    path, whole = tmp_path / "run.h5", tmp_path / "whole.h5"
    run(whole, "adam", nothing)

    def fail(step: int, where: str) -> None:
        if (step, where) == (3, "before the weights move"):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(Stopped, match="interrupted in step 3; a checkpoint of step 2"):
            run(path, "adam", fail)
    finally:
        signal.signal(signal.SIGINT, before)
    assert read_run(path).status == "stopped"
    run(path, "adam", nothing)
    assert losses(path) == losses(whole)


def test_the_first_step_may_fail_too(tmp_path: Path) -> None:
    def fail(step: int, where: str) -> None:
        raise ZeroDivisionError

    path = tmp_path / "run.h5"
    with pytest.raises(RunFailed, match=r"ZeroDivisionError; .*no step was whole"):
        run(path, "sgd", fail)
    run(path, "sgd", nothing)
    assert len(losses(path)) == STEPS


def test_what_is_held_is_the_newest_state_that_no_one_has_changed() -> None:
    clock = iter([0.0, 1.0, 2.0, 3.0, 4.0])
    held, weights, seen = Held(clock=lambda: next(clock)), torch.zeros(2), [1]
    assert held.newest() is None
    held.hold(1, {"weights": weights, "seen": seen}, {"metrics": 1})
    seen.append(2)
    whole = held.newest()
    assert whole is not None
    assert (whole.step, whole.state["seen"], whole.rows) == (1, [1], {"metrics": 1})
    assert whole.state["weights"] is weights
    weights.add_(1)
    copy = held.newest()
    assert copy is not None
    assert copy.state["weights"].tolist() == [0, 0]
    held.hold(2, {"weights": weights, "seen": seen}, {"metrics": 2})
    newest = held.newest()
    assert newest is not None
    assert newest.step == 2
    weights.add_(1)
    older = held.newest()
    assert older is not None
    assert (older.step, older.state["weights"].tolist()) == (1, [0, 0])


def test_the_users_line_is_the_innermost_of_the_users_own() -> None:
    def user_code() -> None:
        torch.func.vmap(lambda x: int("no number"))(torch.zeros(2))

    with pytest.raises(ValueError, match="no number") as called:
        Held().hold(1, _Calls(user_code), {})
    called.value.add_note("call 7")
    place = user_place(called.value)
    assert place is not None
    assert (place.function, place.file) == ("<lambda>", Path(__file__))
    said = "invalid literal for int() with base 10: 'no number' (call 7)"
    assert describe(called.value).endswith(said)
    with pytest.raises(ValueError, match="no number") as alone:
        user_code()
    assert user_place(alone.value) is None  # this program has not called it


class _Calls(dict[str, Any]):
    """A state that runs code when it is read, as a user's object may."""

    def __init__(self, code: Callable[[], None]) -> None:
        super().__init__(a=1)
        self._code = code

    def items(self) -> Any:
        self._code()
        return super().items()
