"""How the steps of a method are run: one by one, inside the chip, or as a recorded graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nlhf.algorithms import AbstractAlgorithm, NashMD, Problem, State
from nlhf.device import resident
from nlhf.device.recorder import AbstractRecorder, CudaRecorder


class AbstractProgram(ABC):
    """Runs of steps of one method.

    Attributes:
        name: what it is called where a sweep says what it picked.
    """

    name: str

    @abstractmethod
    def advance(self, problem: Problem, state: State, steps: int) -> tuple[State, State]:
        """The states before and after the last of so many steps, >= 1."""


@dataclass
class OneByOne(AbstractProgram):
    """Every step of its own."""

    step: Callable[[Problem, State], State]
    name: str = "plain torch"

    def advance(self, problem: Problem, state: State, steps: int) -> tuple[State, State]:
        before = state
        for _ in range(steps):
            before, state = state, self.step(problem, state)
        return before, state


@dataclass
class Resident(AbstractProgram):
    """All steps in one launch; see `nlhf.device.resident`."""

    method: NashMD
    name: str

    def advance(self, problem: Problem, state: State, steps: int) -> tuple[State, State]:
        return resident.advance(self.method, problem, state, steps)


WARM_UP = 2
"""Steps of a method that are taken one by one before its step is recorded."""


@dataclass
class Recorded(AbstractProgram):
    """One step as a recorded graph, replayed; what cannot be recorded goes step by step."""

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
        """Record a step between tensors that stay where they are; else remember that it cannot be.

        The number of the step is a tensor too, so that rates follow it.
        """
        own = _apart(state, state.step)
        step = torch.tensor(state.step, dtype=problem.tau.dtype, device=problem.tau.device)
        own = State(own.log_pi, step, own.memory)  # pyright: ignore[reportArgumentType]

        def work() -> None:
            new = self.method.step(problem, own)
            if new.memory.keys() != own.memory.keys():
                raise RuntimeError("the method's memory is not yet what it will be")
            # what is kept may be what is about to be written over, e.g. the last policy
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
    """A copy that later steps leave alone."""
    return State(state.log_pi.clone(), step, {k: t.clone() for k, t in state.memory.items()})


def _copy(state: State, own: State) -> None:
    own.log_pi.copy_(state.log_pi)
    for name, tensor in state.memory.items():
        own.memory[name].copy_(tensor)
    step: Tensor = own.step  # pyright: ignore[reportAssignmentType]
    step.fill_(state.step)


def choose(method: AbstractAlgorithm, problem: Problem) -> AbstractProgram:
    """What runs a method's steps fastest where the games are.

    On a CPU steps go one by one. On a GPU Nash-MD's steps are a kernel, which keeps small
    games inside the chip; steps of other methods are recorded, where nothing in them is
    Python's: a rate that is a function, or votes.
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
