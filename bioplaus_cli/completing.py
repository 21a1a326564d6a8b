"""Shell completion of option values, read from the sources because importing takes seconds.

Completion runs at each press of a key, so it must not import torch.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

import click
from click.shell_completion import CompletionItem

Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
"""A function that click calls for the values of an option that begin with a text."""

_GAME = re.compile(r'(?:Game|_cycle)\(\s*"([^"]+)"')


def estimators() -> Iterator[str]:
    """Names of the estimators that are not oracles, including those of installed packages."""
    from bioplaus.registry import added

    yield from (name for name, oracle in _estimators() if not oracle)
    yield from (entry.name for entry in added("bioplaus.estimators"))


def oracles() -> Iterator[str]:
    """Names of the estimators that can serve as the true gradient."""
    return (name for name, oracle in _estimators() if oracle)


def algorithms() -> Iterator[str]:
    """Names of the algorithms that find the equilibrium of a table."""
    for node in _classes(_folder("nlhf") / "algorithms"):
        if isinstance(name := _constants(node).get("name"), str):
            yield name


def games() -> Iterator[str]:
    """Names of the games with known answers, and of the shipped votes."""
    yield from _GAME.findall((_folder("nlhf") / "games.py").read_text("utf-8"))
    for file in sorted((_folder("nlhf") / "data").glob("*.csv")):
        yield file.stem.replace("_", "-")


def one_of(names: Callable[[], Iterable[str]]) -> Completion:
    """Complete a name or, if no name matches, a file, since such options accept files too.

    Args:
        names: returns all names.
    """

    def complete(ctx: click.Context, param: click.Parameter, begun: str) -> list[CompletionItem]:
        found = [CompletionItem(name) for name in sorted(names()) if name.startswith(begun)]
        return found or [CompletionItem(begun, type="file")]

    return complete


def _estimators() -> Iterator[tuple[str, bool]]:
    """Each estimator's name, and whether it or its base is an oracle."""
    classes = {node.name: node for node in _classes(_folder("bioplaus") / "estimators")}

    def is_oracle(node: ast.ClassDef) -> bool:
        flag = _constants(node).get("is_oracle")
        bases = (classes[b.id] for b in node.bases if isinstance(b, ast.Name) and b.id in classes)
        return bool(flag) if flag is not None else any(map(is_oracle, bases))

    for node in classes.values():
        if isinstance(name := _constants(node).get("name"), str):
            yield name, is_oracle(node)


def _folder(package: str) -> Path:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _classes(folder: Path) -> Iterator[ast.ClassDef]:
    for file in sorted(folder.glob("*.py")):
        tree = ast.parse(file.read_text("utf-8"))
        yield from (node for node in tree.body if isinstance(node, ast.ClassDef))


def _constants(node: ast.ClassDef) -> dict[str, object]:
    """Give a class's own attributes that are literals."""
    return {
        target.id: each.value.value
        for each in node.body
        if isinstance(each, ast.Assign) and isinstance(each.value, ast.Constant)
        for target in each.targets
        if isinstance(target, ast.Name)
    }
