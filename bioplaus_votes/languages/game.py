"""Languages small enough to enumerate: V tokens, texts of length L, and preferences over texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus_votes.judges import cyclic, require_fair, symmetrised
from bioplaus_votes.solved import exploitability
from bridge.errors import InputError
from nlhf.language.enumeration import MOST_ANSWERS
from nlhf.oracle import solve_equilibrium
from nlhf.regularised_game import kl

MOST_TEXTS = 300_000


@dataclass(frozen=True, eq=False)
class LanguageGame:
    """Texts of L tokens, each of some kind; P(text > text') depends on their kinds only.

    With as many kinds as texts it can be any game. The reference is uniform.

    Attributes:
        V, L: number of tokens, and length of a text.
        kind: kind of each text, [V^L]; a text's index is its number in base V, with the first token
            as the highest digit.
        P: P(kind > kind'), [M, M], float64.
        name: name in logs.
    """

    V: int
    L: int
    kind: Tensor
    P: Tensor
    name: str = "language"

    def __post_init__(self) -> None:
        texts = self.V**self.L if self.V > 0 and self.L > 0 else 0
        if self.V < 2 or self.L < 1 or texts > MOST_TEXTS:
            raise InputError(
                f"V={self.V}, L={self.L} make {texts} texts; give V >= 2 and L >= 1 with at most "
                f"{MOST_TEXTS} texts"
            )
        require_fair(self.P[None], f"judge {self.name}")
        if self.kind.shape != (texts,) or not 0 <= int(self.kind.min()) <= int(
            self.kind.max()
        ) < len(self.P):
            raise InputError(
                f"kind has shape {list(self.kind.shape)}; give a whole number below {len(self.P)} "
                f"for each of {texts} texts"
            )

    @property
    def tokens(self) -> Tensor:
        """All texts, [V^L, L]."""
        return _texts(self.V, self.L)

    def number(self, tokens: Tensor) -> Tensor:
        """The indices of texts [B, L], [B]."""
        powers = self.V ** torch.arange(self.L - 1, -1, -1, device=tokens.device)
        return (tokens * powers).sum(-1)

    def vote(self, first: Tensor, second: Tensor, generator: torch.Generator) -> Tensor:
        """1 where the first of two texts, given by index, is preferred, 0 where the second is."""
        kinds = self.kind.to(first.device)
        p = self.P.to(first.device)[kinds[first], kinds[second]]
        return torch.bernoulli(p, generator=generator)

    def of_kinds(self, values: Tensor) -> Tensor:
        """Sum the values of texts [V^L] within each kind, [M]."""
        return torch.zeros(len(self.P), dtype=values.dtype).index_add_(0, self.kind, values)

    def solve(self, tau: float) -> SolvedLanguage:
        """The equilibrium over all texts, with the certificate of the game of kinds.

        P(. > pi) is the same for all texts of a kind, so pi* is uniform within a kind. The game of
        all texts reduces to one of M kinds with reference n_kind / V^L.
        """
        size = self.of_kinds(torch.ones(len(self.kind), dtype=torch.float64))
        log_mu = (size / size.sum()).log()
        log_star = solve_equilibrium(self.P, log_mu, tau)
        return SolvedLanguage(self, tau, log_mu, log_star - size.log())


@dataclass(frozen=True, eq=False)
class SolvedLanguage:
    """The game of a language with its equilibrium.

    Attributes:
        log_mu: log-probability of each kind under the reference, [M].
        log_star: log-probability of one text of each kind under the equilibrium, [M].
    """

    game: LanguageGame
    tau: float
    log_mu: Tensor
    log_star: Tensor

    def measured(self, log_pi: Tensor) -> dict[str, float]:
        """Measures of a policy over texts [V^L], float64: sequence-level, without sampling.

        The best response to pi among texts is any text of the best kind. The regularised gap is the
        largest gain over pi plus tau KL(pi, mu), by the log-sum-exp over texts.
        """
        game, star = self.game, self.log_star[self.game.kind]
        pi_kind = game.of_kinds(log_pi.exp())
        gain = game.P @ pi_kind
        texts = torch.full_like(log_pi, 1.0 / len(log_pi)).log()
        best = torch.log_softmax(texts + gain[game.kind] / self.tau, 0)
        return {
            "exploitability": float(gain.max()) - 0.5,
            "regularised_gap": 2 * self.tau * float(kl.unchecked(log_pi, best)),
            "kl_to_equilibrium": float(kl.unchecked(log_pi, star)),
        }

    @property
    def bound(self) -> float:
        """The exploitability of the equilibrium."""
        size = self.game.of_kinds(torch.ones(len(self.game.kind), dtype=torch.float64)).log()
        return float(exploitability(self.game.P, self.log_star + size, self.log_mu))


def _texts(V: int, L: int) -> Tensor:
    numbers = torch.arange(V**L)[:, None]
    return numbers // V ** torch.arange(L - 1, -1, -1) % V


def language_of(
    judge: Callable[[Tensor, Tensor], Tensor],
    V: int,
    L: int,
    *,
    name: str = "judge",
    symmetrise: bool = False,
) -> LanguageGame:
    """A language with preferences from a function f(first [N, L], second [N, L]) -> P [N].

    Raises:
        InputError: more than 4,096 texts, too many for a table; or see `require_fair`.
    """
    texts = V**L
    if texts > MOST_ANSWERS:
        raise InputError(
            f"V={V}, L={L} make {texts} texts, and a table of all pairs holds {MOST_ANSWERS}; "
            "give a LanguageGame with kinds of texts, or a shorter language"
        )
    tokens = _texts(V, L)
    P = torch.stack([judge(row.expand_as(tokens), tokens) for row in tokens]).double()
    if symmetrise:
        P = symmetrised(P)
    return LanguageGame(V, L, torch.arange(texts), P, name)


def rhyme(V: int, L: int) -> LanguageGame:
    """The kind of a text is first + last token, modulo V; kinds play the cyclic game.

    Kinds 0, 1 and 2 beat all others, and each other in a cycle. To play it, a network must remember
    how a text began.

    Raises:
        InputError: fewer than 3 tokens, or too many texts.
    """
    if V < 3:
        raise InputError(f"V={V}: the cycle of rhyme needs three tokens or more")
    numbers = torch.arange(V**L)
    kind = (numbers // V ** (L - 1) + numbers % V) % V
    return LanguageGame(V, L, kind, cyclic(V).P[0], "rhyme")
