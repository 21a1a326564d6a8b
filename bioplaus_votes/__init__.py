"""Networks that learn from votes, built on both engines.

Names are imported on first use, so that `import bioplaus_votes` costs little more than importing
torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bioplaus_votes.judges import (
        AbstractJudge,
        Stream,
        TableJudge,
        VoteJudge,
        cyclic,
        stream_of,
        symmetrised,
    )
    from bioplaus_votes.objectives import (
        RLHF,
        AbstractVoting,
        BestResponse,
        Extragradient,
        NashEMA,
        NashMD,
        SelfPlay,
    )
    from bioplaus_votes.policy import Policy

_HOMES = {
    "bioplaus_votes.judges": (
        "AbstractJudge Stream TableJudge VoteJudge cyclic stream_of symmetrised"
    ),
    "bioplaus_votes.objectives": (
        "RLHF AbstractVoting BestResponse Extragradient NashEMA NashMD SelfPlay"
    ),
    "bioplaus_votes.policy": "Policy",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = [
    "RLHF",
    "AbstractJudge",
    "AbstractVoting",
    "BestResponse",
    "Extragradient",
    "NashEMA",
    "NashMD",
    "Policy",
    "SelfPlay",
    "Stream",
    "TableJudge",
    "VoteJudge",
    "cyclic",
    "stream_of",
    "symmetrised",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(importlib.import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
