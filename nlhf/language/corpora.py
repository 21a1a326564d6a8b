"""A summarisation task available on every machine: docstrings of Python's standard library.

By PEP 257 the first line of a docstring summarises the rest. The sources are parsed and never
imported.
"""

from __future__ import annotations

import ast
import hashlib
import platform
import re
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.prompts import Prompt, text_of
from nlhf.language.similarity import rouge_1, rouge_l, words

SUMMARY_WORDS = (3, 25)
"""Range of the number of words in a summary, which is a sentence ending with a full stop."""
BODY_WORDS = (12, 120)
"""Range of the number of words in the body; longer bodies are cut off."""
INSTRUCTION = "Summarise this Python documentation in one short sentence."
SPLIT = "v1"
"""Salt of the split; it holds out about a tenth of the docstrings of Python 3.11."""
TEMPERATURE = 0.1
_LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}


@dataclass(frozen=True)
class Summarised:
    """A docstring. `source` names the documented object; `held_out` is constant in a package."""

    source: str
    body: str
    summary: str
    held_out: bool

    @property
    def prompt(self) -> str:
        """The prompt for the policy."""
        return f"{INSTRUCTION}\n\n{self.source}:\n{self.body}"


@cache
def docstrings(root: Path | None = None) -> tuple[Summarised, ...]:
    """Find docstrings with a summary, in file order, without duplicate summaries or bodies.

    Args:
        root: a folder of Python sources; by default the running Python's standard library. Its
            tests are left out.

    Raises:
        InputError: none was found.
    """
    root = root or Path(sysconfig.get_paths()["stdlib"])
    found: dict[str, Summarised] = {}
    summaries = set()
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if _LEFT_OUT & set(parts):
            continue
        module = ".".join(parts).removesuffix(".__init__")
        # split by package: docstrings of one package resemble each other
        held_out = hashlib.sha256(f"{SPLIT}:{parts[0]}".encode()).digest()[0] < 26
        for name, text in _documented(path):
            summary, body = _parts(text)
            if summary and body not in found and summary not in summaries:
                summaries.add(summary)
                source = f"{module}.{name}" if name else module
                found[body] = Summarised(source, body, summary, held_out)
    if not found:
        raise InputError(f"{root}: no docstrings with a summary; are Python's sources installed?")
    return tuple(found.values())


def _documented(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the qualified name within the module and the docstring of every documented object."""
    try:
        yield from _inside("", ast.parse(path.read_bytes()))
    except (SyntaxError, ValueError, OSError, RecursionError):
        return  # the library contains deliberately invalid files


def _inside(
    name: str, node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
) -> Iterator[tuple[str, str]]:
    text = ast.get_docstring(node)
    if text:
        yield name, text
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _inside(f"{name}.{child.name}".lstrip("."), child)


def _parts(text: str) -> tuple[str, str]:
    """The summary and the rest of a docstring; both empty where the docstring is unsuitable."""
    summary, _, rest = text.partition("\n")
    summary, body = summary.strip(), _cut(rest.strip())
    few, many = SUMMARY_WORDS
    good = (
        rest.startswith("\n")
        and summary.endswith(".")
        and few <= len(summary.split()) <= many
        and len(body.split()) >= BODY_WORDS[0]
    )
    return (summary, body) if good else ("", "")


def _cut(body: str) -> str:
    """The first words of a text, with its line breaks."""
    ends = [match.end() for match in re.finditer(r"\S+", body)]
    return body if len(ends) <= BODY_WORDS[1] else body[: ends[BODY_WORDS[1] - 1]] + " ..."


def rejected(items: Sequence[Summarised], index: int, generator: torch.Generator) -> str:
    """A worse answer than the summary: for another text, from the body, or a damaged copy."""
    item = items[index]
    kind = int(torch.randint(6, (), generator=generator))
    tokens = item.summary.split()
    if kind == 0:  # the summary of another text
        other = int(torch.randint(len(items) - 1, (), generator=generator))
        return items[other + (other >= index)].summary
    if kind == 1:  # the first sentence of the body
        return " ".join(re.split(r"(?<=[.:])\s", item.body)[0].split()[:25])
    if kind == 2:  # the beginning of the body
        return " ".join(item.body.split()[:60])
    if kind == 3:  # the summary twice
        return f"{item.summary} {item.summary}"
    if kind == 4:  # the words shuffled
        order = torch.randperm(len(tokens), generator=generator).tolist()
        return " ".join(tokens[i] for i in order)
    return " ".join(tokens[: max(len(tokens) // 2, 1)])  # cut off half-way


def pairs(items: Sequence[Summarised], generator: torch.Generator) -> Iterator[dict[str, str]]:
    """Rows {"prompt", "chosen", "rejected", "source"}, one per item; humans wrote the chosen."""
    if len(items) < 2:
        raise InputError(f"{len(items)} docstring; pairs need two or more")
    for i, item in enumerate(items):
        worse = rejected(items, i, generator)
        if worse != item.summary:
            yield {
                "prompt": item.prompt,
                "chosen": item.summary,
                "rejected": worse,
                "source": item.source,
            }


@cache
def _references() -> dict[str, str]:
    return {item.prompt: item.summary for item in docstrings()}


def reference(prompt: Prompt) -> str:
    """The human summary for a prompt (for its last message, if it consists of messages).

    Raises:
        InputError: the prompt is not from this corpus.
    """
    text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
    try:
        return _references()[text]
    except KeyError:
        raise InputError(
            f"{text_of(prompt)[:40]!r}... is no docstring of Python {platform.python_version()}; "
            "write the prompts with this Python, by the command corpus docstrings"
        ) from None


def similarity(prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
    """P(a > b | x) = sigmoid((s(a) - s(b)) / 0.1), [B], where s is similarity to the human summary.

    s is the mean of ROUGE-1 and ROUGE-L (F1). This is a reward model, hence transitive.
    """
    return torch.sigmoid(
        torch.tensor(
            [
                _closeness(y, human) - _closeness(other, human)
                for y, other, human in zip(a, b, map(reference, prompts), strict=True)
            ],
            dtype=torch.float64,
        )
        / TEMPERATURE
    )


def readers(prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
    """P(a > b | x) as the mean of three readers with equal votes, [B]; it can be cyclic.

    Each reader votes by sigmoid((s(a) - s(b)) / 0.1) with its own score s: the share of the human
    summary's words that occur in the answer (recall), the share of the answer's words that occur in
    the summary (precision), or the match in word order (ROUGE-L).
    """
    scores = []
    for answers in (a, b):
        rows = []
        for y, human in zip(answers, map(reference, prompts), strict=True):
            precision, recall, _ = rouge_1(words(y), words(human))
            rows.append((recall, precision, rouge_l(words(y), words(human))))
        scores.append(torch.tensor(rows, dtype=torch.float64).reshape(-1, 3))
    return torch.sigmoid((scores[0] - scores[1]) / TEMPERATURE).mean(-1)


def _closeness(answer: str, human: str) -> float:
    y, z = words(answer), words(human)
    return (rouge_1(y, z)[2] + rouge_l(y, z)) / 2
