"""The benchmarked methods, with the constants of their papers and the alternatives to try.

`anchor_every` and `reference_every` are fractions of a run: 1/3 means three rounds. The papers'
learning rates are for other models, so all methods share one. Their numbers of rounds, eta tau,
mixture weights and bonuses carry over. Where a paper gives no number that carries over, we use our
own (`own`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

RATE = 0.01
RATES = (0.01, 0.03)
TAU = 0.1
PLAIN = ("sppo", "dno", "onpo", "mnpo", "comal", "moving-magnet")


@dataclass(frozen=True)
class Arm:
    """A method as one row of the table.

    Attributes:
        objective: its name in `nlhf.language.objectives`, or "published" for TRL's loss.
        paper: its published settings.
        tried: further values by setting, of which the best are used.
        answers: samples and opponents per step and prompt.
        source: where the constants come from.
    """

    objective: str
    paper: Mapping[str, Any] = field(default_factory=dict)
    tried: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    answers: tuple[int, int | None] = (8, None)
    source: str = "own"

    def grid(self) -> list[dict[str, Any]]:
        """Settings to try: learning rates with the paper's settings, then with each other one."""
        choices = [{}, *({k: v} for k, values in self.tried.items() for v in values)]
        return [
            {**self.paper, **change, "learning_rate": rate}
            for change, rate in itertools.product(choices, RATES)
        ]


_PG = (4, 4)
_ETAS = {"eta": (1.0,), "anchor_every": (1 / 20, 1 / 6)}
ARMS: dict[str, Arm] = {
    "nash-md": Arm("nash-md", {"mixture": 0.125}, {"mixture": ("falling",)}, _PG, "Munos, 7.2"),
    "nash-ema": Arm("nash-ema", {"ema_rate": 0.05}, {"ema_rate": (0.2,)}, _PG),
    "self-play": Arm("self-play", {}, {}, _PG, "Munos, 7.2"),
    "best-response": Arm("best-response", {}, {}, _PG, "Munos, 7.2"),
    "extragradient": Arm("extragradient", {}, {}, _PG, "Zhou"),
    "rlhf": Arm("rlhf", {}, {}, (8, None), "Munos, 7.2"),
    "online-ipo": Arm("online-ipo", {"mixture": 0.0}, {"mixture": (0.125,)}, source="Calandriello"),
    "inpo": Arm("inpo", {"eta": 1 / (3 * TAU), "anchor_every": 1 / 3}, _ETAS, source="Zhang 2024"),
    "magnetic": Arm("magnetic", {"eta": 1 / (3 * TAU), "anchor_every": 1 / 10}, _ETAS),
    "mirror-prox": Arm("mirror-prox", {"eta": 2.0, "anchor_every": 1 / 10}, _ETAS),
    "sppo": Arm("sppo", {"eta": 1000.0, "anchor_every": 1 / 3}, _ETAS, source="Wu 2024"),
    "dno": Arm("dno", {"eta": 10.0, "anchor_every": 1 / 3}, _ETAS, (4, 4), "Rosset"),
    "onpo": Arm("onpo", {"eta": 1 / (3 * TAU), "anchor_every": 1 / 6}, _ETAS),
    "mnpo": Arm("mnpo", {"eta": 2.0, "anchor_every": 1 / 3, "players": 3}, _ETAS, (4, None)),
    "comal": Arm(
        "comal",
        {"eta": 1 / (3 * TAU), "anchor_every": 1 / 18, "reference_every": 1 / 3},
        {"reference_every": (1 / 6, 1 / 10)},
        source="Liu",
    ),
    "moving-magnet": Arm(
        "magnetic",
        {"eta": 1 / (3 * TAU), "anchor_every": 1 / 18, "reference_every": 1 / 6},
        {"reference_every": (1 / 3, 1 / 10)},
    ),
    "xpo": Arm("xpo", {"alpha": 5e-6, "anchor_every": 1 / 3}, {"alpha": (0.01,)}, _PG, "Xie"),
    "stackelberg": Arm("stackelberg", {}, {}, _PG),
    "trl-full": Arm("published", {"mixture": 0.5}, {"mixture": (0.125,)}, _PG, "TRL 1.13"),
    "trl-lora": Arm("published", {"mixture": 0.5, "lora": True}, {}, _PG, "TRL 1.13"),
}
