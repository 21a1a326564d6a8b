"""The sections of reports on this program's logs, by the names of the columns."""

from __future__ import annotations

from bridge.report.layout import Layout, Topic

_WHOLE = ("parameter", ("feedforward", "all"))
"""The rows of a whole estimate: the copies that some rules make of their feedforward updates are no
estimates."""

LAYOUT = Layout(
    topics=(
        Topic("Exploitability", ("exploitability",), apart="context"),
        Topic("Exploitability", ("certificate", "kl_to_equilibrium", "kl_from_equilibrium")),
        Topic("Learning curves"),
        Topic(
            "Gradients against the true one",
            ("angle_degrees", "relative_error", "sign_agreement", "norm_ratio"),
            of="estimator",
            over="beta",
            only=_WHOLE,
        ),
        Topic(
            "Asymmetry",
            ("asymmetry*", "alignment*", "weight_angle*", "spectral_radius*"),
            leave_out=("*_error",),
            only=_WHOLE,
            same="estimator",
        ),
    ),
    counters=("epoch", "seconds", "context"),
    keys=("beta", "context"),
    averaged=("context",),
)
