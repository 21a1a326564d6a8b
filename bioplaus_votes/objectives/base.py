"""The base of objectives based on preferences: from the free state's policy to the nudge."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from bioplaus.costs import AbstractCost
from bioplaus.data import Dataset
from bioplaus.fields import VectorField
from bioplaus.measuring import fetch_measures
from bioplaus.phases import free_phase
from bioplaus.sharding import Step
from bioplaus.training import AbstractObjective
from bioplaus.training.objective import Pupil
from bioplaus_votes import rules
from bioplaus_votes.judges import AbstractJudge, Stream
from bioplaus_votes.measuring import gradient_cosine, measure_games, nudged, policies_of_tests
from bioplaus_votes.objectives.asking import as_judge, fitting_judge, reference_of, require_settings
from bioplaus_votes.objectives.baselines import Baseline
from bioplaus_votes.objectives.view import Summary, View
from bioplaus_votes.solved import Solved, games_of, solve_games
from bridge.errors import InputError
from bridge.headline import Headline
from bridge.schedules import Schedule
from bridge.seeding import generator


class AbstractVoting(AbstractObjective):
    """Move the outputs along the preferences of a judge, against an opponent.

    Let z be the outputs of the free state, pi = softmax(z) and mu a reference. The direction g of
    `bioplaus_votes.rules` is minus the slope of the cost in the nudged phases.
    """

    step_measures = ("train_exploitability", "win_rate", "entropy")
    epoch_measures = (
        "exploitability",
        "regularised_gap",
        "kl_to_equilibrium",
        "support_mass",
        "gradient_cosine",
        "votes",
    )

    def __init__(
        self,
        judge: Any,
        *,
        tau: float = 0.05,
        tau_start: float | None = None,
        reference: Any = None,
        votes: int = 0,
        baseline: str | None = None,
        penalty: str = "summed",
        geometry: str | None = None,
        stream: Stream | None = None,
        symmetrise: bool = False,
    ) -> None:
        """Take the judge and the settings.

        Args:
            judge: an `AbstractJudge`; a table P [K, K] or [C, K, K]; or a function, see
                `judge_of_function`. Contexts are the labels of the data.
            tau: weight of the KL to the reference, > 0.
            tau_start: the weight at the first update, > 0; it falls geometrically and reaches tau
                halfway. None means five times tau, and tau itself for a stream.
            reference: mu, probabilities [K] or [C, K]; uniform if None.
            votes: number of votes per row and update; 0 uses the exact direction.
            baseline: baseline of votes: none, leave-one-out or learned. None means leave-one-out
                for two or more votes, and learned for one.
            penalty: with votes, `summed` computes -tau log pi / mu as a sum over all answers, which
                the network knows; `sampled` computes it for the judged answer only.
            geometry: `gradient` follows g, `natural` follows g / pi, see `rules.natural`. None
                means natural for a stream, whose answers others have chosen, and gradient
                otherwise.
            stream: existing votes, one for each row of the data, used instead of asking.
            symmetrise: make a judge antisymmetric if it is not.

        Raises:
            InputError: a value is out of range.
        """
        require_settings(tau, tau_start, votes, baseline, penalty, geometry)
        judge = as_judge(judge, symmetrise)
        self.judge: AbstractJudge = cast(Any, judge)  # `check` converts a function to a judge
        self.tau, self.votes = float(tau), votes
        self.tau_start = float(tau_start or (rules.START * tau if stream is None else tau))
        self.baseline = baseline or ("leave-one-out" if votes > 1 else "learned")
        self.penalty, self.stream, self.reference = penalty, stream, reference
        self.geometry = geometry or ("gradient" if stream is None else "natural")
        self._symmetrise = symmetrise
        self.cast = 0
        self.solved: Solved | None = None

    # -- defined by an algorithm ---------------------------------------------------------------

    @abstractmethod
    def opponent(self, run: Pupil, view: View) -> Tensor:
        """Log-probabilities of the policy that answers are compared with, [B, K]."""

    # -- called by the training loop -----------------------------------------------------------

    @property
    def settings(self) -> Mapping[str, Any]:
        own = {"tau": self.tau, "tau_start": self.tau_start}
        own |= {"votes": self.votes, "geometry": self.geometry}
        judge = self.judge.name if isinstance(self.judge, AbstractJudge) else repr(self.judge)
        found = {"name": self.name, "judge": judge, **own}
        return found | ({"baseline": self.baseline, "penalty": self.penalty} if self.votes else {})

    @property
    def code(self) -> Mapping[str, Any]:
        function = getattr(self.judge, "function", None)
        return {} if function is None else {"judge": function}

    def courses(self, steps: int) -> Mapping[str, Schedule]:
        if self.tau_start == self.tau:
            return {}
        name = f"tau_start={self.tau_start:g}"
        return {name: rules.weight_at(self.tau_start, self.tau, steps)}

    def check(self, field: VectorField, dataset: Dataset) -> None:
        self.judge = fitting_judge(self.judge, field, dataset, self._symmetrise)
        reference_of(self.reference, max(len(self.judge.contexts), 1), field.n_output)
        if not self.judge.has_table and self.stream is None and self.votes == 0:
            raise InputError(
                f"judge {self.judge.name} can only be asked, and votes=0 takes exact directions; "
                "give --votes N (votes=N), 1 or more"
            )
        if self.stream is not None and len(self.stream) != len(dataset.train):
            raise InputError(
                f"stream has {len(self.stream)} votes for {len(dataset.train)} rows of data; give "
                "a row for each vote"
            )

    def begin(self, run: Pupil) -> None:
        judge, k = self.judge, run.field.n_output
        self._luck = generator(run.config.seed, "votes", run.field.device)
        self._baseline = Baseline(self.baseline, run.field)
        self._log_mu = reference_of(self.reference, max(len(judge.contexts), 1), k).to(
            run.field.device, run.field.dtype
        )
        self.cast = 0
        shown = run.dataset.shown
        self.solved = None
        if judge.has_table:
            P, self._game = games_of(judge, shown.targets, shown.inputs.flatten(1))
            mu = self._log_mu.double().cpu()
            if len(mu) > 1:  # one per context
                mu = mu[: len(P)] if judge.by_context else mu[shown.targets.cpu()]
            self.solved = solve_games(P.cpu(), mu.expand(len(P), k), self.tau)

    def estimate(self, run: Pupil, rows: Tensor) -> Step:
        view = self._view(run, run.more.inputs(rows), rows)
        g, own = self.direction(run, view)
        estimate = nudged(run, view.x, g, free=view.free)
        return Step(estimate.updates, fetch_measures(estimate, own))

    def direction(self, run: Pupil, view: View) -> tuple[Tensor, dict[str, Tensor]]:
        """g [B, K], and the step's measures."""
        log_other = self.opponent(run, view)
        P = self.judge.table(view.context, view.x) if self.judge.has_table else None
        if self.stream is not None:
            g, wins = self._streamed(view, log_other)
        elif self.votes:
            g, wins = self._voted(view, log_other)
        else:
            assert P is not None
            g = rules.exact(view.log_pi, P, log_other, view.log_mu, view.tau)
            wins = ((P @ log_other.exp()[..., None])[..., 0] * view.log_pi.exp()).sum(-1).mean()
        return self.shaped(g, view), self.measures_of(view, P, wins)

    def shaped(self, g: Tensor, view: View) -> Tensor:
        """g in the chosen geometry, [B, K]."""
        return rules.natural(g, view.log_pi) if self.geometry == "natural" else g

    def measures_of(self, view: View, P: Tensor | None, wins: Tensor) -> dict[str, Tensor]:
        """The `step_measures`."""
        pi = view.log_pi.exp()
        spread = -(pi * torch.where(pi > 0, view.log_pi, 0.0)).sum(-1).mean()
        found = pi.new_tensor(torch.nan)
        if P is not None:
            played = torch.isfinite(view.log_mu)
            gain = (P @ pi[..., None])[..., 0].masked_fill(~played, 0.0)
            found = gain.amax(-1).mean() - 0.5
        return {"train_exploitability": found, "win_rate": wins, "entropy": spread}

    def exact_direction(self, run: Pupil, view: View) -> Tensor:
        """g without votes, if there is a table; otherwise g from one vote per row."""
        if not self.judge.has_table:
            return self.direction(run, view)[0]
        P = self.judge.table(view.context, view.x)
        g = rules.exact(view.log_pi, P, self.opponent(run, view), view.log_mu, view.tau)
        return self.shaped(g, view)

    def example(self, run: Pupil, rows: Tensor) -> tuple[Tensor, Tensor, AbstractCost]:
        view = self._view(run, run.dataset.train.inputs[rows], rows)
        luck = self._luck.get_state()
        cast, learnt = self.cast, self._baseline.w.clone()
        slope = -self.exact_direction(run, view)
        # the run continues as if this had not been called
        self._luck.set_state(luck)
        self.cast, self._baseline.w = cast, learnt
        return view.x, slope, self.cost

    def measured(self, run: Pupil) -> dict[str, float]:
        found = dict.fromkeys(self.epoch_measures, math.nan) | {"votes": float(self.cast)}
        rows = torch.arange(min(run.config.check_rows, len(run.dataset.train)))
        found["gradient_cosine"] = gradient_cosine(run, *self.example(run, rows))
        if self.solved is not None:
            found |= measure_games(run, self.solved, self._game, self._log_mu)
        return found

    def headline(self, run: Pupil) -> Headline | None:
        if self.judge.has_table:  # a log is opened before the games are solved
            return super().headline(run)
        return Headline(metric="epochs/win_rate", better="higher", over="epoch")

    def summary(self, last: Mapping[str, float], **common: Any) -> Summary:
        bounds = {"equilibrium": math.nan, "rlhf": math.nan, "uniform": math.nan}
        if self.solved is not None:
            bounds = {k: float(v[self._game].mean()) for k, v in self.solved.bounds.items()}
        names = ("exploitability", "regularised_gap", "kl_to_equilibrium", "gradient_cosine")
        return Summary(
            **{f"{name}_exploitability": value for name, value in bounds.items()},
            **{name: last[name] for name in names},
            epochs=common["epochs"],
        )

    def of_contexts(self, run: Pupil) -> list[dict[str, Any]]:
        """Results in each context; empty if each input has its own game.

        `certificate` bounds KL(computed equilibrium || equilibrium), rounding included. `kl_bound`
        is the mean of f(pi) / tau, which bounds the network's KL(pi || equilibrium) without
        knowledge of the equilibrium.
        """
        if self.solved is None or not self.judge.by_context:
            return []
        solved, log_pi = self.solved, policies_of_tests(run, self._log_mu)
        values, known = solved.measured(log_pi, self._game), solved.bounds["equilibrium"]
        found = []
        for game in self._game.unique().tolist():
            own = self._game == game
            mean = {name: float(value[own].mean()) for name, value in values.items()}
            found.append(
                {
                    "context": self.judge.contexts[game],
                    "inputs": int(own.sum()),
                    **mean,
                    "kl_bound": mean["regularised_gap"] / (2 * self.tau),
                    "of_equilibrium": float(known[game]),
                    "certificate": float(solved.certificate[game]),
                    "policy": log_pi[own].exp().mean(0).tolist(),
                    "equilibrium": solved.log_star[game].exp().tolist(),
                }
            )
        return found

    def generators(self) -> dict[str, torch.Generator]:
        return {"votes": self._luck}

    def state_dict(self) -> dict[str, Any]:
        return {"cast": self.cast, "baseline": self._baseline.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.cast = int(state["cast"])
        self._baseline.load_state_dict(state["baseline"])

    # -- votes ---------------------------------------------------------------------------------

    def _view(self, run: Pupil, x: Tensor, rows: Tensor) -> View:
        return self.view_of(run, x, run.dataset.train.targets[rows], rows)

    def view_of(self, run: Pupil, x: Tensor, context: Tensor, rows: Tensor) -> View:
        """Settle the free phase of some inputs, and return the policy with it."""
        free = free_phase(run.field, x, settling=run.estimator.settling)
        log_mu = self._log_mu[context] if len(self._log_mu) > 1 else self._log_mu.expand(len(x), -1)
        log_pi = rules.log_policy(free.s[:, run.field.output], log_mu)
        return View(x, context, rows, free, log_pi, log_mu, self.tau_at(run))

    def tau_at(self, run: Pupil) -> float:
        """The weight of the KL at the next update."""
        config = run.config
        steps = config.epochs * -(-len(run.dataset.train) // config.batch_size)
        return rules.weight_at(self.tau_start, self.tau, steps)(run.optimizer.steps)

    def _voted(self, view: View, log_other: Tensor) -> tuple[Tensor, Tensor]:
        """g from `votes` answers per row, each against one of the opponent's; and the win share."""
        draw = {"num_samples": self.votes, "replacement": True, "generator": self._luck}
        y = torch.multinomial(view.log_pi.exp(), **draw)
        other = torch.multinomial(log_other.exp(), **draw)
        bits = self.judge.vote(view.context, view.x, y, other, self._luck).to(view.log_pi.dtype)
        self.cast += y.numel()
        signals, ratio = [bits - 0.5, 0.5 - bits], rules.log_ratio(view.log_pi, view.log_mu)
        if self.penalty == "sampled":
            signals = [
                signal - view.tau * ratio.gather(-1, answer)
                for signal, answer in zip(signals, (y, other), strict=True)
            ]
        baseline = self._baseline(view.free.s, signals[0])
        pair = (y, other, *(signal - baseline for signal in signals))
        g = rules.of_comparisons(view.log_pi, log_other, *pair)
        if self.penalty == "summed":
            g = g + rules.of_values(view.log_pi, -view.tau * ratio)
        return g, bits.mean()

    def _streamed(self, view: View, log_other: Tensor) -> tuple[Tensor, Tensor]:
        """g from the existing vote on each row."""
        votes, rows = self.stream, view.rows.cpu()
        assert votes is not None
        like, device = view.log_pi.dtype, view.log_pi.device
        first, second = votes.first[rows].to(device), votes.second[rows].to(device)
        bit, share = votes.bit[rows].to(device, like), votes.share[rows].to(device, like)
        pair = (first, second, bit, share)
        self.cast += len(rows)
        g = rules.of_pair(view.log_pi, log_other, *pair, view.log_mu, view.tau)
        return g, bit.mean()

    def __repr__(self) -> str:
        shown = ", ".join(f"{k}={v!r}" for k, v in self.settings.items() if k != "name")
        return f"{type(self).__name__}({shown})"
