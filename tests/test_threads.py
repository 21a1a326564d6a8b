"""Dense solves on two threads, where torch's own batched LU hangs, fails or is wrong."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SIZE, BATCH = 152, 2
"""oneMKL fails from 151 rows, in batches of two and more."""

BEGIN = f"""
import torch
n, batch = {SIZE}, {BATCH}
torch.set_num_threads(2)
g = torch.Generator().manual_seed(0)
A = torch.randn(batch, n, n, generator=g, dtype=torch.float64) / n**0.5 + 2 * torch.eye(n)
b = torch.randn(batch, n, 2, generator=g, dtype=torch.float64)
same = lambda x, y: torch.testing.assert_close(x, y, atol=1e-9, rtol=1e-9)
"""
WORK = {
    "the solver of bioplaus": """
from bioplaus.linear import solve, solve_ex
same(A @ solve(A, b), b)
x, info = solve_ex(A[None], b[None])
same(A @ x[0], b)
assert info.shape == (1, batch)
singular = A.clone()
singular[1] = 0
assert solve_ex(singular, b)[1].tolist() == [0, 1]
""",
    "the solver of nlhf": """
from nlhf.linear import solve
same(A @ solve(A, b), b)
same(A @ solve(A[None], b[None])[0], b)
assert solve(A[:0], b[:0]).shape == (0, n, 2)
""",
    "equilibria": """
from nlhf import solve_equilibrium
from nlhf.games import random_games, random_policies
from nlhf.regularised_game import exploitability
P, mu = random_games(batch, n, g), random_policies(batch, n, g)
found = solve_equilibrium(P, mu, 0.1)
assert float(exploitability(P, found, mu, 0.1).max()) < 1e-20
same(found[1], solve_equilibrium(P[1], mu[1], 0.1))
""",
    "Bradley and Terry's fit": """
from nlhf.preferences.bradley_terry import fit_bradley_terry
r = torch.randn(batch, n, generator=g, dtype=torch.float64)
r = r - r.mean(-1, keepdim=True)
same(fit_bradley_terry(torch.sigmoid(r[..., None] - r[..., None, :]), ridge=1e-13), r)
""",
    "the adjoint and the norms of a Jacobian": """
from bioplaus import LeakyField, free_phase
from bioplaus.estimators.implicit import Implicit
from bioplaus.jacobian import inverse_norm, spectral_radius
field = LeakyField([5, n - 10, 10], generator=g, dtype=torch.float64)
x = torch.rand(batch, 5, generator=g, dtype=torch.float64)
s = free_phase(field, x).s
c = torch.randn(s.shape, generator=g, dtype=torch.float64)
at = field.linearise(s, field.drive(x))
a, steps = Implicit().adjoint(at, c)
same(at.vjp(a), c)
for f in (inverse_norm, spectral_radius):
    together = f(at, generator=g)
    torch.set_num_threads(1)
    same(together, f(at, generator=g))
    torch.set_num_threads(2)
""",
}


def test_two_threads_give_what_one_gives() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "".join((BEGIN, *WORK.values()))],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,  # a hang has no end; a busy machine has
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "oneMKL" not in done.stdout + done.stderr
