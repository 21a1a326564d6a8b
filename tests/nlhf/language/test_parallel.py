"""Two processes under torchrun take the same step as one: DDP and FSDP2, by gloo on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.test_cli_preference import small_model

ROOT = Path(__file__).parents[3]
SHORT = "generation.max_new_tokens=4"


def losses(folder, processes, shard, more=(), model="tiny:a,b,c,<end>"):
    """The losses of three steps, as the command line logs them."""
    prompts = folder / "p.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": each}) + "\n" for each in ("a b", "c", "b a")))
    (folder / "longest.py").write_text(
        "import torch\n"
        "def judge(prompts, a, b):\n"
        "    gap = [float(len(x) - len(y)) for x, y in zip(a, b)]\n"
        "    return torch.sigmoid(torch.tensor(gap, dtype=torch.float64))\n"
    )
    log = folder / f"{shard}{processes}.h5"
    command = [str(ROOT / "cli.py"), "nash-md", "--model", str(model), "--out", str(log)]
    command += ["--prompts", str(prompts), "--preference", "longest:judge", "--iterations", "3"]
    command += ["--json", "--quiet"]
    for each in ("batch_size=4", "precision=float64", "accumulation=2", *more):
        command += ["--set", each]
    command += ["--set", f"shard={shard}"] if processes > 1 else []
    run = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    launcher = [sys.executable, *(run if processes > 1 else [])]
    paths = {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, *command],
        cwd=folder,
        env=os.environ | paths,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    return said, folder / said["policy"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shard", "more"),
    [("ddp", ()), ("fsdp", ()), ("ddp", ("lora.rank=2", "quantise=4bit"))],
    ids=["ddp", "fsdp", "packed"],
)
def test_two_processes_have_the_loss_of_one(tmp_path, shard, more):
    alone, expected = losses(tmp_path, 1, "ddp", more)
    together, policy = losses(tmp_path, 2, shard, more)
    for name in ("loss", "objective_kl", "grad_norm", "rewards_probabilities", "num_tokens"):
        assert together[name] == pytest.approx(alone[name], rel=1e-6), name
    one, two = (load_file(folder / "model.safetensors") for folder in (expected, policy))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert torch.allclose(two[name], tensor, rtol=0, atol=1e-6), name


@pytest.mark.slow
def test_an_adapter_in_shards_is_saved_as_that_of_one_process(tmp_path):
    pytest.importorskip("peft")
    model, more = small_model("causal", tmp_path / "base"), ("lora.rank=2", SHORT)
    alone, expected = losses(tmp_path, 1, "ddp", more, model)
    together, policy = losses(tmp_path, 2, "fsdp", more, model)
    assert together["loss"] == pytest.approx(alone["loss"], rel=1e-6)
    one, two = (load_file(each / "adapter_model.safetensors") for each in (expected, policy))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert torch.allclose(two[name], tensor, rtol=0, atol=1e-6), name
