"""Sweeps on tables: games x taus x methods x seeds, all games in one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nlhf.algorithms import AbstractAlgorithm, NashMD, Problem, State, Votes, get_algorithm
from nlhf.algorithms.base import theorem_rate
from nlhf.checks import check_game
from nlhf.device.programs import AbstractProgram, OneByOne, choose
from nlhf.errors import InputError
from nlhf.oracle import solve_and_tell
from nlhf.regularised_game import CONVERGED, entropy, exploitability, kl

MEASURES = (
    "exploitability",
    "kl_to_equilibrium",
    "kl_from_equilibrium",
    "entropy",
    "slack",
)


@dataclass(frozen=True)
class Sweep:
    """The outcome of `run_tabular`; M methods, T taus, S seeds, G games, R recorded steps.

    Attributes:
        methods: names of the methods, M.
        taus: [T].
        log_pi: the last policies, [M, T, S, G, K].
        log_equilibrium: the oracle's policies, [T, G, K], float64.
        steps: the recorded steps, R.
        exploitability, entropy: trajectories, [M, T, S, G, R].
        kl_to_equilibrium: KL(pi_t || pi*), which exploitability / tau bounds.
        kl_from_equilibrium: KL(pi* || pi_t), the distance in the theorems.
        slack: KL(pi*, pi_t) (1 - eta tau) + 2 eta^2 - KL(pi*, pi_{t+1}) at the recorded steps with
            the theorem's eta: the slack in Theorem 1's one-step inequality; NaN for other methods.
    """

    methods: tuple[str, ...]
    taus: Tensor
    log_pi: Tensor
    log_equilibrium: Tensor
    steps: tuple[int, ...]
    exploitability: Tensor
    kl_to_equilibrium: Tensor
    kl_from_equilibrium: Tensor
    entropy: Tensor
    slack: Tensor
    programs: tuple[str, ...] = ()
    """How the steps of each method ran, M: "plain torch", "resident kernel", "one kernel for
    many steps", "CUDA graph" or "torch.compile"."""
    oracle: str = "plain torch"
    """How the oracle's steps ran: "plain torch", "CUDA graph" or "masked steps"."""

    @property
    def certificate(self) -> Tensor:
        """exploitability / tau, which bounds KL(pi_t || pi*) and needs no oracle; same shape."""
        return self.exploitability / self.taus[:, None, None, None]

    @property
    def converged(self) -> Tensor:
        """Whether the last recorded certificate is at most CONVERGED, [M, T, S, G]."""
        return self.certificate[..., -1] <= CONVERGED


def run_tabular(
    P: Tensor,
    log_mu: Tensor,
    taus: Sequence[float] | float = 0.1,
    methods: Sequence[str | AbstractAlgorithm] = ("nash-md",),
    seeds: Sequence[int] = (0,),
    iterations: int = 1000,
    *,
    record: Sequence[int] | None = None,
    votes: int | None = None,
    settings: Mapping[str, Mapping[str, object]] | None = None,
    compiled: bool = False,
    device: torch.device | str | None = None,
    on_step: Callable[[int], None] = lambda step: None,
) -> Sweep:
    """Run every method on every game, tau and seed; one step of a method is one batched product.

    Args:
        P: games, [G, K, K] or [K, K], on any device, float32 or float64.
        log_mu: reference policies, [G, K] or [K].
        taus: regularisations, > 0.
        methods: names or algorithm objects.
        seeds: seeds of the votes; with exact feedback all seeds give the same result.
        iterations: number of steps, >= 1.
        record: steps to record; by default about fifty, evenly spaced in log.
        votes: comparisons per action and step; exact feedback if None.
        settings: settings of the methods given by name, keyed by that name.
        compiled: let torch.compile fuse a step (on a GPU as a CUDA graph). Compilation takes 10
            to 30 seconds per method and pays off where a sweep takes minutes; see docs/nash.md.
        device: where to compute; None means the device of P. On a GPU each method runs in the way
            that is fastest for the size of the games, see `nlhf.device`; `Sweep.programs` records
            which one.
        on_step: called for each step of each method, or once per launch that does several steps.

    Raises:
        InputError: see `check_game`; an unknown method; iterations < 1.
    """
    if iterations < 1:
        raise InputError(f"iterations={iterations} must be at least 1")
    P, log_mu, tau = _games(P, log_mu, taus, device)
    if not (len(tau) and len(seeds) and len(methods)) or isinstance(methods, str):
        raise InputError("give a list of methods, and one tau, seed and method at least")
    outside = [step for step in record or () if not 1 <= step <= iterations]
    if outside:
        raise InputError(f"record={outside[0]} lies outside the steps 1 to {iterations}")
    shape = (len(tau), len(seeds), len(P))
    star, oracle = solve_and_tell(P, log_mu, tau[:, None])
    grid = Problem(P, log_mu, tau[:, None, None].expand(shape).contiguous())
    steps = tuple(sorted(set(record or _spaced(iterations))))
    target = star[:, None].to(P.dtype).expand(*shape, P.shape[-1])
    ends, trajectories, programs = [], [], []
    chosen = [
        get_algorithm(m)(**(settings or {}).get(m, {})) if isinstance(m, str) else m
        for m in methods
    ]
    for method in chosen:
        problem = grid
        if votes is not None:
            rngs = tuple(torch.Generator(P.device).manual_seed(seed) for seed in seeds)
            problem = replace(grid, votes=Votes(votes, rngs))
        program = _compiled(method, problem) if compiled else choose(method, problem)
        end, trajectory = _run(method, program, problem, target, iterations, steps, on_step)
        programs.append(program.name)
        ends.append(end.log_pi)
        trajectories.append(trajectory)
    stacked = torch.stack(trajectories)  # [M, R, measures, T, S, G]
    measured = {name: stacked[:, :, i].movedim(1, -1) for i, name in enumerate(MEASURES)}
    names = tuple(method.name for method in chosen)
    how = {"programs": tuple(programs), "oracle": oracle}
    return Sweep(names, tau, torch.stack(ends), star, steps, **measured, **how)


def _games(
    P: Tensor,
    log_mu: Tensor,
    taus: Sequence[float] | float,
    device: torch.device | str | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Games [G, K, K], references [G, K] and taus [T] on the device that computes.

    Raises:
        InputError: the games, policies or taus are invalid or do not fit each other.
    """
    check_game(P, log_mu, 1.0)
    if device is not None:
        P = P.to(_device(device))
    P = P[None] if P.ndim == 2 else P
    if P.ndim != 3 or log_mu.shape[:-1] not in ((), (1,), P.shape[:1]):
        raise InputError(
            f"P has shape {list(P.shape)} and log_mu {list(log_mu.shape)}; give [G, K, K] with "
            "[G, K] or [K]"
        )
    try:
        tau = torch.as_tensor(taus, dtype=P.dtype, device=P.device).reshape(-1)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"taus={taus!r} are no numbers; give one > 0, or several") from None
    log_mu = log_mu.to(P).expand(*P.shape[:-1])
    check_game(P, log_mu, tau)
    return P, log_mu, tau


@torch.no_grad()
def _run(
    method: AbstractAlgorithm,
    program: AbstractProgram,
    problem: Problem,
    star: Tensor,
    iterations: int,
    steps: tuple[int, ...],
    on_step: Callable[[int], None],
) -> tuple[State, Tensor]:
    """Run one method on the whole grid; also return its recorded measures, [R, measures, ...]."""
    state, kept, t = method.init(problem), [], 0
    for end in (*steps, iterations):
        if end > t:
            before, state = program.advance(problem, state, end - t)
            for done in range(t + 1, end + 1):
                on_step(done)
            t = end
            if end in steps:
                kept.append(measure(method, problem, star, before, state))
    return state, torch.stack(kept)


def _device(name: torch.device | str) -> torch.device:
    """Look up an available device.

    Raises:
        InputError: the device does not exist, or no GPU can be used here.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device={name!r} is unknown; use cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device={str(name)!r} has no usable GPU here; use cpu")
    return device


def _compiled(method: AbstractAlgorithm, problem: Problem) -> AbstractProgram:
    """A step with its tensor operations fused; it receives copies of the state's tensors."""
    mode = "reduce-overhead" if problem.P.is_cuda else "default"
    step = torch.compile(method.step, mode=mode, dynamic=True)

    def advance(problem: Problem, state: State) -> State:
        new = step(problem, state)
        kept = {name: tensor.clone() for name, tensor in new.memory.items()}
        return State(new.log_pi.clone(), new.step, kept)

    return OneByOne(advance, "torch.compile")


def measure(
    method: AbstractAlgorithm, problem: Problem, star: Tensor, before: State, state: State
) -> Tensor:
    """The MEASURES of one step, [5, ...]."""
    f = exploitability.unchecked(problem.P, state.log_pi, problem.log_mu, problem.tau)
    distance = kl.unchecked(star, state.log_pi)
    slack = torch.full_like(f, torch.nan)
    if _is_theorem(method):
        eta = theorem_rate(problem.tau, before.step)
        slack = (1 - eta * problem.tau) * kl.unchecked(star, before.log_pi) + 2 * eta**2 - distance
    to_star, spread = kl.unchecked(state.log_pi, star), entropy.unchecked(state.log_pi)
    return torch.stack((f, to_star, distance, spread, slack))


def _is_theorem(method: AbstractAlgorithm) -> bool:
    return isinstance(method, NashMD) and method.eta is None and method.mixture is None


def _spaced(iterations: int) -> list[int]:
    points = torch.logspace(0, torch.tensor(float(iterations)).log10().item(), 50)
    return [min(max(round(p), 1), iterations) for p in points.tolist()]
