"""Find the config key that a user means by an option that a command lacks."""

from __future__ import annotations

import importlib

CONFIGS = {
    "eqprop-run": ("bioplaus.config:EqpropConfig",),
    "eqprop-nash": ("bioplaus_votes.config:VotingConfig",),
    "check": ("bioplaus.config:DataCheckConfig",),
    "gradcheck": ("bioplaus.config:GradcheckConfig",),
    "nash-md": ("nlhf.config:NashConfig", "nlhf.config:LanguageConfig"),
    "preference-train": ("nlhf.config:PreferenceConfig",),
    "warm-start": ("nlhf.config:WarmStartConfig",),
    "tournament": ("nlhf.config:TournamentConfig",),
}
"""The configs of each command that has --set."""


def key_for(command: str, option: str) -> str | None:
    """Find the key that an unknown option such as --lr probably means; None if there is none."""
    from bridge.config import valid_keys
    from bridge.spelling import nearest_key

    key = option.lstrip("-").replace("-", "_")
    for place in CONFIGS.get(command, ()):
        module, _, name = place.partition(":")
        keys = valid_keys(getattr(importlib.import_module(module), name))
        found = nearest_key(key, keys, cutoff=0.8)
        if found:
            return found
    return None
