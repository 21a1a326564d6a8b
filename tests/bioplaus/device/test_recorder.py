"""The recorder of CUDA graphs with a graph on the CPU: which of torch's nodes it uses, and how."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch

from bioplaus.device.recorder import CudaRecorder
from tests.recording import Recorder


class Graph:
    """A CUDA graph without conditional nodes, kept by the recorder on the CPU."""

    def __init__(self) -> None:
        self.recorder = Recorder(branches=True)
        self.open: list[Any] = []

    def capture_begin(self, pool: object) -> None:
        self.recorder.begin()

    def capture_end(self) -> None:
        self.replay = self.recorder.end()


class WithIf(Graph):
    """torch 2.13."""

    def begin_capture_to_if_node(self, flag: torch.Tensor) -> None:
        self._enter(flag, repeats=False)

    def end_capture_to_conditional_node(self) -> None:
        self.open.pop()[0].__exit__(None, None, None)

    def _enter(self, flag: torch.Tensor, repeats: bool) -> None:
        node = self.recorder._branch(flag, repeats)
        node.__enter__()
        self.open.append((node, flag))


class WithWhile(WithIf):
    """pytorch#184989."""

    def begin_capture_to_while_node(self, flag: torch.Tensor) -> None:
        self._enter(flag, repeats=True)

    def set_conditional_handle_for_current_node(self, flag: torch.Tensor) -> None:
        self.open[-1][1].copy_(flag)


class WithBrokenWhile(WithWhile):
    """A torch whose loops end after one round."""

    def begin_capture_to_while_node(self, flag: torch.Tensor) -> None:
        self._enter(flag, repeats=False)


class WithOldCuda(WithIf):
    """torch 2.13 for a CUDA before 12.4."""

    def begin_capture_to_if_node(self, flag: torch.Tensor) -> None:
        raise RuntimeError("CUDA Graphs conditional nodes are not supported")


class Stream:
    device = torch.device("cpu")


def recorder(monkeypatch, graph: type[Graph]) -> CudaRecorder:
    monkeypatch.setattr(torch.cuda, "CUDAGraph", graph)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
    return CudaRecorder()


@pytest.mark.parametrize(
    ("graph", "branches", "longest"),
    [
        (Graph, False, 64),
        (WithOldCuda, False, 64),
        (WithIf, True, 64),
        (WithBrokenWhile, True, 64),
        (WithWhile, True, float("inf")),
    ],
)
def test_what_torch_can_do_is_tried(monkeypatch, graph, branches, longest) -> None:
    found = recorder(monkeypatch, graph)
    assert (found.branches, found.longest) == (branches, longest)


@pytest.mark.parametrize("graph", [WithIf, WithWhile])
def test_loops_and_skipped_blocks_are_recorded(monkeypatch, graph) -> None:
    made = recorder(monkeypatch, graph)
    count, most, flag = torch.zeros(()), torch.tensor(6.0), torch.tensor(False)
    made.begin()
    made.repeat(lambda: count.add_((count < most).float()), lambda: count < most, 20)
    with made.only_if(flag):
        count.neg_()
    replay = made.end()
    replay()
    assert float(count) == 6
    most.fill_(9)
    flag.fill_(True)
    replay()
    assert float(count) == -9


def test_an_error_within_a_block_is_the_one_that_is_told(monkeypatch) -> None:
    made = recorder(monkeypatch, WithIf)
    made.begin()
    with (
        pytest.raises(RuntimeError, match="_local_scalar_dense waits"),
        made.only_if(torch.tensor(True)),
    ):
        torch.ones(()).item()
    made.abandon()
