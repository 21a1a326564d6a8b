"""From a config to a run: the judge, the inputs, the network, and the learning method."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from bioplaus.config import make_dataset, make_estimator, make_optimizer, origins, task_of
from bioplaus.data import Dataset
from bioplaus.fields import VectorField
from bioplaus.training import Run
from bioplaus.training.run import fitted, make_run
from bioplaus_votes.config import AUTO, CONTEXTS, SLOW_FEEDBACK, VOTES, VotingConfig
from bioplaus_votes.inputs import of_contexts, one_row_a_vote
from bioplaus_votes.judges import (
    AbstractJudge,
    TableJudge,
    cyclic,
    judge_of_function,
    stream_of,
)
from bioplaus_votes.objectives import ALGORITHMS
from bridge.errors import InputError
from bridge.usercode import Provenance, load_object, names_code
from nlhf.preferences.base import Preferences
from nlhf.preferences.battles import Battles
from nlhf.preferences.reading import read_games


def build_voting(config: VotingConfig, device: torch.device | str = "cpu") -> Run:
    """Build the plain objects that a config describes.

    Raises:
        InputError: the data or the judge cannot be loaded, or settings do not fit together.
    """
    device, dtype = torch.device(device), getattr(torch, config.dtype)
    battles = _read(config)
    dataset = _dataset(config, battles, dtype)
    judge, code = _judge(config, battles, dataset)
    stream = None
    if isinstance(battles, Battles) and config.votes is None and battles.shares is None:
        stream = stream_of(battles)
        if config.epochs != 1:
            raise InputError(
                f"epochs={config.epochs} with streamed votes, each of which is used once; give "
                "--epochs 1, or --votes N (0: exact) to draw from their frequencies"
            )
        dataset, stream = one_row_a_vote(dataset, stream, battles.groups()[0], config.seed)
    objective = ALGORITHMS[config.algorithm](
        judge,
        tau=config.tau,
        tau_start=config.tau_start,
        reference=config.reference,
        votes=config.votes or 0,
        baseline=config.baseline,
        penalty=config.penalty,
        geometry=config.geometry,
        stream=stream,
        **config.algorithm_settings(),
    )
    # the network's initial weights depend on the number of answers, not of contexts
    answers = dataclasses.replace(dataset, num_outputs=len(judge.answers))
    task = task_of(config, answers, device)
    field, estimator = config.network.draw(task), make_estimator(config)
    estimator.check(field, objective.cost)
    estimator.require_effect(field, "estimator.")
    return make_run(
        config,
        dataset=fitted(dataset.to(device), field, objective),
        field=field,
        objective=objective,
        estimator=estimator,
        optimizer=make_optimizer(_without_idle_rates(config, field), field, len(dataset.train)),
        origins=(*origins(config), *code),
        task=task,
    )


def _without_idle_rates(config: VotingConfig, field: VectorField) -> VotingConfig:
    """Leave out the default rate of feedback weights if the field has none."""
    has_feedback = any(name.startswith("feedback") for name in field.parameters)
    if has_feedback or config.optimizer.rates != SLOW_FEEDBACK:
        return config
    optimizer = config.optimizer.model_copy(update={"rates": {}})
    return config.model_copy(update={"optimizer": optimizer})


def _read(config: VotingConfig) -> Battles | Preferences | None:
    """The file of a judge votes:FILE; None for other judges."""
    if not config.judge.startswith(VOTES):
        return None
    read = read_games(config.judge.removeprefix(VOTES))
    if config.smoothing and (isinstance(read, Preferences) or read.shares is not None):
        raise InputError(
            f"smoothing={config.smoothing:g} has no effect on {config.judge}, which has no votes; "
            "it is read with numbers of votes"
        )
    return read


def _dataset(
    config: VotingConfig, read: Battles | Preferences | None, dtype: torch.dtype
) -> Dataset:
    name = config.data.dataset
    if name == CONTEXTS or (name == AUTO and read is not None):
        if read is None:
            raise InputError(
                f"dataset={CONTEXTS} gives each context of a file of votes an input; with "
                f"judge={config.judge} name a data set, e.g. --dataset mnist"
            )
        names = read.contexts if isinstance(read, Preferences) else read.preferences().contexts
        return of_contexts(names, config.judge, dtype)
    data = config.data.model_copy(update={"dataset": "mnist"}) if name == AUTO else config.data
    return make_dataset(data, dtype)


def _judge(
    config: VotingConfig, read: Battles | Preferences | None, dataset: Dataset
) -> tuple[AbstractJudge, tuple[Provenance, ...]]:
    if not dataset.has_labels:
        raise InputError(
            f"dataset={config.data.dataset} has target vectors; with a judge its labels are the "
            "contexts, whole numbers from 0"
        )
    contexts = dataset.class_names or tuple(map(str, range(dataset.num_outputs)))
    if read is not None:
        games = read if isinstance(read, Preferences) else read.preferences(config.smoothing)
        return _in_order(TableJudge.of(games), contexts, config), ()
    if names_code(config.judge):
        found, code = load_object(config.judge, "judge", AbstractJudge)
        return _users(found, config, contexts, dataset), (code,)
    return cyclic(dataset.num_outputs), ()


def _users(
    found: AbstractJudge | Callable[..., Any],
    config: VotingConfig,
    contexts: tuple[str, ...],
    dataset: Dataset,
) -> AbstractJudge:
    """The judge from a user's object, class or function."""
    if isinstance(found, type) and issubclass(found, AbstractJudge):
        found = found()
    if isinstance(found, AbstractJudge):
        return found
    return judge_of_function(
        found,
        name=config.judge,
        contexts=contexts,
        answers=None,
        x=dataset.train.inputs[:4],
        symmetrise=config.symmetrise,
    )


def _in_order(judge: TableJudge, contexts: tuple[str, ...], config: VotingConfig) -> TableJudge:
    """Reorder the games of a file by a data set's classes, whose names are the contexts' names.

    Raises:
        InputError: a class has no votes.
    """
    if judge.contexts == contexts:
        return judge
    missing = [name for name in contexts if name not in judge.contexts]
    if missing:
        known = ", ".join(judge.contexts[:8])
        raise InputError(
            f"{config.judge} has no votes in context {missing[0]!r} of "
            f"{config.data.dataset}; its contexts are {known}: name them as the classes, or leave "
            "--dataset out"
        )
    order = [judge.contexts.index(name) for name in contexts]
    return TableJudge(judge.P[order], name=judge.name, answers=judge.answers, contexts=contexts)
