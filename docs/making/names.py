"""The public names of the packages, and the one page of the reference on which each stands."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("bioplaus", "nlhf", "bioplaus_votes", "bridge")


@dataclass
class Module:
    """A module or package with public names.

    Attributes:
        name: dotted.
        summary: the first line of its docstring.
        exported: the names of its `__all__`; of a module without one, those that it defines.
        homes: by exported name the module that defines it, dotted.
        own: the exported names that are described on this module's page.
    """

    name: str
    summary: str
    exported: list[str]
    homes: dict[str, str]
    own: list[str] = field(default_factory=list)


@cache
def modules() -> tuple[Module, ...]:
    """Find the public modules, each after the package that it is in.

    A package with `__all__` says what is public of everything in it, but for the four at the top,
    whose modules and packages are public too. What several modules export is described by the
    deepest of them.
    """
    found = [each for package in PACKAGES for each in _inside(ROOT / package, package)]
    for each in found:
        for name in each.exported:
            place = (each.homes[name], name)
            better = [m for m in found if m is not each and m.homes.get(name) == place[0]]
            if not any(_depth(m, place[0]) > _depth(each, place[0]) for m in better):
                each.own.append(name)
    return tuple(found)


def _depth(module: Module, home: str) -> int:
    """How near a module is to where a name is defined; modules apart from it are farthest."""
    near = home == module.name or home.startswith(f"{module.name}.")
    return module.name.count(".") if near else -1


def _inside(folder: Path, name: str) -> list[Module]:
    found = []
    package = _module(folder / "__init__.py", name)
    if package.exported or name in PACKAGES:
        found.append(package)
    if package.exported and name not in PACKAGES:
        return found + _packages(folder, name)
    for path in sorted(folder.glob("*.py")):
        if not path.stem.startswith("_"):
            module = _module(path, f"{name}.{path.stem}")
            found += [module] if module.exported else []
    return found + _packages(folder, name)


def _packages(folder: Path, name: str) -> list[Module]:
    inner = sorted(path.parent for path in folder.glob("*/__init__.py"))
    return [each for path in inner for each in _inside(path, f"{name}.{path.name}")]


def _module(path: Path, name: str) -> Module:
    tree = _tree(path)
    summary = (ast.get_docstring(tree) or "").partition("\n")[0]
    package = path.name == "__init__.py"
    listed = _all(tree)
    defined = _defined(tree)
    if listed is None:
        listed = [] if package else [each for each in defined if not each.startswith("_")]
    imported = _imported(tree, listed)
    homes = {each: imported.get(each, name) for each in listed}
    return Module(name, summary, listed, homes)


def _all(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return None


def _defined(tree: ast.Module) -> list[str]:
    """Classes and functions, and constants that are explained."""
    found = []
    for node, after in pairwise([*tree.body, ast.Pass()]):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.append(node.name)
        explained = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if explained and isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            found += [target.id] if isinstance(target, ast.Name) else []
    return list(dict.fromkeys(found))


def _imported(tree: ast.Module, listed: list[str]) -> dict[str, str]:
    """By listed name the module that defines it, followed through the packages that hand it on."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (name := alias.asname or alias.name) in listed:
                    found[name] = _home(node.module, alias.name)
    return found


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"))


def source(module: str) -> ast.Module:
    """Parse a module or a package; one that is not of this repository is empty."""
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return _tree(file) if file.is_file() else ast.Module([], [])


@cache
def _home(module: str, name: str) -> str:
    tree = source(module)
    if name in _defined(tree):
        return module
    for node in ast.walk(tree):
        given = node.names if isinstance(node, ast.ImportFrom) else []
        if any((alias.asname or alias.name) == name for alias in given):
            return _home(str(node.module), name)
    return module
