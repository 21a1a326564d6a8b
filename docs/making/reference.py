"""The pages of the reference: a table of what a package hands on, and every name's docstring."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

from docs.making.names import PACKAGES, Module, modules, source

DEEP = ("nlhf.language",)
"""Packages whose modules have a page each; those of others share one."""


@cache
def pages() -> dict[str, str]:
    """Write the reference.

    Returns:
        By path in the documentation the Markdown of the page, in the order of the navigation.
    """
    found: dict[str, list[Module]] = {}
    for each in modules():
        found.setdefault(_page(each.name), []).append(each)
    return {f"reference/{name}.md": _markdown(name, inside) for name, inside in found.items()}


@cache
def anchors() -> dict[tuple[str, str], str]:
    """Give by (defining module, name) where the name stands: page and anchor."""
    return {
        (each.homes[name], name): f"{_page(each.name)}.md#{each.homes[name]}.{name}"
        for each in modules()
        for name in each.own
    }


def docstring(module: str, name: str) -> str:
    """Find the docstring of a class or a function, or the text below a constant; "" for none."""
    tree, found = source(module), ""
    for node, after in pairwise([*tree.body, ast.Pass()]):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            found = ast.get_docstring(node) or found  # overloads have none
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        named = any(isinstance(each, ast.Name) and each.id == name for each in targets)
        if named and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found = str(after.value.value)
    return found


def _page(module: str) -> str:
    deep = any(module.startswith(f"{package}.") for package in DEEP)
    return ".".join(module.split(".")[: 3 if deep else 2])


def _markdown(page: str, inside: list[Module]) -> str:
    lines = [f"# {page}", ""]
    for each in inside:
        if each.name != page:
            lines += [f"## {each.name}", ""]
        lines += [each.summary, ""]
        elsewhere = [name for name in each.exported if name not in each.own]
        if elsewhere:
            lines += [*_table(each, elsewhere), ""]
        for name in each.own:
            lines += [f"::: {each.homes[name]}.{name}", ""]
    return "\n".join(lines)


def _table(module: Module, exported: list[str]) -> Iterator[str]:
    anchor_of = anchors()
    yield "| name | |"
    yield "|---|---|"
    for name in exported:
        home = module.homes[name]
        summary = docstring(home, name).partition("\n")[0].replace("|", "\\|")
        yield f"| [`{name}`]({anchor_of[home, name]}) | {summary} |"


def navigation() -> list[dict[str, list[str]]]:
    """List the pages by package, for the navigation."""
    return [
        {package: [page for page in pages() if page.split("/")[1].split(".")[0] == package]}
        for package in PACKAGES
    ]
