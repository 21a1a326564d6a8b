"""A zoo of small fields for the tests, and tools to analyse them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus.costs import AbstractCost, one_hot
from bioplaus.fields import LeakyField
from bioplaus.fields.linearisation import AbstractLinearisation
from bioplaus.phases import Settling, free_phase
from bioplaus.solvers import Sweeps

TIGHT = Settling(Sweeps(), tolerance=1e-13, free_steps=3000, nudged_steps=3000)
SMOOTH = ("tanh", "sigmoid", "sigmoid-4s-2", "softplus")


@dataclass(frozen=True)
class Problem:
    """A field with a batch of inputs and targets."""

    field: LeakyField
    x: Tensor
    y: Tensor

    def at(self, s: Tensor) -> AbstractLinearisation:
        """J_s at each row of `s`."""
        return self.field.linearise(s, self.field.drive(self.x))


def problem(sizes: tuple[int, ...] = (6, 7, 5, 3), batch: int = 4, seed: int = 0, **kw) -> Problem:
    """A small float64 network that contracts, with inputs in [0, 1] and one-hot targets."""
    g = torch.Generator().manual_seed(seed)
    # tied weights at the larger gain have several fixed points
    scale = {"gain": 0.4} if kw.get("tied") else {"gain": 0.7, "feedback_gain": 0.7}
    kw = {"activation": "tanh", "dtype": torch.float64} | scale | kw
    field = LeakyField(sizes, generator=g, **kw)
    for name, p in field.parameters.items():
        if name.startswith("bias"):
            p.copy_(0.3 + 0.1 * torch.randn(p.shape, generator=g, dtype=p.dtype))
    x = torch.rand(batch, sizes[0], generator=g, dtype=torch.float64)
    y = one_hot(torch.randint(sizes[-1], (batch,), generator=g), sizes[-1], torch.float64)
    return Problem(field, x, y)


def clipped(**kw) -> dict:
    """Settings of the clipped coordinates."""
    return {"activation": "hard-sigmoid", "coordinates": "clipped"} | kw


def autograd_field(p: Problem, theta: dict[str, Tensor], s: Tensor) -> Tensor:
    """mu(x, s; theta) implemented again, out of place, so that autograd can differentiate it."""
    field, layers = p.field, p.field.layers
    rho = {
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "sigmoid-4s-2": lambda z: torch.sigmoid(4 * z - 2),
        "softplus": torch.nn.functional.softplus,
        "hard-sigmoid": lambda z: z.clamp(0, 1),
        "linear": lambda z: z,
    }[field.activation.name]
    last = len(layers) - 1
    is_clipped = field.coordinates == "clipped"
    r = [
        s[:, here] if is_clipped or (k == last and field.linear_output) else rho(s[:, here])
        for k, here in enumerate(layers)
    ]
    parts = []
    for k in range(len(layers)):
        below = p.x if k == 0 else r[k - 1]
        a = below @ theta[f"forward.{k + 1}"].T + theta[f"bias.{k + 1}"]
        if k < last:
            back = theta[f"forward.{k + 2}"].T if field.tied else theta[f"feedback.{k + 1}"]
            a = a + r[k + 1] @ back.T
        if is_clipped and not (k == last and field.linear_output):
            a = a.clamp(0, 1)
        parts.append(a)
    return torch.cat(parts, 1) - s


def jacobian(p: Problem, s: Tensor) -> Tensor:
    """J_s of every row by autograd, [B, n, n]."""
    theta = p.field.parameters
    rows = [
        torch.autograd.functional.jacobian(
            lambda z, row=row: autograd_field(
                Problem(p.field, p.x[row : row + 1], p.y[row : row + 1]), theta, z[None]
            )[0],
            s[row],
        )
        for row in range(len(s))
    ]
    return torch.stack(rows)


def parameter_product(p: Problem, s: Tensor, delta: Tensor) -> dict[str, Tensor]:
    """(dmu/dtheta)^T delta averaged over the batch, by autograd of the field."""
    theta = {k: v.clone().requires_grad_() for k, v in p.field.parameters.items()}
    mu = autograd_field(p, theta, s)
    grads = torch.autograd.grad((mu * delta).sum() / len(s), list(theta.values()))
    return dict(zip(theta, grads, strict=True))


def true_gradient(p: Problem, cost: AbstractCost) -> Tensor:
    """-dJ/dtheta by a dense solve for the adjoint J^-T c and autograd of the field."""
    return _product_with_solution(p, cost, transposed=True)


def vector_field_limit(p: Problem, cost: AbstractCost) -> Tensor:
    """(dmu/dtheta)^T J^-1 c, the limit of the vector field's update, by a dense solve."""
    return _product_with_solution(p, cost, transposed=False)


def _product_with_solution(p: Problem, cost: AbstractCost, transposed: bool) -> Tensor:
    s = free_phase(p.field, p.x, settling=TIGHT).s
    c = torch.zeros_like(s)
    c[:, p.field.output] = cost.slope(s[:, p.field.output], p.y)
    matrix = jacobian(p, s)
    solved = torch.linalg.solve(matrix.mT if transposed else matrix, c[..., None])[..., 0]
    return flat(parameter_product(p, s, solved))


def distance(estimate: dict[str, Tensor], truth: Tensor) -> float:
    """Relative error of updates, compared with a gradient as one vector."""
    return float((flat(estimate) - truth).norm() / truth.norm())


def flat(updates: dict[str, Tensor]) -> Tensor:
    """All updates as one vector, ordered by name."""
    return torch.cat([updates[name].reshape(-1) for name in sorted(updates)])


def largest_real_part(field: LeakyField, x: Tensor, s: Tensor) -> Tensor:
    """The rightmost eigenvalue's real part of the dense Jacobian of each row, [B]."""
    return torch.linalg.eigvals(jacobian(Problem(field, x, x), s)).real.amax(1)
