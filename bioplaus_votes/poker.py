"""Kuhn poker from win/lose bits, by self-play of one network that plays both hands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bioplaus.costs import AbstractCost
from bioplaus.data import Dataset
from bioplaus.data.examples import Examples
from bioplaus.fields import VectorField
from bioplaus.measuring import fetch_measures
from bioplaus.phases import free_phase
from bioplaus.sharding import Step
from bioplaus.training import AbstractObjective
from bioplaus.training.objective import Pupil
from bioplaus_votes import rules
from bioplaus_votes.measuring import gradient_cosine, nudged
from bioplaus_votes.objectives.asking import GEOMETRIES
from bridge.errors import InputError
from bridge.schedules import Schedule
from bridge.seeding import generator

HISTORIES = ("", "p", "b", "pb")
"""Moves before a decision: none, pass, bet, pass and bet. The first and last are decisions of the
first player."""
INFORMATION = tuple(f"{card}{history}" for history in HISTORIES for card in range(3))
"""The 12 information states in OpenSpiel's notation: the card and the moves so far."""
RARE_STATE, RARE_ACTION = 1e-3, 1e-2
"""Floors of the frequencies that the natural gradient divides by: they bound a hand's weight."""


def inputs(dtype: torch.dtype = torch.float32) -> Tensor:
    """The network's input for each information state: player, card and moves, [12, 11].

    Source: the information state tensor of OpenSpiel's kuhn_poker.
    """
    x = torch.zeros(len(INFORMATION), 11, dtype=dtype)
    for row, name in enumerate(INFORMATION):
        card, history = int(name[0]), name[1:]
        x[row, len(history) % 2] = 1
        x[row, 2 + card] = 1
        for move, action in enumerate(history):
            x[row, 5 + 2 * move + "pb".index(action)] = 1
    return x


def winnings(bet: Tensor) -> Tensor:
    """The first player's mean winnings for each pair of cards, [3, 3]; 0 for equal cards.

    Args:
        bet: the probability of betting (or calling) in each information state, [12].
    """
    first, after_pass, after_bet, answer = bet.view(4, 3).double()
    cards = torch.arange(3)
    shown = torch.sign(cards[:, None] - cards).double()
    a, d = first[:, None], answer[:, None]
    e, f = after_pass[None], after_bet[None]
    passed = (1 - e) * shown + e * ((1 - d) * -1 + d * 2 * shown)
    found = (1 - a) * passed + a * ((1 - f) + f * 2 * shown)
    return found.masked_fill(torch.eye(3, dtype=torch.bool), 0.0)


def exploitability(bet: Tensor) -> float:
    """Half of both players' total gain by best responses; equals OpenSpiel's `exploitability`.

    Best responses are computed card by card: the value is linear in each decision.
    """
    best_first = best_second = 0.0
    for card in range(3):
        tried = []
        for a in (0.0, 1.0):
            for d in (0.0, 1.0):
                other = bet.double().clone().view(4, 3)
                other[0, card], other[3, card] = a, d
                tried.append(float(winnings(other.flatten())[card].sum() / 6))
        best_first += max(tried)
        tried = []
        for e in (0.0, 1.0):
            for f in (0.0, 1.0):
                other = bet.double().clone().view(4, 3)
                other[1, card], other[2, card] = e, f
                tried.append(-float(winnings(other.flatten())[:, card].sum() / 6))
        best_second += max(tried)
    return 0.5 * (best_first + best_second)


@dataclass(frozen=True)
class Hands:
    """Hands of poker that were played.

    Attributes:
        state: the information state of each decision, [N, 3]: first player, second player, and the
            first player's answer; -1 where there was none.
        action: 1 is bet or call, [N, 3].
        bit: 1 where the first player won, 0 where the second did, [N].
    """

    state: Tensor
    action: Tensor
    bit: Tensor


def play(bet: Tensor, hands: int, luck: torch.Generator) -> Hands:
    """Play hands; one bit reports the winnings u in {1, 2} by a lottery, P(win) = 1/2 + u / 4.

    A plain win bit could not distinguish larger winnings from smaller ones; the lottery's mean can.

    Source: Roth and Malouf 1979 (Psychological Review 86), binary lottery games.
    """
    first = torch.randint(3, (hands,), generator=luck)
    second = (first + torch.randint(1, 3, (hands,), generator=luck)) % 3

    def decide(state: Tensor) -> Tensor:
        return torch.bernoulli(bet[state], generator=luck).long()

    s1 = first
    a1 = decide(s1)
    s2 = 3 * (1 + a1) + second
    a2 = decide(s2)
    asked = (a1 == 0) & (a2 == 1)
    s3 = 9 + first
    a3 = torch.where(asked, decide(s3), 0)
    shown = torch.sign(first - second)
    called = ((a1 == 1) & (a2 == 1)) | (asked & (a3 == 1))
    won = torch.where(called, 2 * shown, shown)
    won = torch.where((a1 == 1) & (a2 == 0), 1, won)
    won = torch.where(asked & (a3 == 0), -1, won)
    bit = torch.bernoulli(0.5 + won.double() / 4, generator=luck)
    state = torch.stack((s1, s2, torch.where(asked, s3, -1)), 1)
    return Hands(state, torch.stack((a1, a2, a3), 1), bit)


@dataclass(frozen=True)
class Summary:
    """The result of a run."""

    exploitability: float
    gradient_cosine: float
    epochs: int


class KuhnSelfPlay(AbstractObjective):
    """Both players follow pi(. | information state) = softmax(z); each receives its own bit.

    The direction of a decision is (onehot(a) - pi)(bit - 1/2 - v - tau sum_later log pi / mu) minus
    the gradient of its own tau KL. v is the learned mean of the signal in that information state.
    Directions are summed over the decisions of a hand. tau decreases geometrically to `tau_end`.
    The natural gradient takes their mean over the visits of an information state, divided by pi: a
    step of magnetic mirror descent, which rare states and actions do not slow down.

    Source: Sokota et al. 2023 (arXiv 2206.05825), for the step and for tracking the regularised
    equilibrium.
    """

    name = "kuhn-self-play"
    step_measures = ("win_rate", "tau")
    epoch_measures = ("exploitability", "gradient_cosine", "votes")

    def __init__(
        self, *, tau: float = 0.1, tau_end: float = 0.01, geometry: str = "gradient"
    ) -> None:
        """Take the weights of the KL to the uniform policy, and the geometry of a step.

        Args:
            tau: initial weight, > 0.
            tau_end: final weight, > 0.
            geometry: `gradient`, or `natural`, which goes with plain SGD.

        Raises:
            InputError: a weight is not positive, or the geometry is unknown.
        """
        if geometry not in GEOMETRIES:
            raise InputError(f"geometry={geometry!r} is not one of {', '.join(GEOMETRIES)}")
        for key, value in (("tau", tau), ("tau_end", tau_end)):
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{key}={value!r} must be a number > 0")
        self.tau, self.tau_end, self.geometry = tau, tau_end, geometry
        self.cast = self.steps = 0

    def dataset(self, hands: int = 10_000) -> Dataset:
        """The data set for `fit`: one row for each hand of an epoch."""
        x = inputs()[:1]
        played = Examples(x.expand(hands, -1), torch.zeros(hands, dtype=torch.long))
        shown = Examples(x, torch.zeros(1, dtype=torch.long))
        return Dataset("kuhn-poker", played, shown, (11,), 1, "")

    @property
    def settings(self) -> Mapping[str, Any]:
        names = ("name", "tau", "tau_end", "geometry")
        return {name: getattr(self, name) for name in names}

    def courses(self, steps: int) -> Mapping[str, Schedule]:
        if self.tau_end == self.tau:
            return {}
        return {f"tau_end={self.tau_end:g}": self._weight(steps)}

    def _weight(self, steps: int) -> Schedule:
        """tau at update 0, 1, ...; the last of so many has `tau_end`."""
        last = max(steps - 1, 1)
        return lambda step: self.tau * (self.tau_end / self.tau) ** min(step / last, 1.0)

    def check(self, field: VectorField, dataset: Dataset) -> None:
        if field.n_output != 2 or dataset.input_size != 11:
            raise InputError(
                f"the field has n_output={field.n_output} and the data {dataset.input_size} "
                "inputs; Kuhn poker has 2 actions (pass, bet) and 11 inputs: give "
                "objective.dataset()"
            )

    def begin(self, run: Pupil) -> None:
        self._luck = generator(run.config.seed, "votes")
        self._x = inputs(run.field.dtype).to(run.field.device)
        self._value = torch.zeros(len(INFORMATION), dtype=torch.float64)
        batches = -(-len(run.dataset.train) // run.config.batch_size)
        self._tau = self._weight(run.config.epochs * batches)
        self.cast = self.steps = 0

    def estimate(self, run: Pupil, rows: Tensor) -> Step:
        tau = self._tau(self.steps)
        free = free_phase(run.field, self._x, settling=run.estimator.settling)
        log_pi = torch.log_softmax(free.s[:, run.field.output].double().cpu(), -1)
        run.more.last_inputs = self._x
        hands = play(log_pi[:, 1].exp(), len(rows), self._luck)
        g = self._step(log_pi, hands, tau)
        self.cast += len(rows)
        self.steps += 1
        estimate = nudged(run, self._x, g.to(self._x), free=free)
        for update in estimate.updates.values():
            update.mul_(len(self._x))
        own = {"win_rate": hands.bit.mean().to(self._x), "tau": self._x.new_tensor(tau)}
        return Step(estimate.updates, fetch_measures(estimate, own))

    def directions(self, log_pi: Tensor, hands: Hands, tau: float) -> Tensor:
        """g of each information state, the mean over hands, [12, 2]; also updates v."""
        ratio, pi = log_pi + math.log(2), log_pi.exp()
        g, n = torch.zeros_like(log_pi), len(hands.bit)
        own = torch.stack((hands.bit, 1 - hands.bit, hands.bit), 1) - 0.5
        taken = ratio[hands.state, hands.action]  # the value for state -1 is ignored
        own[:, 0] -= tau * torch.where(hands.state[:, 2] >= 0, taken[:, 2], 0.0)
        before = self._value.clone()
        for k in range(3):
            there = hands.state[:, k] >= 0
            state, action = hands.state[there, k], hands.action[there, k]
            signal = own[there, k] - before[state]
            onehot = torch.nn.functional.one_hot(action, 2).to(pi)
            g.index_add_(0, state, (onehot - pi[state]) * signal[:, None] / n)
            visits = torch.bincount(state, minlength=len(pi)).to(pi)
            g += (visits / n)[:, None] * rules.of_values(log_pi, -tau * ratio)
            error = torch.zeros_like(self._value).index_add_(0, state, signal)
            self._value += 0.1 * error / visits.clamp_min(1)
        return g

    def _step(self, log_pi: Tensor, hands: Hands, tau: float) -> Tensor:
        """`directions` in the chosen geometry, [12, 2]."""
        g = self.directions(log_pi, hands, tau)
        if self.geometry == "gradient":
            return g
        visited = hands.state[hands.state >= 0]
        reach = torch.bincount(visited, minlength=len(g)).to(g) / len(hands.bit)
        step = g / reach.clamp_min(RARE_STATE)[:, None] / log_pi.exp().clamp_min(RARE_ACTION)
        return step - step.mean(-1, keepdim=True)

    def example(self, run: Pupil, rows: Tensor) -> tuple[Tensor, Tensor, AbstractCost]:
        luck, value = self._luck.get_state(), self._value.clone()
        log_pi = self._policy(run)
        hands = play(log_pi[:, 1].exp(), max(len(rows), 1000), self._luck)
        g = self._step(log_pi, hands, self.tau_end)
        self._luck.set_state(luck)
        self._value = value
        return self._x, -g.to(self._x), self.cost

    def _policy(self, run: Pupil) -> Tensor:
        free = free_phase(run.field, self._x, settling=run.estimator.settling)
        return torch.log_softmax(free.s[:, run.field.output].double().cpu(), -1)

    def measured(self, run: Pupil) -> dict[str, float]:
        rows = torch.arange(run.config.check_rows)
        return {
            "exploitability": exploitability(self._policy(run)[:, 1].exp()),
            "gradient_cosine": gradient_cosine(run, *self.example(run, rows)),
            "votes": float(self.cast),
        }

    def summary(self, last: Mapping[str, float], **common: Any) -> Summary:
        return Summary(last["exploitability"], last["gradient_cosine"], common["epochs"])

    def generators(self) -> dict[str, torch.Generator]:
        return {"votes": self._luck}

    def state_dict(self) -> dict[str, Any]:
        return {"cast": self.cast, "steps": self.steps, "value": self._value}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.cast, self.steps = int(state["cast"]), int(state["steps"])
        self._value = state["value"].clone()
