"""A tournament in progress: it can stop after every batch, and be resumed from there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from torch import Tensor

    from bioplaus_cli.judging import Account
    from bridge.session import Session
    from nlhf.config import TournamentConfig
    from nlhf.language.judging import AbstractJudge
    from nlhf.language.prompts import Prompt
    from nlhf.language.tournament import Tournament


class ContestState(TypedDict):
    """What a contest needs to go on: the answers, the judge's values, and the random numbers."""

    answers: list[list[list[str]]]
    asked: list[Tensor]
    random: dict[str, Tensor]


class Contest:
    """Collects the answers of all policies, then a judge's preferences between them.

    A step is one batch of answers of one policy, or one batch of comparisons. Nothing is answered
    or judged twice.
    """

    def __init__(
        self,
        settings: TournamentConfig,
        prompts: Sequence[Prompt],
        session: Session,
        device: str,
    ) -> None:
        """Start where the session starts.

        Args:
            settings: the config.
            prompts: the prompts for the policies.
            session: saves the state.
            device: where models compute.
        """
        from bridge.checkpoint import loading
        from bridge.seeding import generator

        self._settings, self._prompts = settings, prompts
        self._session, self._device = session, device
        self._step = session.step
        # all policies use the same random numbers
        self._generator = generator(settings.seed, "answers")
        self._beginning = self._generator.get_state()
        self._answers: list[list[list[str]]] = []
        self._verdicts: list[Tensor] = []
        if session.start is not None:
            with loading():
                self._load(session.start)

    def answer(self, quiet: bool) -> None:
        """Let the policies give their missing answers."""
        import torch

        from bridge.progress import progress
        from nlhf.config import make_cut_sampling
        from nlhf.language.decoders import Decoder
        from nlhf.language.tournament import answers_of

        settings, n = self._settings, len(self._prompts)
        with progress(n * len(settings.policies), "answering", quiet) as bar:
            for number, name in enumerate(settings.policies):
                if number == len(self._answers):
                    self._answers.append([])
                    self._generator.set_state(self._beginning)
                found = self._answers[number]
                bar.advance(len(found[0]) if found else 0)
                if found and len(found[0]) == n:
                    continue
                answers_of(
                    name,
                    self._prompts,
                    make_cut_sampling(settings.generation),
                    self._generator,
                    draws=settings.draws,
                    batch_size=settings.batch_size,
                    device=self._device,
                    options={
                        "chat": settings.chat,
                        "end_token": settings.end_token,
                        "shortest": settings.generation.min_new_tokens,
                        "dtype": getattr(torch, settings.precision),
                    },
                    decoder=Decoder(settings.generation.cache, note=self._note),
                    advance=bar.advance,
                    found=found,
                    after=self._after,
                )

    def _note(self, text: str) -> None:
        self._session.log.event("program", text=text)

    def judge(self, judge: AbstractJudge, quiet: bool, account: Account) -> Tournament:
        """Compare all pairs of policies that have not been compared yet, and give the result.

        Args:
            judge: the judge.
            quiet: show no progress bar.
            account: records what the judge is asked.
        """
        from bridge.progress import progress
        from nlhf.language.tournament import play

        names = self._settings.policies
        pairs = len(names) * (len(names) - 1) // 2
        total = len(self._prompts) * self._settings.draws * pairs

        def after() -> None:
            account.note()
            if self._session.stopping:
                account.write()
            self._after()

        with progress(total, "judging", quiet) as bar:
            bar.advance(sum(each.shape[1] for each in self._verdicts))
            return play(
                judge,
                self._prompts,
                self._answers,
                advance=bar.advance,
                names=list(names),
                seed=self._settings.seed,
                verdicts=self._verdicts,
                after=after,
            )

    def _after(self) -> None:
        self._step += 1
        self._session.after_step(self._step, self._state)

    def _state(self) -> ContestState:
        from bridge.checkpoint import random_states

        random = random_states(answers=self._generator)
        return {"answers": self._answers, "asked": self._verdicts, "random": random}

    def _load(self, state: ContestState) -> None:
        """Restore the state that `_state` returned.

        Raises:
            InputError: it belongs to another tournament.
        """
        from bridge.checkpoint import set_random_states
        from bridge.errors import InputError

        self._answers = [[list(map(str, draw)) for draw in each] for each in state["answers"]]
        self._verdicts = [each.double() for each in state["asked"]]
        n = len(self._prompts)
        sizes = {len(draw) for each in self._answers for draw in each}
        if any(size > n for size in sizes) or len(self._answers) > len(self._settings.policies):
            raise InputError("the checkpoint does not fit this run: answers of other prompts")
        set_random_states(state["random"], answers=self._generator)
