"""Games that are said to stay in registers do: compiled for an H100, no register is spilled."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

COMPILE = """
import subprocess, sys, tempfile
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from nlhf.device.resident import _blocks, _room
from nlhf.device.tiled_steps import WIDTH, tiled_steps

kind, actions = sys.argv[1], int(sys.argv[2])
first, second, third = _blocks(actions)
fixed = dict(BY_TAU=True, MIXES=True, FIRST=first, SECOND=second, THIRD=third,
             TILES=-(-actions // WIDTH.value), K=_room(actions))
names = tiled_steps.arg_names
numbers = ("games", "actions", "steps")
signature = {n: "constexpr" if n in fixed else "i32" if n in numbers else "*" + kind for n in names}
constants = {(names.index(name),): value for name, value in fixed.items()}
aligned = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if signature[n][0] == "*"}
made = triton.compile(ASTSource(tiled_steps, signature, constants, aligned),
                      target=GPUTarget("cuda", 90, 32), options={"num_warps": 8})
from triton.backends.nvidia.compiler import get_ptxas
with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
    file.write(made.asm["ptx"])
    file.flush()
    told = subprocess.run([get_ptxas(90).path, "-v", "--gpu-name=sm_90a", file.name, "-o",
                           "/dev/null"], capture_output=True, text=True, check=True)
print(told.stderr)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "actions"), [("fp32", 224), ("fp32", 129), ("fp64", 160)])
def test_a_held_game_spills_no_register(kind, actions) -> None:
    pytest.importorskip("triton.backends.nvidia.compiler")
    environment = os.environ | {"TRITON_INTERPRET": "0"}
    command = [sys.executable, "-W", "ignore", "-c", COMPILE, kind, str(actions)]
    found = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr
    assert " 0 bytes spill stores, 0 bytes spill loads" in found.stdout, found.stdout
