"""What must hold of a case: the package's phases and updates, held against its numpy twin."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy import ndarray

from bioplaus.costs import get_cost
from bioplaus.estimators import Estimate, get_estimator
from bioplaus.jacobian import dense_jacobian
from bioplaus.phases import Settling, free_phase
from bioplaus.solvers import Solution
from tests.independent import updates
from tests.independent.drawing import ASKED_UP_TO, Case
from tests.independent.flows import Free, Pair, Pulled, Turned
from tests.independent.settling import Flow, follow, growth, polish, returns, sluggishness
from tests.independent.updates import Updates
from tests.independent.walking import Rule, shaken, tolerance_of, walk

SETTLED_BY = 60.0
"""Membrane time constants within which a flow must come to rest to count as settling."""
CLEARLY = 0.05
"""Rates of return below this are too near to zero to be judged by an integration."""
SHAKEN = 5
"""Continual updates may be off by this multiple of what random rounding errors make of them.

The package's are off by 0.4 of it at most, by 0.2 in the mean (25 networks).
"""


@dataclass
class Findings:
    """What a case showed: failures, each a line that begins with its kind, and counts."""

    failures: list[str] = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)


@dataclass(frozen=True)
class End:
    """The exact end of a phase, and how far from it the package's state may lie."""

    exact: ndarray
    slack: float


def check(case: Case) -> Findings:
    """Run a case and compare all that it gives."""
    found = Findings()
    with np.errstate(all="ignore"):
        free, ends = _free_phase(case, found)
        _missed(case, found)
        _updates(case, free, ends, found)
    return found


def check_free_phase(case: Case) -> Findings:
    """Compare only the free phase with its twin."""
    found = Findings()
    with np.errstate(all="ignore"):
        _free_phase(case, found)
        _missed(case, found)
    return found


def _free_phase(case: Case, found: Findings) -> tuple[Solution, list[End | None]]:
    """The package's free phase, and the exact end of each of its converged rows."""
    x = torch.as_tensor(case.x, dtype=case.dtype)
    free = free_phase(case.field, x, settling=case.settling())
    ends: list[End | None] = []
    for row in range(len(case.x)):
        flow = Free(case.twin, case.x[row])
        start = case.field.initial_state(case.field.drive(x))[row].double().numpy()
        expected = flow.net.one_pass_upwards(flow.x)
        if np.linalg.norm(start - expected) > 50 * case.eps * (1 + np.linalg.norm(expected)):
            found.failures.append(f"start: row {row}")
        done = bool(free.converged[row])
        ends.append(judge(case, flow, free.s[row], f"free row {row}", found) if done else None)
    _linearised(case, free, x, found)
    return free, ends


def _linearised(case: Case, free: Solution, x: torch.Tensor, found: Findings) -> None:
    """The package's Jacobians and abscissas at its converged states, against the twin's."""
    jacobians = dense_jacobian(case.field.linearise(free.s, case.field.drive(x))).double().numpy()
    assert free.abscissa is not None
    for row in np.flatnonzero(free.converged.numpy()):
        flow, s = Free(case.twin, case.x[row]), free.s[row].double().numpy()
        if flow.edge(s) < 1e-3:
            continue  # on a corner there are several
        gap = np.linalg.norm(jacobians[row] - flow.jacobian(s))
        if gap > 100 * case.eps * (1 + np.linalg.norm(s)) * scale(flow, s):
            found.failures.append(f"jacobian: free row {row}: off by {gap:.2e}")
        gap = abs(float(free.abscissa[row]) - growth(flow, s))
        if case.twin.n <= ASKED_UP_TO and gap > 1e-4:  # of larger ones it is an estimate
            found.failures.append(f"abscissa: free row {row}: off by {gap:.2e}")
        found.counts["linearised"] += 1


def judge(
    case: Case,
    flow: Flow,
    state: torch.Tensor,
    what: str,
    found: Findings,
    anchored: Flow | None = None,
    origin: ndarray | None = None,
) -> End | None:
    """A converged row must be a zero of the flow and an attractor; its exact place.

    Args:
        case, state, what, found: the row, and where to note what it shows.
        flow: whose end it claims to be.
        anchored: the flow about the package's own free state, where that enters the flow.
        origin: that state, where the phase is kept in deviations from it: what it has left of
            mu is left out there, and the tolerance is relative to it.
    """
    s = state.to(torch.complex128 if state.is_complex() else torch.float64).numpy()
    found.counts["converged phases"] += 1
    left = float(np.linalg.norm((anchored or flow).force(s)))
    size = float(np.linalg.norm(s))
    floor = 30 * case.eps * scale(flow, s)
    limit = case.tolerance * size
    if origin is not None:
        rest = float(np.linalg.norm(flow.net.mu(flow.x, origin)))
        limit = case.tolerance * float(np.linalg.norm(origin)) + rest
    if not left <= limit * (1 + 1e-5) + floor:
        found.failures.append(f"not a zero: {what}: ||F||/||s|| = {left / size:.2e}")
        return None
    exact = polish(flow, s)
    if exact is None:
        found.counts["no exact zero"] += 1
        return None
    slow = sluggishness(flow, exact)
    slack = slow * (max(left, float(np.linalg.norm(flow.force(s)))) + floor)
    if np.linalg.norm(exact - s) > 3 * slack + 1e-12:
        found.counts["no zero near"] += 1
        return None
    rate = growth(flow, exact)
    at_corner = flow.edge(exact) < 1e-9
    if rate > 1e-7 and not at_corner:
        found.failures.append(f"unstable: {what}: max Re lambda = {rate:.4f}")
        return None
    if rate < -CLEARLY or at_corner:
        rng = np.random.default_rng(case.number)
        kick = rng.normal(size=s.shape) * 1e-5 * (1 + size) / s.size**0.5
        if returns(flow, exact, kick, max(-rate, CLEARLY)):
            found.counts["returned"] += 1
        else:
            found.failures.append(f"does not return: {what}: max Re lambda = {rate:.4f}")
    return End(exact, slack)


def scale(flow: Flow, s: ndarray) -> float:
    """The size of the terms that the force is a sum of, for its rounding."""
    net = flow.net
    parts = (net.w, net.v * np.linalg.norm(flow.x))
    return float(sum(np.linalg.norm(p) for p in parts) * (1 + np.linalg.norm(s)))


def _missed(case: Case, found: Findings) -> None:
    """What comes to rest by itself must settle under the default solver, at the same place."""
    x = torch.as_tensor(case.x, dtype=case.dtype)
    tolerance = 1e-9 if case.dtype == torch.float64 else 1e-4
    free = free_phase(case.field, x, settling=Settling(tolerance=tolerance, free_steps=3000))
    for row in range(len(case.x)):
        flow = Free(case.twin, case.x[row])
        end = follow(flow, case.twin.one_pass_upwards(flow.x), SETTLED_BY)
        if not np.linalg.norm(flow.force(end)) <= 1e-5 * np.linalg.norm(end):
            found.counts["flows that do not settle"] += 1
            continue
        found.counts["flows that settle"] += 1
        if not free.converged[row]:
            rate = growth(flow, end)
            found.failures.append(f"missed: free row {row}: settles, max Re lambda = {rate:.4f}")
        elif np.linalg.norm(free.s[row].double().numpy() - end) > 1e-2 * (1 + np.linalg.norm(end)):
            found.counts["another attractor"] += 1


def _updates(case: Case, free: Solution, ends: list[End | None], found: Findings) -> None:
    x, y = (torch.as_tensor(a, dtype=case.dtype) for a in (case.x, case.y))
    make = get_estimator(case.estimator)
    settings = dict(case.settings)
    if settings.get("nudging") == "random-sign":
        settings["generator"] = torch.Generator().manual_seed(case.number)
    estimator = make(settling=case.settling(), gate=case.tolerance, **settings)
    estimate = estimator(case.field, x, y, get_cost(case.cost.name), free=free)
    for phase in (free, *estimate.nudged):
        if bool((estimate.accepted & ~phase.converged).any()):
            found.failures.append("accepted: a row that has not converged enters the update")
    got = {name: u.double().numpy() for name, u in estimate.updates.items()}
    if case.estimator == "continual":
        wanted, slack = _continual(case, estimate, found)
    else:
        wanted, slack = _mean_of_rows(case, estimate, ends, found)
    if wanted is None:
        found.counts["updates not compared"] += 1
        return
    wanted = {name: np.zeros_like(u) for name, u in got.items()} | wanted
    gap = np.sqrt(sum(np.sum((got[k] - wanted[k]) ** 2) for k in wanted))
    size = np.sqrt(sum(np.sum(u**2) for u in wanted.values()))
    found.counts["updates compared"] += 1
    found.counts["updates compared closely"] += bool(slack < 1e-3 * size)
    if not gap <= slack:
        found.failures.append(f"update: off by {gap:.2e} of {size:.2e}, allowed {slack:.2e}")


def _mean_of_rows(
    case: Case, estimate: Estimate, ends: list[End | None], found: Findings
) -> tuple[Updates | None, float]:
    """The update of the accepted rows, and how far off the package's tolerances may bring it."""
    rows, total, batch = [], 0.0, len(case.x)
    accepted = [row for row in range(batch) if estimate.accepted[row]]
    for row in accepted:
        at = ends[row]
        if at is None:
            return None, 0.0
        made = _delta(case, estimate, row, at, found)
        if made is None:
            return None, 0.0
        delta, error = made
        rows.append(updates.spread(case.twin, case.x[row], at.exact, delta))
        reach = 2 * (1 + np.linalg.norm(at.exact) + np.linalg.norm(case.x[row]))
        small = at.slack + 30 * case.eps * (1 + np.linalg.norm(at.exact))
        total += (error * reach + 2 * np.linalg.norm(delta) * small) / batch
        if case.estimator == "homeostasis":
            even = updates.evening(case.twin, case.x[row], at.exact)
            share = case.settings["strength"] * batch / len(accepted)
            rows.append({name: share * value for name, value in even.items()})
            total += share * small * 10 * np.linalg.norm(case.twin.w) ** 2 / batch
    wanted = updates.mean(rows, batch)
    if case.estimator == "kolen-pollack" and not case.twin.tied:
        zero = {name: np.zeros_like(w) for name, w in case.weights().items()}
        decay = case.settings["decay"]
        wanted = updates.mirrored(case.twin, zero | wanted, case.weights(), decay)
        total = 2 * total + 10 * case.eps * decay * np.linalg.norm(case.twin.w)
    return wanted, 3 * total + 1e-13


def _delta(
    case: Case, estimate: Estimate, row: int, at: End, found: Findings
) -> tuple[ndarray, float] | None:
    """ds/dbeta of one row from the exact ends of its phases, and its error."""
    net, beta = case.twin, case.settings.get("beta", 0.0)
    if beta == 0.0:
        return _exact(case, estimate, row, at, found)
    signs = _strengths(case)
    ends: list[End] = []
    for phase, strength in zip(estimate.nudged, signs, strict=True):
        flow, state = _flow(case, row, at.exact, strength), phase.s[row]
        if case.settings.get("nudging") == "random-sign":
            other = _flow(case, row, at.exact, -strength)
            s = state.double().numpy()
            if np.linalg.norm(other.force(s)) < np.linalg.norm(flow.force(s)):
                flow, beta = other, -beta
        free = estimate.free.s[row].double().numpy()
        own = _flow(case, row, free, flow.beta)
        what = f"{case.estimator} row {row} beta {strength:.3g}"
        end = judge(case, flow, state, what, found, own, None if phase.deviation is None else free)
        if end is None:
            return None
        start = at.exact if len(state) == net.n else np.tile(at.exact, 2)
        reached = follow(flow, start.astype(end.exact.dtype), SETTLED_BY)
        if np.linalg.norm(flow.force(reached)) <= 1e-5 * np.linalg.norm(reached):
            away = np.linalg.norm(reached - end.exact) > 1e-2 * (1 + np.linalg.norm(reached))
            found.counts["another nudged attractor"] += bool(away)
        ends.append(end)
    error = sum(end.slack for end in ends) + at.slack
    error += 10 * case.eps * (1 + np.linalg.norm(at.exact))
    return _difference(case, at, [end.exact for end in ends], beta), error / abs(beta)


def _exact(
    case: Case, estimate: Estimate, row: int, at: End, found: Findings
) -> tuple[ndarray, float] | None:
    """The adjoint at the free fixed point, and the error of an oracle's."""
    net, flow = case.twin, Free(case.twin, case.x[row])
    c = case.cost.gradient(at.exact[net.outputs], case.y[row])
    slow, size = sluggishness(flow, at.exact), float(np.linalg.norm(c))
    memory, left, room = slow, 0.0, at.slack
    if case.estimator == "unrolled":
        phase = estimate.nudged[0]
        steps = int(phase.n_steps[row])
        memory, most, missing = updates.unrolling(flow, at.exact, c, case.settings["dt"], steps)
        if not np.isfinite(memory):
            return None  # Euler steps of this size leave a point to which the flow returns
        left, room = slow * missing, most * at.slack
        limit = max(case.tolerance, 100 * case.eps) * size
        doubt = 10 * (1 + memory) * (1 + size) * (room + 10 * case.eps)
        if bool(phase.converged[row]) and missing > limit * (1 + 1e-5) + doubt:
            found.failures.append(f"unrolled: row {row}: converged, with {missing / size:.1e} left")
    error = 10 * memory * (1 + memory) * (1 + size) * (at.slack + 10 * case.eps) + left
    if case.estimator == "finite-difference":
        # the costs are as good as the phases, over a step of 1e-3, in each of the parameters
        count = sum(w.size for w in case.weights().values())
        spoilt = case.tolerance * np.linalg.norm(at.exact) * slow * size
        error = error + 1e-6 + 2e3 * count**0.5 * spoilt
        room += 4e-3 * (1 + scale(flow, at.exact)) * (1 + slow)
    if flow.edge(at.exact) <= room:
        return None  # on a corner: the gradient has two values
    return updates.adjoint(net, flow.x, at.exact, c), error * (1 + np.linalg.norm(net.w))


def _strengths(case: Case) -> list[complex]:
    """The beta of each nudged phase that the package gives back."""
    beta = case.settings["beta"]
    if case.estimator == "holomorphic":
        count = case.settings["points"]
        return [complex(beta * np.exp(2j * np.pi * k / count)) for k in range(count // 2 + 1)]
    return [beta, -beta] if case.settings.get("nudging") == "centered" else [beta]


def _flow(case: Case, row: int, free: ndarray, strength: complex) -> Pulled | Pair:
    net, x, y, cost = case.twin, case.x[row], case.y[row], case.cost
    if case.estimator == "asym-ep":
        return Turned(net, x, y, cost, strength, free)
    if case.estimator == "dyadic":
        return Pair(net, x, y, cost, strength.real)
    return Pulled(net, x, y, cost, strength)


def _difference(case: Case, at: End, ends: list[ndarray], beta: float) -> ndarray:
    net = case.twin
    if case.estimator == "dyadic":
        up, down = np.split(ends[0], 2)
        return (up - down) / beta
    if case.estimator == "holomorphic":
        count = case.settings["points"]
        circle = [ends[k] if k < len(ends) else ends[count - k].conj() for k in range(count)]
        delta = updates.cauchy(net, circle, beta)
        return updates.less_free(net, delta, at.exact, count, beta)
    if case.estimator == "asym-ep":  # its rule sees the state in every kind of coordinates
        other = ends[1] if len(ends) == 2 else at.exact
        return (ends[0] - other) / (beta * len(ends))
    if len(ends) == 2:
        return updates.centered(net, ends[0], ends[1], beta)
    return updates.one_sided(net, at.exact, ends[0], beta)


def _continual(case: Case, estimate: Estimate, found: Findings) -> tuple[Updates | None, float]:
    """The sum of the updates of as many steps as the package took, and what rounding does to it.

    The phase must have ended at the first step whose residual is within its tolerance.
    """
    batch, settings = len(case.x), case.settings
    if not bool(estimate.accepted.all()) or settings["nudging"] == "random-sign":
        return None, 0.0
    free = [estimate.free.s[row].double().numpy() for row in range(batch)]
    beta, dt = settings["beta"], case.solver_settings["dt"]
    betas = [beta, -beta] if settings["nudging"] == "centered" else [beta]
    rows = [(case.x[r], case.y[r], free[r], b) for b in betas for r in range(batch)]
    rule = Rule(case.rebuild, case.weights(), rows, case.cost, dt, settings["rate"])
    steps = int(estimate.nudged[0].n_steps.max())
    total, residuals = walk(rule, steps)
    away, apart = shaken(rule, case.eps, total, residuals)
    excess = residuals / tolerance_of(case.tolerance, beta, case.eps) - 1
    doubt = 1e-6 + 30 * apart * (1 + excess) / residuals
    if excess[-1] > doubt[-1] or (excess[:-1] < -doubt[:-1]).any():
        found.failures.append(f"end: after {steps} steps: residuals {residuals[-3:]}")
    return total, SHAKEN * away + 1e-13
