"""The headline metric of each command's runs, and what their tables rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from bridge.headline import Contest, Headline, first_of

HEADLINES: Mapping[str, tuple[Headline, ...]] = {
    "eqprop-run": (Headline(metric="epochs/test_error", unit="%", over="epoch"),),
    "eqprop-nash": (Headline(metric="epochs/exploitability", over="epoch"),),
    "nash-md": (
        Headline(metric="metrics/exploitability"),
        Headline(metric="exact/exploitability"),
        Headline(metric="evaluation/win_rate", better="higher"),
        Headline(metric="metrics/rewards_probabilities", better="higher", label="win rate"),
    ),
    "preference-train": (
        Headline(metric="epochs/eval_accuracy", better="higher", label="accuracy", over="epoch"),
        Headline(metric="epochs/accuracy", better="higher", label="train accuracy", over="epoch"),
    ),
    "warm-start": (
        Headline(metric="held_out/eval_loss", label="held-out loss", over="epoch"),
        Headline(metric="metrics/loss", label="train loss"),
    ),
    "gradcheck": (
        Headline(
            metric="gradients/angle_degrees",
            unit="degrees",
            label="smallest angle",
            where={"parameter": "all"},
            of_rows="smallest",
        ),
    ),
    "rank": (
        Headline(metric="verdicts/probability", better="higher", label="verdict's probability"),
        Headline(
            metric="metrics/first",
            better="higher",
            label="winner's probability",
            of_rows="largest",
        ),
        Headline(
            metric="metrics/lottery",
            better="higher",
            label="largest lottery weight",
            of_rows="largest",
        ),
    ),
    "tournament": (
        Headline(
            metric="policies/mean",
            better="higher",
            label="best mean preference",
            of_rows="largest",
        ),
    ),
}
"""Headlines by command, in order of preference: a log has the first whose column it has.

Networks define their own, see `AbstractObjective.headline`; logs of older programs have none.
"""
ESTIMATORS = Contest(
    of="estimator",
    by="angle_degrees",
    apart=("nudging", "beta", "coordinates"),
    valid="converged",
    part="parameter",
    # some rules give the feedback weights a copy of the feedforward update, which is not an
    # estimate of their gradient: over "all", the copies would count as errors of the rule
    wholes=("feedforward", "all"),
    title="gradient estimates by angle to the true gradient",
    by_title="angle (degrees)",
    counted="checks",
    left_out="unconverged",
)
"""Gradient estimates, ranked by their angle to the true gradient."""
HELD = ("epochs/eval_accuracy", "held_out/eval_loss")
"""Metrics of held-out data, which a run without such data does not measure."""
RESAMPLED = ("verdicts/probability", "metrics/first")
"""Metrics of a ranking that are unknown without resampling."""


def headline_for(
    command: str, tables: Mapping[str, type], without: tuple[str, ...] = ()
) -> Headline | None:
    """Give the headline of a run that is about to open its log.

    Args:
        command: the command's name.
        tables: the record types of its tables, by name.
        without: metrics that this run does not measure, though its tables have them.
    """
    columns = {name: [field.name for field in fields(record)] for name, record in tables.items()}
    return first_of((h for h in HEADLINES.get(command, ()) if h.metric not in without), columns)
