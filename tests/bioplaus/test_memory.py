"""Memory does not grow with the number of steps of a phase."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from bioplaus import LeakyField, Settling
from bioplaus.costs import get_cost
from bioplaus.estimators import VectorFieldEP
from bioplaus.solvers import get_solver

torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
field = LeakyField([20, 300, 300, 10], feedback_gain=0.3, generator=generator)
x, y = torch.rand(200, 20), torch.eye(10)[torch.arange(200) % 10]

def peak(steps):
    settling = Settling(get_solver("{solver}"), 0.0, steps, steps)
    VectorFieldEP(settling)(field, x, y, get_cost("squared-error"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

peak(20)
print(peak(20), peak(600))
"""


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["sweeps", "euler", "anderson"])
def test_peak_memory_is_that_of_few_steps(solver):
    program = PROGRAM.replace("{solver}", solver)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    few, many = (int(kib) for kib in done.stdout.split())
    state_kib = 200 * 610 * 4 / 1024
    # keeping one state per step would add 580 of them; allow the allocator four
    assert many - few < 4 * state_kib
