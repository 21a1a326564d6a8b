"""The config of `eqprop-nash`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field

from bioplaus.config import DataConfig, EqpropConfig, LeakyConfig
from bioplaus.config.choices import (
    ESTIMATOR_CONFIGS,
    NETWORK_CONFIGS,
    AdamConfig,
    BrianPhaseConfig,
    EstimatorConfig,
    MomentumConfig,
    OptimizerConfig,
    PhaseConfig,
    SgdConfig,
    TorchPhaseConfig,
    estimator_config,
)
from bioplaus.config.code_network import field_config
from bioplaus.config.fields import ActivationName, Count, NonNegative, Positive
from bioplaus.config.network import NetworkConfig
from bioplaus.estimators import AsymEP
from bioplaus.fields.leaky import Coordinates
from bioplaus.solvers import SOLVERS
from bioplaus_votes.objectives import ALGORITHMS
from bridge.config import Others, choice, one_of, owned
from bridge.errors import InputError
from bridge.usercode import names_code

AUTO = "auto"
CONTEXTS = "contexts"
VOTES = "votes:"

Share = Annotated[float, Field(ge=0, le=1)]


def _judge(name: str) -> str:
    if name == "cyclic" or (name.startswith(VOTES) and len(name) > len(VOTES)):
        return name
    if name.startswith(VOTES) or not names_code(name):
        raise InputError(
            f"judge={name!r} is unknown; use cyclic, votes:FILE, votes:sound-quality, "
            "votes:roshambo, or module:function"
        )
    return name


def _algorithm(name: str) -> str:
    if name not in ALGORITHMS:
        raise InputError(f"algorithm={name!r} is unknown; use one of {', '.join(ALGORITHMS)}")
    return name


class InputConfig(DataConfig):
    """What the network sees; its labels are the contexts.

    Attributes:
        dataset: what the network sees: auto (MNIST; with votes:FILE the contexts themselves),
            contexts (a separate input for each), or anything that eqprop-run takes.
    """

    dataset: str = AUTO


SLOW_FEEDBACK = {"feedback": 0.1}
"""Default multipliers of the learning rate: with weak and slow feedback free phases settle."""


class SmoothConfig(LeakyConfig):
    """Leaky integrators of smooth units: clipped ones die where answers are given up."""

    hidden: tuple[Count, ...] = (128, 64)
    activation: ActivationName = "tanh"
    coordinates: Coordinates = "membrane"
    feedback_gain: Positive = 0.2


class FinePhaseConfig(TorchPhaseConfig):
    """Phases that a solver settles, ten times as finely as those of `eqprop-run`."""

    tolerance: NonNegative = 1e-4


FINE_SOLVERS = {
    name: owned(kind, FinePhaseConfig, "solver", name) for name, kind in SOLVERS.items()
}


NUDGES = ESTIMATOR_CONFIGS | {
    # a nudge of 0.5 drives inputs whose loop is nearly unstable out of the linear range
    AsymEP.name: owned(AsymEP(beta=0.2), EstimatorConfig, "name", AsymEP.name, leave_out=("gate",))
}
"""The estimators; `asym-ep` nudges less than half as strongly as in `eqprop-run`."""


class VotingAdamConfig(AdamConfig):
    """Steps of the size of the learning rate, in the output layer as in the others."""

    learning_rate: Positive = 0.0015
    rates: dict[str, NonNegative] = Field(default_factory=SLOW_FEEDBACK.copy)


class VotingSgdConfig(SgdConfig):
    """Plain steps along the update."""

    rates: dict[str, NonNegative] = Field(default_factory=SLOW_FEEDBACK.copy)


class VotingMomentumConfig(MomentumConfig):
    """Steps along a decaying sum of updates."""

    learning_rate: Positive = 0.1
    rates: dict[str, NonNegative] = Field(default_factory=SLOW_FEEDBACK.copy)


if TYPE_CHECKING:
    EstimatorChoice = EstimatorConfig
    NetworkChoice = NetworkConfig
    PhaseChoice = PhaseConfig
    OptimizerChoice = OptimizerConfig
else:
    EstimatorChoice = choice(
        "name",
        AsymEP.name,
        NUDGES,
        Others("name", AsymEP.name, EstimatorConfig, estimator_config),
    )
    NetworkChoice = choice(
        "field",
        "leaky",
        NETWORK_CONFIGS | {"leaky": SmoothConfig},
        Others("field", "leaky", NetworkConfig, field_config),
    )
    PhaseChoice = choice(
        "engine",
        "torch",
        {"torch": choice("solver", "sweeps", FINE_SOLVERS), "brian2": BrianPhaseConfig},
    )
    OptimizerChoice = choice(
        "method",
        "adam",
        {"adam": VotingAdamConfig, "sgd": VotingSgdConfig, "momentum": VotingMomentumConfig},
    )


class VotingConfig(EqpropConfig):
    """A network that learns from votes. Labels of the data are the contexts.

    Attributes:
        judge: the judge: cyclic, votes:FILE, votes:sound-quality, votes:roshambo, or
            module:function.
        symmetrise: whether to use (P + 1 - P^T) / 2 for a judge whose two orders do not sum to 1.
        smoothing: pseudo-votes added to each side of every compared pair.
        algorithm: the algorithm, which determines the opponent of the policy.
        tau: weight of KL(policy, reference).
        tau_start: tau at the first update; it falls geometrically and reaches `tau` halfway. If not
            set, five times tau, and tau itself for streamed votes.
        mixture: weight of the reference in the opponent of nash-md.
        ema_rate: rate at which the moving average of nash-ema follows the weights, per step.
        reference: probabilities of the reference policy, one per answer; uniform if not set.
        votes: number of votes for each input and update; 0 uses exact directions. If not set, the
            votes of a file are streamed, each used once, and other judges give exact directions.
        baseline: what is subtracted from a vote. If not set, leave-one-out for two or more votes,
            and learned for one.
        penalty: whether the divergence is taken over all answers, or only at the judged answer.
        geometry: whether to follow g, or the natural gradient g / pi, with which a step is one of
            mirror descent. If not set, natural for streamed votes, and gradient otherwise.
        micro_shards: always 1: the votes of a batch belong together.
    """

    data: InputConfig = InputConfig()  # pyright: ignore[reportIncompatibleVariableOverride]
    network: NetworkChoice = SmoothConfig()
    phases: PhaseChoice = FINE_SOLVERS["sweeps"]()
    estimator: EstimatorChoice = NUDGES[AsymEP.name]()
    optimizer: OptimizerChoice = VotingAdamConfig()
    judge: Annotated[str, AfterValidator(_judge)] = "cyclic"
    symmetrise: bool = False
    smoothing: Annotated[float, Field(ge=0)] = 0.0
    algorithm: Annotated[str, one_of(ALGORITHMS), AfterValidator(_algorithm)] = "nash-md"
    tau: Annotated[float, Field(gt=0)] = 0.05
    tau_start: Positive | None = None
    mixture: Share = 0.1
    ema_rate: Annotated[float, Field(gt=0, le=1)] = 0.01
    reference: tuple[Share, ...] | None = None
    votes: Annotated[int, Field(ge=0)] | None = None
    baseline: Literal["none", "leave-one-out", "learned"] | None = None
    penalty: Literal["summed", "sampled"] = "summed"
    geometry: Literal["gradient", "natural"] | None = None
    micro_shards: Literal[1] = 1  # pyright: ignore[reportIncompatibleVariableOverride]

    def idle(self) -> dict[str, str]:
        found = super().idle()
        found.pop("check_rows", None)  # every epoch compares the update with autograd's on them
        found["estimator.cost"] = "with votes, which give the slope at the outputs themselves"
        for key in ("label_smoothing", "test_mirrored"):
            found[key] = "with votes, which are no targets"
        for key, algorithm in (("mixture", "nash-md"), ("ema_rate", "nash-ema")):
            if self.algorithm != algorithm:
                found[key] = (
                    f"with algorithm={self.algorithm}; it is read with algorithm={algorithm}"
                )
        if not self.votes:
            why = "without votes that are asked for; give votes of 1 or more"
            found |= {"baseline": why, "penalty": why}
        if not self.judge.startswith(VOTES):
            found["smoothing"] = f"with judge={self.judge}; it is read with {VOTES}FILE"
        return found

    def outputs(self) -> None:
        """The number of outputs: that of the judge's answers, which the config does not tell."""
        return

    def algorithm_settings(self) -> dict[str, Any]:
        """What the algorithm has of its own."""
        own = {"nash-md": {"mixture": self.mixture}, "nash-ema": {"rate": self.ema_rate}}
        return own.get(self.algorithm, {})
