"""`judge:URL#MODEL`: a chat model behind an OpenAI-compatible endpoint judges."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.judges.base import OPERATIONAL, AbstractSource, Opening
from nlhf.language.judging import Orders, averaged, short
from nlhf.language.prompts import Prompt, text_of
from nlhf.language.remote.client import Budget, Client, read_address, read_key
from nlhf.language.remote.reply_cache import ReplyCache, cache_folder, key_of_question
from nlhf.language.remote.verdicts import Verdict, find_label, read_verdict, tokens_used
from nlhf.language.remote.workers import each

TEMPLATE = """\
Which of two answers to a prompt is better?

[Prompt]
{prompt}

[Answer A]
{a}

[Answer B]
{b}

Reply with one letter and nothing else: A if the first answer is better, B if the second is."""
_SECRET = re.compile(r"api.?key|secret|password|authorization|bearer|access.?token", re.IGNORECASE)
_PLACES = re.compile(r"\{prompt\}|\{a\}|\{b\}")
_OWN = ("model", "messages", "stream", "n")


@dataclass(frozen=True)
class EndpointSettings:
    """How a judge is asked.

    Attributes:
        template: the question, with "{a}" and "{b}" for the first and the second answer, and
            "{prompt}".
        system: the system message; none if empty.
        labels: the labels of the first and the second answer in a reply, and optionally of a tie.
        logprobs: whether to use the probabilities of the label's token, if the reply has them.
        top_logprobs: number of most likely tokens that a reply lists.
        temperature: sampling temperature of the reply.
        max_tokens: largest number of tokens of the reply; 0 lets the server decide.
        extra: additional keys of the request, for example {seed = 1}.
        key_env: the environment variable that holds the key; "" for no key.
        timeout: time limit of a request, in seconds.
        retries: number of retries after the first request.
        backoff: seconds before the first retry, doubled for each further one, at most 60.
        concurrency: largest number of simultaneous requests.
        cache: folder for replies; "auto" for the cache folder of the user, "off" for none.
        price_in, price_out: price per million tokens, in any currency.
    """

    template: str = TEMPLATE
    system: str = ""
    labels: tuple[str, ...] = ("A", "B")
    logprobs: bool = True
    top_logprobs: Annotated[int, Field(ge=1, le=100)] = 5
    temperature: Annotated[float, Field(ge=0)] = 0.0
    max_tokens: Annotated[int, Field(ge=0)] = 8
    extra: dict[str, Any] = field(default_factory=dict)
    key_env: str = field(default="OPENAI_API_KEY", metadata=OPERATIONAL)
    timeout: Annotated[float, Field(gt=0)] = field(default=60.0, metadata=OPERATIONAL)
    retries: Annotated[int, Field(ge=0, le=100)] = field(default=5, metadata=OPERATIONAL)
    backoff: Annotated[float, Field(ge=0)] = field(default=1.0, metadata=OPERATIONAL)
    concurrency: Annotated[int, Field(ge=1, le=256)] = field(default=8, metadata=OPERATIONAL)
    cache: str = field(default="auto", metadata=OPERATIONAL)
    price_in: Annotated[float, Field(ge=0)] = field(default=0.0, metadata=OPERATIONAL)
    price_out: Annotated[float, Field(ge=0)] = field(default=0.0, metadata=OPERATIONAL)


@dataclass(frozen=True)
class _Question:
    """Which of two answers, shown in this order, is preferred."""

    prompt: str
    first: str
    second: str


class EndpointJudge(AbstractSource):
    """P(a > b | x) = (p(x, a, b) + 1 - p(x, b, a)) / 2, p from a chat model for the first answer.

    Identical answers count as even without a request. A question is sent only once.

    Source: both orders against position bias, Zheng et al. 2023 (arXiv 2306.05685), section 3.4.
    """

    prefix = "judge"
    form = "judge:URL#MODEL"
    calls = True
    Settings = EndpointSettings
    antisymmetric = True

    def __init__(
        self,
        url: str,
        model: str,
        settings: EndpointSettings | None = None,
        *,
        budget: Budget | None = None,
        name: str = "",
    ) -> None:
        """Set up the endpoint without sending anything.

        Args:
            url: up to /chat/completions, which may be omitted.
            model: the model's name at the endpoint.
            settings: how the judge is asked.
            budget: budget of requests, possibly shared with other endpoints.
            name: name in messages; composed of URL and model if omitted.

        Raises:
            InputError: an unusable URL, template, label or key.
        """
        self.settings = settings = settings or EndpointSettings()
        self.name, self._model = name or f"judge:{url}#{model}", model
        _check(settings)
        address, key = read_address(url), read_key(settings.key_env)
        self._client = Client(
            address,
            key,
            settings.key_env,
            timeout=settings.timeout,
            retries=settings.retries,
            backoff=settings.backoff,
            budget=budget or Budget(),
        )
        self._cache = ReplyCache(cache_folder(settings.cache))
        self._orders = Orders()
        self._questions = self._cached = self._unweighed = 0
        self._seconds = 0.0
        self._lock = threading.Lock()
        self._reported: set[str] = set()

    @classmethod
    def claims(cls, rest: str) -> bool:
        """Whether the rest has a URL or a model; `judge:f` is a function in judge.py."""
        return "://" in rest or "#" in rest or not rest.isidentifier()

    @classmethod
    def open(cls, name: str, settings: EndpointSettings, opening: Opening) -> EndpointJudge:
        """Split URL#MODEL and create the judge."""
        url, _, model = name.partition(":")[2].partition("#")
        if not url or not model.strip():
            raise InputError(
                f"preference={name[:200]!r} names no model; write judge:URL#MODEL, as in "
                "judge:http://localhost:8000/v1#MODEL"
            )
        return cls(url, model, settings, budget=opening.budget, name=name)

    def __call__(self, prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        """P(a > b | x), [B], float64.

        Raises:
            InputError: the endpoint refuses the questions.
            OutsideFailed: it failed repeatedly, or the budget is used up.
        """
        began = time.monotonic()
        texts = [_transcript(prompt) for prompt in prompts]
        forward = [_Question(*each) for each in zip(texts, a, b, strict=True)]
        backward = [_Question(x, v, u) for x, u, v in zip(texts, a, b, strict=True)]
        differ = [i for i, q in enumerate(forward) if q.first != q.second]
        questions = list(dict.fromkeys(q for i in differ for q in (forward[i], backward[i])))
        numbered = list(enumerate(questions, self._questions + 1))
        self._questions += len(questions)
        client = self._client
        client.begin()
        try:
            threads = self.settings.concurrency
            found = each(self._answer, numbered, threads, drain=client.drain, stop=client.stop)
        finally:
            self._seconds += time.monotonic() - began
        probabilities = dict(zip(questions, found, strict=True))
        p = torch.full((len(forward),), 0.5, dtype=torch.float64)
        if differ:
            one, two = (
                torch.tensor([probabilities[side[i]] for i in differ], dtype=torch.float64)
                for side in (forward, backward)
            )
            self._orders.add(one, two)
            p[differ] = averaged(one, two)
        return p

    def facts(self) -> dict[str, Any]:
        """The question and how it is asked, without the key."""
        settings = asdict(self.settings)
        return {**super().facts(), "kind": "endpoint", "has_key": bool(self._client.key)} | settings

    def counts(self) -> dict[str, float]:
        """Counts of questions, requests, tokens, failures and effects of the order."""
        usage, settings = self._client.usage, self.settings
        cost = usage.input_tokens * settings.price_in + usage.output_tokens * settings.price_out
        return {
            **self._orders.counts(),
            "questions": self._questions,
            "cached": self._cached,
            **asdict(usage),
            "waited": self._seconds,
            "cost": cost / 1e6,
            "without_logprobs": self._unweighed,
            "cache_damaged": self._cache.damaged,
            "cache_unwritten": self._cache.unwritten,
        }

    def new_warnings(self) -> list[str]:
        """Problems with the cache and replies without probabilities; each is reported once."""
        found = [self._cache.problem] if self._cache.problem else []
        if self._unweighed and self.settings.logprobs:
            found.append(
                f"{self.name}: replies come without the probabilities of tokens; a verdict is 0, "
                "1 or 1/2 then"
            )
        new = [line for line in found if line not in self._reported]
        self._reported.update(new)
        return new

    def _answer(self, numbered: tuple[int, _Question]) -> float:
        """The probability that the first answer is preferred."""
        number, question = numbered
        body = self._body(question)
        key = key_of_question(self._client.address.url, body, self.settings.labels)
        kept = self._cache.get(key)
        p = kept.get("p") if kept else None
        if isinstance(p, float) and 0 <= p <= 1:
            with self._lock:
                self._cached += 1
            return p
        prompt = short(question.prompt)
        answers = f"answers {short(question.first)} and {short(question.second)}"
        subject = f"call {number} of preference {self.name} (prompt {prompt}, {answers})"
        verdict = self._client.ask(body, self._read, subject)
        with self._lock:
            self._unweighed += not verdict.weighed
        self._cache.put(key, {"p": verdict.p, "text": verdict.text, "weighed": verdict.weighed})
        return verdict.p

    def _read(self, reply: object) -> Verdict:
        self._client.count_tokens(*tokens_used(reply))
        return read_verdict(reply, self.settings.labels, self.settings.logprobs)

    def _body(self, question: _Question) -> dict[str, Any]:
        settings = self.settings
        parts = {"{prompt}": question.prompt, "{a}": question.first, "{b}": question.second}
        # substitute in one pass: an answer may contain braces
        text = _PLACES.sub(lambda at: parts[at[0]], settings.template)
        system = [{"role": "system", "content": settings.system}] if settings.system else []
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [*system, {"role": "user", "content": text}],
            "temperature": settings.temperature,
        }
        if settings.max_tokens:
            body["max_tokens"] = settings.max_tokens
        if settings.logprobs:
            body |= {"logprobs": True, "top_logprobs": settings.top_logprobs}
        return body | dict(settings.extra)


def _check(settings: EndpointSettings) -> None:
    """Validate the settings.

    Raises:
        InputError: no question can be formed from them.
    """
    for name, least in (("timeout", 1e-3), ("retries", 0), ("backoff", 0), ("concurrency", 1)):
        if not least <= getattr(settings, name) < math.inf:
            raise InputError(
                f"sources.judge.{name}={getattr(settings, name)!r} must be {least:g} or more"
            )
    if not re.fullmatch(r"([A-Z_][A-Z0-9_]*)?", settings.key_env):
        # not shown: it may be the key by mistake
        raise InputError(
            "sources.judge.key_env must name an environment variable, in capital letters; put the "
            "key itself into that variable, as in export OPENAI_API_KEY=..."
        )
    for place in ("{a}", "{b}"):
        if place not in settings.template:
            raise InputError(
                f"sources.judge.template lacks {place}; it needs {{a}} and {{b}} for the answers, "
                "and {prompt}"
            )
    labels = settings.labels
    plain = all(re.fullmatch(r"\w+", label) for label in labels)
    if len(labels) not in (2, 3) or len(set(labels)) < len(labels) or not plain:
        raise InputError(
            f"sources.judge.labels={list(labels)}: give two words, for the first answer and the "
            "second, and perhaps a third for a tie, all different"
        )
    for name in settings.extra:
        if _SECRET.search(name):
            raise InputError(
                f"sources.judge.extra: {name!r} looks like a secret, which the log would keep; put "
                "the key into the environment variable that sources.judge.key_env names"
            )
        if name in _OWN:
            raise InputError(f"sources.judge.extra: {name!r} is set by the program; leave it out")
    # a label that no reply could name
    for label in labels:
        find_label(label, labels)


def _transcript(prompt: Prompt) -> str:
    """A prompt as text; with several messages, each is labelled by its role."""
    if isinstance(prompt, str) or len(prompt) == 1:
        return text_of(prompt)
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in prompt)
