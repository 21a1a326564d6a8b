"""The GPU benchmark, as far as a CPU can test it: its checks, its refusal, its measures."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

PATH = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def gpu():
    spec = importlib.util.spec_from_file_location("benchmark_gpu", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def call(gpu, monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    code = gpu.main()
    out, err = capsys.readouterr()
    return code, out, err


def test_without_a_gpu_one_line_and_exit_code_2(gpu, monkeypatch, capsys) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, out, err = call(gpu, monkeypatch, capsys)
    assert (code, out) == (2, "")
    assert err.splitlines() == ["error: no usable GPU here; --dry-run lists the checks"]


def test_a_dry_run_lists_the_checks_of_a_section(gpu, monkeypatch, capsys) -> None:
    code, out, _ = call(gpu, monkeypatch, capsys, "--dry-run", "--json", "--only", "games")
    listed = json.loads(out)
    assert code == 0
    assert {each["section"] for each in listed} == {"games"}
    assert any(each["at most"] == 1.3 for each in listed)
    code, out, _ = call(gpu, monkeypatch, capsys, "--dry-run", "--only", "decoding")
    assert code == 0
    assert out.count("(at most 1.3)") == 2
    code, out, _ = call(gpu, monkeypatch, capsys, "--dry-run")
    assert out.splitlines()[0].startswith("agreement")


def test_agreement_is_measured(gpu) -> None:
    for work, most in [
        (gpu.agreement([6, 8, 10], "asym-ep", torch.float64), 1e-12),
        (gpu.agreement([6, 8, 10], "vector-field", torch.float32), 1e-3),
        (gpu.ends([6, 8, 10], torch.float64), 0.0),
        (gpu.policies(4, torch.float32), 1e-3),
        (gpu.equilibria(4), 1e-12),
    ]:
        found = gpu.measured(gpu.Check("agreement", "small", work, most), "cpu")
        assert found["reached"], found
    found = gpu.measured(
        gpu.Check("agreement", "small", gpu.policies(4, torch.float32), 1e-12), "cpu"
    )
    assert not found["reached"]


def test_decoding_is_measured(gpu, monkeypatch) -> None:
    for lora in (False, True):
        work = gpu.gpu_decoding.agreement(lora, 4)
        found = gpu.measured(gpu.Check("decoding", "small", work, 1e-6), "cpu")
        assert found["reached"], found
        assert found["other tokens"] == 0
    monkeypatch.setattr("benchmarks.decoding.ANSWER", 2)
    monkeypatch.setattr("benchmarks.decoding.ours.__defaults__", (2, None))
    monkeypatch.setattr("benchmarks.gpu_decoding.seconds.__defaults__", (1,))
    work = gpu.gpu_decoding.ratio("lora, two passes")
    found = gpu.measured(gpu.Check("decoding", "small", work), "cpu")
    assert found["ratio"] > 0, found
    assert found["how"] == "step by step"


def test_what_fails_is_told_and_the_rest_goes_on(gpu) -> None:
    def work(device: str):
        raise RuntimeError(f"no {device}\nat all")

    found = gpu.measured(gpu.Check("games", "broken", work, 1.0), "cuda")
    assert found == {"failed": "RuntimeError: no cuda"}
