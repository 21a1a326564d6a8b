"""Asymmetry and norms, matrix-free against dense."""

import subprocess
import sys

import pytest
import torch

from bioplaus.fields import LeakyField
from bioplaus.jacobian import (
    asymmetry_norm,
    dense_jacobian,
    exact_asymmetry,
    hutchinson_asymmetry,
    inverse_norm,
    spectral_norm,
    spectral_radius,
)
from bioplaus.phases import free_phase
from tests.fields import TIGHT, clipped, jacobian, problem


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kw", [{}, {"tied": True}, {"activation": "softplus"}, clipped()], ids=str)
def test_dense_jacobian_is_autograds(kw):
    p = problem(**kw)
    s = free_phase(p.field, p.x, settling=TIGHT).s
    torch.testing.assert_close(dense_jacobian(p.at(s)), jacobian(p, s), atol=1e-12, rtol=0)


def test_exact_asymmetry_of_known_matrices():
    # a linear field with transposed feedback is symmetric; with opposite feedback its couplings
    # are antisymmetric: J = A - 1, ||J - J^T|| = 2 ||A||, ||J + J^T|| = 2 ||1||
    kw = {"activation": "linear", "dtype": torch.float64, "generator": rng()}

    def asymmetry(field):
        x = torch.zeros(2, 3, dtype=torch.float64)
        return exact_asymmetry(field.linearise(torch.zeros(2, 9).double(), field.drive(x)))

    assert asymmetry(LeakyField([3, 5, 4], angle=0.0, **kw)).ratio < 1e-15
    opposite = LeakyField([3, 5, 4], angle=180.0, **kw)
    expected = (2 * opposite.forward_weight(1).square().sum()).sqrt() / 3.0
    found = asymmetry(opposite)
    assert found.ratio == pytest.approx(float(expected), rel=1e-12)
    assert found.symmetry_share == pytest.approx(1 / (1 + float(expected)), rel=1e-12)


@pytest.mark.slow
def test_hutchinson_is_within_three_standard_errors():
    p = problem(sizes=(5, 20, 15, 4), batch=3)
    s = free_phase(p.field, p.x, settling=TIGHT).s
    exact = exact_asymmetry(p.at(s)).ratio
    within, g = 0, rng(1)
    for _ in range(500):
        found = hutchinson_asymmetry(p.at(s), probes=64, generator=g)
        assert found.standard_error > 0
        within += abs(found.ratio - exact) <= 3 * found.standard_error
    assert within >= 495


def test_lanczos_gives_the_spectral_norm():
    g = rng(2)
    matrices = torch.randn(4, 30, 30, generator=g, dtype=torch.float64)
    found = spectral_norm(
        lambda v: (matrices @ v[..., None])[..., 0],
        lambda v: (matrices.mT @ v[..., None])[..., 0],
        torch.randn(4, 30, generator=g, dtype=torch.float64),
    )
    torch.testing.assert_close(found, torch.linalg.matrix_norm(matrices, 2), rtol=1e-9, atol=0)


@pytest.mark.parametrize("kw", [{}, clipped()], ids=str)
def test_norms_of_the_bound(kw, monkeypatch):
    p = problem(**kw)
    s = free_phase(p.field, p.x, settling=TIGHT).s
    dense = jacobian(p, s)
    odd = torch.linalg.matrix_norm(dense - dense.mT, 2)
    torch.testing.assert_close(asymmetry_norm(p.at(s), None, generator=rng()), odd)
    inverse = torch.linalg.matrix_norm(torch.linalg.inv(dense), 2)
    torch.testing.assert_close(inverse_norm(p.at(s), generator=rng()), inverse)
    eigenvalues = torch.linalg.eigvals(dense + torch.eye(p.field.n, dtype=s.dtype))
    radius = eigenvalues.abs().amax(1)
    torch.testing.assert_close(spectral_radius(p.at(s), generator=rng()), radius)
    monkeypatch.setattr("bioplaus.jacobian.DENSE_UP_TO", 0)
    matrix_free = inverse_norm(p.at(s), generator=rng())
    torch.testing.assert_close(matrix_free, inverse, rtol=1e-5, atol=0)
    matrix_free = spectral_radius(p.at(s), generator=rng())
    torch.testing.assert_close(matrix_free, radius, rtol=1e-8, atol=0)


@pytest.mark.slow
def test_no_dense_jacobian_above_two_thousand_units():
    program = """
import resource, torch
from bioplaus import LeakyField, free_phase
from bioplaus.costs import get_cost
from bioplaus.estimators import AsymEP, Implicit
from bioplaus.jacobian import *
torch.set_num_threads(1)
g = torch.Generator().manual_seed(0)
small, large = (LeakyField([30, n, n, 10], feedback_gain=0.3, generator=g) for n in (20, 1300))
def check(field):
    x, y = torch.rand(2, 30), torch.eye(10)[:2]
    at = field.linearise(free_phase(field, x).s, field.drive(x))
    hutchinson_asymmetry(at, probes=8, generator=g)
    asymmetry_norm(at, None, generator=g)
    inverse_norm(at, generator=g)
    spectral_radius(at, generator=g)
    for kind in (AsymEP, Implicit):
        kind()(field, x, y, get_cost("squared-error"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(check(small), check(large))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    before, after = (int(kib) for kib in done.stdout.split())
    dense_kib = 2 * 2610**2 * 4 / 1024  # one dense Jacobian of the batch: 53 MB
    weights_kib = 2 * 1300**2 * 4 / 1024
    # two copies of the weights (updates beside parameters) and 120 vectors, and no more
    assert after - before < 2.5 * weights_kib + 0.3 * dense_kib


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_radius_of_low_rank_is_not_that_of_rounding(dtype, monkeypatch):
    # four outputs leave W a rank of eight: after nine products the Krylov space is complete
    kw = clipped(dtype=dtype, feedback_gain=0.5, gain=0.5)
    field = LeakyField([30, 100, 4], generator=rng(), **kw)
    x = torch.rand(3, 30, generator=rng(), dtype=dtype)
    s = free_phase(field, x).s
    at = field.linearise(s, field.drive(x))
    exact = spectral_radius(at, generator=rng())
    monkeypatch.setattr("bioplaus.jacobian.DENSE_UP_TO", 0)
    found = spectral_radius(at, generator=rng())
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=0)


def test_norms_and_radii_that_have_not_settled_are_not_given(monkeypatch):
    # a rotation by many angles: no eigenvalue is larger than the others
    field = LeakyField([3, 200, 200], "linear", gain=1.0, angle=180.0, generator=rng())
    s = torch.zeros(2, field.n)
    at = field.linearise(s, torch.zeros(2, 200))
    monkeypatch.setattr("bioplaus.jacobian.DENSE_UP_TO", 0)
    exact = torch.linalg.matrix_norm(dense_jacobian(at), 2)
    start = torch.randn(2, field.n, generator=rng())
    for iterations, known in ((2, False), (100, True)):
        found = spectral_norm(at.jvp, at.vjp, start, iterations=iterations)
        assert bool(torch.isfinite(found).all()) is known
    torch.testing.assert_close(found, exact, rtol=1e-3, atol=0)
    monkeypatch.setattr("bioplaus.jacobian.gmres", lambda product, v, **kw: (v, torch.ones(2)))
    assert inverse_norm(at, generator=rng()).isnan().all()
