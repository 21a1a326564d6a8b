"""Work that runs beside other work: who waits for whom."""

from __future__ import annotations

import contextlib

import pytest
import torch

from nlhf import recorder
from nlhf.recorder import CudaRecorder, at_once


class Stream:
    """Notes what is done on it and whom it waits for."""

    def __init__(self, name: str, told: list[str]) -> None:
        self.name, self.told = name, told

    def wait_stream(self, other: Stream) -> None:
        self.told.append(f"{self.name} waits for {other.name}")


def test_on_a_cpu_works_follow_each_other() -> None:
    assert at_once([lambda: 1, lambda: 2], torch.device("cpu")) == [1, 2]


def test_streams_part_before_the_first_work_and_meet_after_the_last(monkeypatch) -> None:
    told: list[str] = []
    here, made = [Stream("main", told)], []

    @contextlib.contextmanager
    def on(stream):
        here.append(stream or here[-1])
        yield
        here.pop()

    def new(device) -> Stream:
        made.append(Stream(f"side {len(made)}", told))
        return made[-1]

    monkeypatch.setattr(recorder, "_STREAMS", {})
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: here[-1])
    monkeypatch.setattr(torch.cuda, "Stream", new)
    monkeypatch.setattr(torch.cuda, "stream", on)
    works = [lambda: told.append(f"a on {here[-1].name}"), lambda: told.append(here[-1].name)]
    for _ in range(2):
        told.clear()
        at_once(works, torch.device("cuda"))
        assert told == ["side 0 waits for main", "a on main", "side 0", "main waits for side 0"]
    assert len(made) == 1


def test_a_failed_capture_says_what_failed(monkeypatch) -> None:
    class Capture:
        def __init__(self, graph) -> None: ...
        def __enter__(self) -> None: ...
        def __exit__(self, *error) -> None:
            raise RuntimeError("capture has ended badly")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph", Capture)

    def work() -> None:
        raise RuntimeError("item() waits")

    with pytest.raises(RuntimeError, match="item"):
        CudaRecorder().record(work)
