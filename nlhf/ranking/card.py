"""The data card: facts about the data that was read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nlhf.preferences.base import Preferences
from nlhf.preferences.battles import Battles
from nlhf.ranking.bradley_terry import islands
from nlhf.ranking.plan import Plan
from nlhf.ranking.results import ContextRanking

NAMED = 20
"""Number of items that are named; beyond that only their count is given."""


def card(
    battles: Battles,
    plan: Plan,
    found: Sequence[ContextRanking],
    cluster: str | None,
) -> dict[str, Any]:
    """The facts about the data, one per key."""
    last = found[-1]
    own = found[: -1 if plan.pooled else None]
    pairs = [len(c.items) * (len(c.items) - 1) // 2 for c in found]
    # for all items together, or for each context if they are not pooled
    never = [len(c.never_compared) for c in found]
    whole = plan.pooled or len(own) == 1
    counted = battles.shares is None
    return {
        "name": battles.name,
        "layout": battles.layout,
        "battles": battles.total if counted else None,
        "ties": battles.ties if counted else None,
        "items": len(battles.items),
        "contexts": len(own),
        "pairs": pairs[-1] if whole else sum(pairs),
        "never_compared": never[-1] if whole else sum(never),
        "islands": max(len(c.islands) for c in (found[-1:] if whole else own)),
        "cluster": cluster,
        "clusters": last.clusters,
        "notes": [*battles.notes, *plan.notes],
    }


def card_facts(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts in the words of a data card, in order of display."""
    return {
        "layout": facts["layout"],
        "battles": facts["battles"],
        "ties": facts["ties"],
        "items": facts["items"],
        "contexts": facts["contexts"] if facts["contexts"] > 1 else None,
        "pairs": facts["pairs"],
        "pairs never compared": facts["never_compared"],
        "sets that no battle joins": facts["islands"] if facts["islands"] > 1 else None,
        "resampled as a whole": facts["cluster"],
        "clusters": facts["clusters"],
    }


def game_facts(preferences: Preferences, battles: Battles | None) -> dict[str, Any]:
    """The facts about the games of all contexts, in the words of a data card.

    Args:
        preferences: the games.
        battles: the battles they were made from; None for a built-in game.
    """
    contexts, items = preferences.contexts, preferences.actions
    one = len(contexts) == 1
    alone = (~preferences.present).nonzero().tolist()
    apart = [1]
    if preferences.counts is not None:
        tables = zip(preferences.counts.numpy(), preferences.present.numpy(), strict=True)
        apart = [len(islands(votes[np.ix_(there, there)])) for votes, there in tables]
    fought = battles if battles is not None and battles.shares is None else None
    never = [
        f"{a} and {b}" if one else f"{context}: {a} and {b}"
        for context, a, b in preferences.never_compared
    ]
    facts = card_facts(
        {
            "layout": "built-in game" if battles is None else battles.layout,
            "battles": None if fought is None else fought.total,
            "ties": None if fought is None else fought.ties,
            "items": len(items),
            "contexts": len(contexts),
            "pairs": len(items) * (len(items) - 1) // 2,
            "never_compared": len(never),
            "islands": max(apart),
            "cluster": None,
            "clusters": None,
        }
    )
    facts = {name: value for name, value in facts.items() if value is not None}
    return facts | {
        "never compared": never[:NAMED],
        "items without a vote": len(alone),
        "without a vote": [
            items[i] if one else f"{contexts[c]}: {items[i]}" for c, i in alone[:NAMED]
        ],
    }
