"""The documentation: its generated parts are complete, and its commands exist."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import json
import re
from pathlib import Path
from typing import Any

import click
import pytest
import torch

from bioplaus import estimate_gradient
from docs.making import links
from docs.making.names import PACKAGES, modules
from docs.making.records import SECTIONS, separated
from docs.making.reference import anchors, docstring, pages
from docs.making.settings import commands_page, settings_page
from tests.fields import problem
from tests.test_readme import check_command, command_lines, simple_commands

ROOT = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text("utf-8")
    for path in [*(ROOT / "docs").rglob("*.md"), ROOT / "CONTRIBUTING.md"]
}
NOTEBOOKS: dict[str, Any] = {
    path.stem: json.loads(path.read_text("utf-8"))
    for path in (ROOT / "docs" / "tutorials").glob("*.ipynb")
}
# Not this project's programs.
FOREIGN = (".", "export", "lint-imports", "pyright", "ruff", "torchrun", "trap", "wait")


EXAMPLES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if ">>> " in path.read_text("utf-8")
]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_docstrings_run(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0


# mkdocstrings shows a section "Examples:" as code; under any other heading it takes the lines for
# text, their brackets for links.
def test_examples_stand_under_the_heading_that_the_site_knows() -> None:
    for name in EXAMPLES:
        text = ROOT.joinpath(*name.split(".")).with_suffix(".py").read_text("utf-8")
        for block in re.findall(r"^( *)(\w+):\n\1    >>> ", text, re.M):
            assert block[1] == "Examples", name


def test_every_public_name_has_a_summary() -> None:
    bare = [
        f"{each.homes[name]}.{name}"
        for each in modules()
        for name in each.own
        if not docstring(each.homes[name], name).partition("\n")[0].strip()
    ]
    assert bare == []


def test_every_name_of_every_all_stands_in_the_reference_once() -> None:
    listed = {
        each.name: importlib.import_module(each.name)
        for each in modules()
        if (ROOT.joinpath(*each.name.split(".")) / "__init__.py").is_file()
    }
    assert set(PACKAGES) <= listed.keys()
    found = {each.name: each for each in modules()}
    for name, module in listed.items():
        exported = getattr(module, "__all__", [])
        assert sorted(exported) == sorted(found[name].exported)
        for each in exported:
            assert hasattr(module, each)
    text = "\n".join(pages().values())
    written = re.findall(r"^::: (\S+)$", text, re.M)
    assert len(written) == len(set(written)) == len(anchors()) > 800
    assert set(written) == {f"{home}.{name}" for home, name in anchors()}
    assert {(m.homes[n], n) for m in modules() for n in m.exported} == anchors().keys()


def test_packages_with_an_all_are_all_looked_at() -> None:
    found = {each.name for each in modules()}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("__init__.py"):
            name = ".".join(path.parent.relative_to(ROOT).parts)
            inside = any(name.startswith(f"{each}.") for each in found - set(PACKAGES))
            has = any(
                isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
                for node in ast.parse(path.read_text("utf-8")).body
            )
            assert not has or name in found or inside, name


def test_the_settings_page_has_every_key() -> None:
    from bioplaus_cli.hints import CONFIGS
    from bridge.config import valid_keys

    text = settings_page()
    for places in CONFIGS.values():
        for place in places:
            module, _, name = place.partition(":")
            for key in valid_keys(getattr(importlib.import_module(module), name)):
                assert f"| `{key}` |" in text
    assert "| `optimizer.momentum` | `0.9` | number, >= 0, < 1 |" in text
    assert "Read with `optimizer.method=` `momentum`." in text


def test_the_commands_page_has_every_command() -> None:
    text = commands_page()
    for name in ("eqprop-run", "runs list", "data check", "corpus docstrings"):
        assert f"## `{name}`" in text
    assert "--print-config" in text


def test_the_navigation_names_pages_that_are_there() -> None:
    named = re.findall(r": ([\w/.-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.M)
    made = {"index.md", "changelog.md", "contributing.md", "settings.md", "commands.md"}
    made |= {f"tutorials/{name}.md" for name in NOTEBOOKS}
    made |= {f"records/{name}.md" for name in SECTIONS}
    written = {name.removeprefix("docs/") for name in PAGES if name.startswith("docs/")}
    assert set(named) == made | written
    assert len(named) == len(set(named))


def test_measurements_are_on_pages_of_their_own() -> None:
    made = separated(ROOT / "docs")
    for name in SECTIONS:
        whole = PAGES[f"docs/{name}.md"]
        manual, record = made[f"{name}.md"], made[f"records/{name}.md"]
        headings = re.findall(r"^##.*", whole, re.M)
        split = re.findall(r"^##.*", manual, re.M) + re.findall(r"^##.*", record, re.M)
        assert sorted(headings) == sorted(split)
        assert abs(len(manual) + len(record) - len(whole)) < 500
    assert "](../figures/angle-over-training.png)" in made["records/gradient-laboratory.md"]
    assert "](../records/language-models.md#a-real-model)" in made["records/methods.md"]


def test_the_code_of_adding_something_runs() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGES["docs/howto/add.md"], re.M | re.S)
    names: dict[str, Any] = {"__name__": __name__}
    for block in blocks:
        exec(compile(block, "add.md", "exec"), names)
    given = problem()
    updates = estimate_gradient(
        given.field, given.x, given.y, "squared-error", estimator=names["Signs"](share=0.5)
    ).updates
    assert all(set(each.abs().unique().tolist()) <= {0.0, 0.5} for each in updates.values())
    s, y = torch.rand(3, 4), torch.tensor([0, 1, 2])
    assert names["absolute"](s, y).shape == (3,)
    assert names["shorter"](["x"], ["a"], ["abc"]) == [0.75]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_kept_without_what_it_printed(name: str) -> None:
    for cell in NOTEBOOKS[name]["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def shell_lines() -> list[tuple[str, str]]:
    texts = dict(PAGES)
    for name, notebook in NOTEBOOKS.items():
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
        texts[name] = "\n\n".join("".join(cell["source"]) for cell in cells)
    return [(name, line) for name, text in texts.items() for line in command_lines(text)]


@pytest.mark.parametrize(("page", "line"), shell_lines())
def test_every_command_of_the_documentation_is_one(page: str, line: str) -> None:
    for words in simple_commands(line):
        if words[0] in FOREIGN or "..." in words or words[:2] == ["python", "-m"]:
            continue
        try:
            check_command([word.replace("bioplaus[", ".[") for word in words])
        except click.UsageError as error:
            pytest.fail(f"{page}: {line}: {error.format_message()}")


def test_the_link_check_finds_what_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h1 id="here">A</h1><a href="#here">1</a><a href="b.html#there">2</a>'
        '<a href="gone.html">3</a><a href="#nowhere">4</a><a href="https://elsewhere.org">5</a>'
        '<script src="https://elsewhere.org/x.js"></script><img src="no.png">'
    )
    (tmp_path / "b.html").write_text('<a name="there">B</a><img src="data:image/png;base64,AA">')
    assert sorted(links.mistakes(tmp_path)) == [
        "a.html: #nowhere has no such place",
        "a.html: gone.html is not there",
        "a.html: loads https://elsewhere.org/x.js",
        "a.html: no.png is not there",
    ]


OPTIONAL = ("triton", "brian2")
"""Packages of extras, with which alone some modules can be imported."""


def test_every_public_method_is_explained_there_or_in_a_base() -> None:
    bare = []
    for each in modules():
        for name in each.own:
            try:
                kind = getattr(importlib.import_module(each.homes[name]), name)
            except ModuleNotFoundError as error:
                if error.name not in OPTIONAL:
                    raise
                continue
            for method in vars(kind) if inspect.isclass(kind) else ():
                # a callable that is a default is a field, which Attributes explain
                if method.startswith("_") or method in getattr(kind, "__dataclass_fields__", {}):
                    continue
                found = vars(kind)[method]
                if not (inspect.isfunction(found) or isinstance(found, property)):
                    continue
                bases = [vars(base).get(method) for base in inspect.getmro(kind)]
                if not any(inspect.getdoc(base) for base in bases if base is not None):
                    bare.append(f"{each.homes[name]}.{name}.{method}")
    assert bare == []
