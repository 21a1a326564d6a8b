"""The config of who judges, and the judge that a name, a function or an object means."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, get_type_hints

import torch
from pydantic import create_model

from bridge.config import Config
from bridge.errors import InputError as BridgeInputError
from bridge.invocation import program
from bridge.usercode import Provenance, load_object, names_code, running
from nlhf.config.fields import Count
from nlhf.errors import InputError
from nlhf.language.ensembles import EnsembleJudge, terms_of
from nlhf.language.judges import SOURCES, ModelJudge, Opening, operational, source_of
from nlhf.language.judging import (
    AbstractJudge,
    AbstractWrapper,
    CheckedJudge,
    FunctionJudge,
    SymmetrisedJudge,
)
from nlhf.language.preference_models import PreferenceModel
from nlhf.language.remote.client import Budget
from nlhf.language.rewards import Reward, reward_of

Preference = str | AbstractJudge | PreferenceModel | Callable[..., Any]
"""Who judges: a name, a judge, a model, or a function (prompts, a, b) -> P(a > b | x)."""


_WEIGHTS = "a weight stands before each of several judges: 0.7*A+0.3*B"


def _settings_config(kind: type[Any]) -> Any:
    """The config of a source's settings."""
    hints = get_type_hints(kind, include_extras=True)
    made: dict[str, Any] = {}
    for each in dataclasses.fields(kind):
        default = each.default
        if each.default_factory is not dataclasses.MISSING:
            default = each.default_factory()
        made[each.name] = (hints[each.name], default)
    return create_model(f"{kind.__name__}Config", __base__=Config, __doc__=kind.__doc__, **made)


_CONFIGS = {prefix: _settings_config(source.Settings) for prefix, source in SOURCES.items()}
_FIELDS: dict[str, Any] = {prefix: (kind, kind()) for prefix, kind in _CONFIGS.items()}
if TYPE_CHECKING:

    class SourcesConfig(Config):
        """The settings of the sources of judges, by their prefix."""

else:
    SourcesConfig = create_model(
        "SourcesConfig",
        __base__=Config,
        __doc__="""The settings of the sources of judges, by their prefix.""",
        **_FIELDS,
    )


class JudgedConfig(Config):
    """Who says which of two answers is better.

    `sources` has the settings of `reward:`, `pair:` and `judge:`.

    Attributes:
        preference: the judge: a folder of preference-train, reward:MODEL, pair:MODEL,
            judge:URL#MODEL, module:function, or a weighted sum of several, 0.7*A+0.3*B.
        symmetrise: whether to ask a judge in both orders and average, if it is not antisymmetric by
            construction.
        max_calls: largest number of requests to endpoints, including retries. A run that has used
            them up stops, and can be resumed.
    """

    operational: ClassVar[tuple[str, ...]] = (
        "max_calls",
        *(f"sources.{name}" for name in operational()),
    )

    preference: str
    symmetrise: bool = False
    max_calls: Count | None = None
    sources: SourcesConfig = SourcesConfig()

    def specs(self) -> list[str]:
        """The names of all that judges."""
        return [self.preference]

    def idle(self) -> dict[str, str]:
        named = [term for spec in self.specs() for _, term in _terms(spec)]
        used = {source.prefix for source in map(source_of, named) if source is not None}
        here = f"with preference={self.preference}; it is read with preference="
        found = {
            f"sources.{prefix}": here + source.form
            for prefix, source in SOURCES.items()
            if prefix not in used
        }
        if not any(SOURCES[prefix].calls for prefix in used):
            forms = [source.form for source in SOURCES.values() if source.calls]
            found["max_calls"] = here + " or ".join(forms)
        return found


def make_judge(
    config: JudgedConfig,
    device: torch.device | str = "cpu",
    preference: Preference | None = None,
    processes: int = 1,
) -> AbstractJudge:
    """The judge of a run.

    Args:
        config: of the run.
        device: where models compute.
        preference: stands for the one that the config names.
        processes: among which its `max_calls` are shared out.

    Raises:
        InputError: see `get_judge`; or there are fewer calls than processes.
    """
    calls = None if config.max_calls is None else config.max_calls // processes
    if calls == 0:
        raise InputError(
            f"max_calls={config.max_calls} is less than one for each of {processes} processes"
        )
    return get_judge(
        config.preference if preference is None else preference,
        device,
        symmetrise=config.symmetrise,
        sources=config.sources,
        max_calls=calls,
    )


def get_judge(
    choice: Preference,
    device: torch.device | str = "cpu",
    *,
    symmetrise: bool = False,
    sources: object = None,
    max_calls: int | None = None,
) -> AbstractJudge:
    """Find a judge by name, or take an object; it is checked when it is first used.

    Args:
        choice: a judge; a preference model; a function (prompts, a, b) -> P(a > b | x) that takes
            lists of prompts (text or messages) and of answers; or the name of one:
            a folder that `preference-train` wrote; `reward:MODEL`, `pair:MODEL` or
            `judge:URL#MODEL`, see `nlhf.language.judges`; `module:function` or `file.py:function`,
            a function, or a class of them that is made without arguments; or several of these with
            their weights, `0.7*reward:A+0.3*judge:URL#MODEL`.
        device: where a model computes.
        symmetrise: ask in both orders, and average, what is not antisymmetric by construction;
            without it, what turns out not to be is refused.
        sources: their settings, a `SourcesConfig`; their defaults if None.
        max_calls: requests to endpoints, all together; None for any number.

    Raises:
        InputError: nothing of that name, or nothing that judges.

    Examples:
        >>> judge = get_judge(lambda prompts, a, b: [len(x) / (len(x) + len(y))
        ...                                          for x, y in zip(a, b)])
        >>> judge(["x"], ["long"], ["shorter one"]).tolist()
        [0.26666666666666666]
    """
    opening = Opening(device, Budget(max_calls))
    settings = SourcesConfig() if sources is None else sources
    if not isinstance(choice, str):
        return _checked(_object(choice), symmetrise)
    terms = [
        (weight, _checked(_named(term, settings, opening), symmetrise))
        for weight, term in _terms(choice)
    ]
    alone = len(terms) == 1 and terms_of(choice) is None
    return terms[0][1] if alone else EnsembleJudge(terms, choice)


def judge_origins(config: JudgedConfig) -> tuple[Provenance, ...]:
    """Where the users' code comes from that judges."""
    named = [term for spec in config.specs() for _, term in _terms(spec)]
    return tuple(load_object(term, "preference")[1] for term in named if _is_code(term))


def get_reward(
    spec: str | None,
    preference: Preference,
    device: torch.device | str = "cpu",
    sources: object = None,
) -> Reward:
    """Find a reward by name.

    Args:
        spec: `reward:MODEL`; `module:function`, a Python callable (prompts, answers) -> numbers; or
            a folder with a Bradley-Terry model that `preference-train` wrote; None takes the
            preference's own.
        preference: a judge that knows rewards has a method `reward`.
        device: where a model computes.
        sources: see `get_judge`.

    Raises:
        InputError: nothing of that name, or a preference that has no reward.
    """
    given = preference if spec is None else spec
    own = isinstance(given, AbstractJudge)
    judge = given if own else get_judge(given, device, sources=sources)
    return reward_of(judge, by_itself=spec is not None)


def _terms(spec: str) -> list[tuple[float, str]]:
    return [(1.0, spec.strip())] if os.path.isdir(spec) else terms_of(spec) or [(1.0, spec.strip())]


def _is_code(spec: str) -> bool:
    return source_of(spec) is None and names_code(spec)


def _named(spec: str, settings: object, opening: Opening) -> AbstractJudge:
    """The judge that one name means, not yet looked at."""
    if re.search(rf"\+\s*({'|'.join(SOURCES)}):", spec):
        raise InputError(f"preference={spec[:200]!r}: {_WEIGHTS}")
    if os.path.isdir(spec):
        return ModelJudge.open(spec, opening.device)
    source = source_of(spec)
    if source is not None:
        given = getattr(settings, source.prefix)
        values = {name: getattr(given, name) for name in type(given).model_fields}
        return source.open(spec, source.Settings(**values), opening)
    if _is_code(spec):
        return _code(spec)
    forms = ", ".join(each.form for each in SOURCES.values())
    fix = f"; run `{program()} preference-train --pairs {spec} --out DIR` first"
    raise InputError(
        f"preference={spec!r} is neither a folder that preference-train wrote nor {forms}, "
        f"module:function{fix if os.path.isfile(spec) else ''}"
    )


def _code(spec: str) -> AbstractJudge:
    try:
        found, _ = load_object(spec, "preference")
    except BridgeInputError as error:
        if "+" not in spec:
            raise
        raise InputError(f"{error}; {_WEIGHTS}") from None
    if isinstance(found, type):
        with running(f"preference={spec!r}"):
            found = found()
        if not callable(found):
            raise InputError(f"preference={spec!r} is no function; it must take (prompts, a, b)")
    return found if isinstance(found, AbstractJudge) else FunctionJudge(found, spec)


def _object(choice: object) -> AbstractJudge:
    if isinstance(choice, AbstractJudge):
        return choice
    if isinstance(choice, PreferenceModel):
        return ModelJudge(choice, "preference model")
    if callable(choice):
        return FunctionJudge(choice, getattr(choice, "__name__", type(choice).__name__))
    raise InputError(
        f"preference is a {type(choice).__name__}; give a name, a judge, a preference model or a "
        "function (prompts, a, b) -> P(a > b | x)"
    )


def _checked(judge: AbstractJudge, symmetrise: bool) -> AbstractJudge:
    """A judge that is looked at, and asked in both orders where that is wanted and of use."""
    if isinstance(judge, EnsembleJudge):
        members = [(weight, _checked(each, symmetrise)) for weight, each in judge.members]
        return EnsembleJudge(members, judge.name)
    if symmetrise and not judge.antisymmetric:
        inner = judge.judge if isinstance(judge, CheckedJudge) else judge
        return CheckedJudge(SymmetrisedJudge(inner))
    return judge if isinstance(judge, AbstractWrapper) else CheckedJudge(judge)
