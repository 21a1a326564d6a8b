"""Ways to run the steps of a method: one by one, in one kernel, or as a recorded graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nlhf.algorithms import AbstractAlgorithm, NashMD, Problem, State
from nlhf.device import resident
from nlhf.recorder import AbstractRecorder, CudaRecorder


class AbstractProgram(ABC):
    """Runs the steps of one method.

    Attributes:
        name: the name that a sweep reports.
    """

    name: str

    @abstractmethod
    def advance(self, problem: Problem, state: State, steps: int) -> tuple[State, State]:
        """Take `steps` >= 1 steps; return the states before and after the last one."""


@dataclass
class OneByOne(AbstractProgram):
    """Runs each step separately."""

    step: Callable[[Problem, State], State]
    name: str = "plain torch"

    def advance(self, problem: Problem, state: State, steps: int) -> tuple[State, State]:
        before = state
        for _ in range(steps):
            before, state = state, self.step(problem, state)
        return before, state


@dataclass
class Resident(AbstractProgram):
    """Runs all steps in one launch; see `nlhf.device.resident`."""

    method: NashMD
    name: str

    def advance(self, problem: Problem, state: State, steps: int) -> tuple[State, State]:
        return resident.advance(self.method, problem, state, steps)


WARM_UP = 2
"""Number of steps of a method taken one by one before its step is recorded."""


@dataclass
class Recorded(AbstractProgram):
    """Replays one step as a recorded graph; falls back to step by step if recording fails."""

    method: AbstractAlgorithm
    recorder: AbstractRecorder = field(default_factory=CudaRecorder)
    name: str = "CUDA graph"
    _replay: Callable[[], None] | None = field(default=None, init=False)
    _state: State | None = field(default=None, init=False)
    _taken: int = field(default=0, init=False)

    def advance(self, problem: Problem, state: State, steps: int) -> tuple[State, State]:
        before = state
        while steps and self._replay is None:
            if self._taken >= WARM_UP and self.name != OneByOne.name:
                self._record(problem, state)
                continue
            before, state = state, self.method.step(problem, state)
            self._taken, steps = self._taken + 1, steps - 1
        if not steps:
            return before, state
        assert self._replay is not None
        assert self._state is not None
        own = self._state
        _copy(state, own)
        for _ in range(steps - 1):
            self._replay()
        before = _apart(own, state.step + steps - 1)
        self._replay()
        return before, _apart(own, state.step + steps)

    def _record(self, problem: Problem, state: State) -> None:
        """Record a step between fixed tensors; if that fails, remember not to try again.

        The step number is a tensor too, so that rates depend on it.
        """
        own = _apart(state, state.step)
        step = torch.tensor(state.step, dtype=problem.tau.dtype, device=problem.tau.device)
        own = State(own.log_pi, step, own.memory)  # pyright: ignore[reportArgumentType]

        def work() -> None:
            new = self.method.step(problem, own)
            if new.memory.keys() != own.memory.keys():
                raise RuntimeError("the method's memory is not yet what it will be")
            # a stored tensor, e.g. the last policy, may be overwritten next
            kept = {name: tensor.clone() for name, tensor in new.memory.items()}
            own.log_pi.copy_(new.log_pi)
            for name, tensor in kept.items():
                own.memory[name].copy_(tensor)
            step.add_(1)

        try:
            self._replay, self._state = self.recorder.record(work), own
        except (RuntimeError, TypeError):
            self.name = OneByOne.name


def _apart(state: State, step: int) -> State:
    """A copy that later steps do not modify."""
    return State(state.log_pi.clone(), step, {k: t.clone() for k, t in state.memory.items()})


def _copy(state: State, own: State) -> None:
    own.log_pi.copy_(state.log_pi)
    for name, tensor in state.memory.items():
        own.memory[name].copy_(tensor)
    step: Tensor = own.step  # pyright: ignore[reportAssignmentType]
    step.fill_(state.step)


def choose(method: AbstractAlgorithm, problem: Problem) -> AbstractProgram:
    """Choose the fastest way to run a method's steps on the device of the games.

    On a CPU, steps run one by one. On a GPU, Nash-MD uses a kernel, which keeps small games inside
    the chip. Steps of other methods are recorded unless they involve Python code: a rate that is a
    function, or votes.
    """
    if not problem.P.is_cuda:
        return OneByOne(method.step)
    if type(method) is NashMD and resident.unfit(method, problem) is None:
        if resident.lacks_triton() is None:
            kept = resident.held(problem)
            return Resident(method, "resident kernel" if kept else "one kernel for many steps")
    functions = any(callable(value) for value in vars(method).values())
    if functions or problem.votes is not None:
        return OneByOne(method.step)
    return Recorded(method)
