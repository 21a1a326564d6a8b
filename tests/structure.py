"""The rules of the architecture, as functions from sources to violations.

Sources are a dict from a module's dotted name ("bioplaus.fields.__init__" for a package's own file)
to its text, so that the rules can be tested on invented modules.
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

ENGINES = ("bioplaus", "nlhf")
BELOW = (*ENGINES, "bridge", "bioplaus_votes")
ONLY_IN = {
    "h5py": "bridge.runlog",
    "matplotlib": "bridge.report",
    "plotly": "bridge.report",
    "brian2": "bioplaus.engines",
    "PIL": "bioplaus.data",
    "transformers": "nlhf.language",
    "peft": "nlhf.language",
    "bitsandbytes": "nlhf.language",
    "vllm": "nlhf.language",
}
OPTIONAL = ("PIL", "matplotlib", "plotly", "brian2", "nir", "transformers", "peft")
OPTIONAL += ("bitsandbytes", "vllm")
RUNS_CODE_ON_LOAD = ("pickle", "_pickle", "cPickle", "cloudpickle", "dill", "shelve", "joblib")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
MAX_LONG_FUNCTION_LINES = 80
"""Maximum lengths, of tests and of the functions named in LONG."""
LONG = frozenset(
    {
        # a kernel is compiled as a whole
        "bioplaus.device.grid._settle_rows",
        "bioplaus.device.grid.settle_grid",
        "bioplaus.device.pair.settle_pair",
        "nlhf.device.nash_steps.nash_steps",
        # parameter lists take up many of their lines
        "bioplaus.fields.convolutional.convolutional",
        "bioplaus.fields.leaky.__init__",
        "bioplaus.training.fitting.fit",
        "bridge.session.training_session",
    }
)
FACTORISES = {"inv", "det", "lu", "lu_factor", "slogdet", "solve", "tensorinv", "tensorsolve"}
"""Functions of torch.linalg that use an LU, which is wrong for batches on several threads."""
GUARDED = ("bioplaus.linear", "nlhf.linear")
PRINTING_MODULES = ("cli", "bioplaus_cli", "bridge.console")

Sources = Mapping[str, str]


@dataclass(frozen=True)
class Import:
    """One imported module or name, as written in one line of the importing module."""

    importer: str
    imported: str
    line: int
    at_import_time: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


@cache
def _tree(text: str) -> ast.Module:
    """A source as a tree, which no rule changes."""
    return ast.parse(text)


def inside(module: str, package: str) -> bool:
    """Whether the module is the package or part of it."""
    return module == package or module.startswith(package + ".")


def module_name(key: str) -> str:
    """The name under which a source is imported."""
    return key.removesuffix(".__init__")


def imports(sources: Sources) -> list[Import]:
    """All imports in all sources; `from a import b` means a.b if that is a module."""
    modules = {module_name(key) for key in sources}
    found = []
    for key, text in sources.items():
        package = key.rpartition(".")[0]
        for node, at_import_time in _walk(_tree(text), at_import_time=True):
            for name in _imported_names(node, package):
                parent = name.rpartition(".")[0]
                is_name = name not in modules and parent in modules
                imported = parent if is_name else name
                line = getattr(node, "lineno", 0)
                found.append(Import(module_name(key), imported, line, at_import_time))
    return found


def _walk(node: ast.AST, at_import_time: bool) -> Iterator[tuple[ast.AST, bool]]:
    """Every node, and whether it is executed when its module is imported."""
    yield node, at_import_time
    for name, value in ast.iter_fields(node):
        later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
            isinstance(node, ast.If) and name == "body" and "TYPE_CHECKING" in ast.dump(node.test)
        )
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _walk(child, at_import_time and not later)


def _imported_names(node: ast.AST, package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parts = package.split(".")
            base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
        return [f"{base}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
        ("import_module", "__import__")
    ):
        return [a.value for a in node.args if isinstance(a, ast.Constant) and type(a.value) is str]
    return []


def wrong_reach(sources: Sources) -> list[str]:
    """Imports across packages that are not allowed."""
    wrong = []
    for each in imports(sources):
        importer = each.importer.split(".")
        to = each.imported.split(".")[0]
        allowed = importer[1:2] in (["training"], ["config"])
        # one class of errors for the whole program; its module imports nothing
        allowed |= importer[1:] in (["errors"], ["calling"]) and each.imported.startswith(
            f"bridge.{importer[-1]}"
        )
        is_door = importer[1:] == ["__main__"]
        if (
            (importer[0] == "bridge" and to in ENGINES)
            or (importer[0] in ENGINES and to in ENGINES and to != importer[0])
            or (importer[0] in ENGINES and to == "bridge" and not allowed)
            or (importer[0] in BELOW and to in ("cli", "bioplaus_cli") and not is_door)
            or (importer[0] in (*ENGINES, "bridge") and to == "bioplaus_votes")
        ):
            wrong.append(str(each))
    return wrong


def wrong_place(sources: Sources) -> list[str]:
    """Imports of a library outside the one package that may use it, or not lazily as required."""
    wrong = []
    for each in imports(sources):
        library = each.imported.split(".")[0]
        place = ONLY_IN.get(library)
        if place is not None and not inside(each.importer, place):
            wrong.append(f"{each}; only {place} may")
        elif library in OPTIONAL and each.at_import_time:
            wrong.append(f"{each} outside of a function, but it is optional")
    return wrong


def wrong_order(sources: Sources, order: Mapping[str, list[str]]) -> list[str]:
    """Imports within a package from a later part of its order, and parts without a place in it."""
    wrong = []
    for key in sources:
        package, *rest = key.split(".")
        if package in order and rest[0] not in (*order[package], "__init__"):
            wrong.append(f"{key} has no place in the order of {package} (pyproject.toml, layers)")
    for each in imports(sources):
        package, *unit = each.importer.split(".")
        other, *part = each.imported.split(".")
        if package not in order or other != package or not unit or unit[:1] == part[:1]:
            continue
        places = order[package]
        if not part:
            wrong.append(f"{each}, its own package, which imports it")
        elif unit[0] in places and part[0] in places[places.index(unit[0]) :]:
            wrong.append(f"{each}, which comes later")
    return wrong


def cycles(sources: Sources) -> list[str]:
    """Modules that import each other in a cycle; one cycle at a time."""
    modules = {module_name(key) for key in sources}
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for each in imports(sources):
        if each.imported in modules and each.imported != each.importer:
            graph[each.importer].add(each.imported)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return [" <- ".join(error.args[1])]
    return []


def wrong_size(sources: Sources) -> list[str]:
    """Files and functions that are too long; docstrings of functions do not count."""
    wrong = []
    for key, text in sources.items():
        if len(text.splitlines()) > MAX_FILE_LINES:
            wrong.append(f"{key}: {len(text.splitlines())} lines, {MAX_FILE_LINES} at most")
        for node in ast.walk(_tree(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = _length(node)
                if ast.get_docstring(node) is not None:
                    lines -= _length(node.body[0])
                name = f"{key}.{node.name}"
                most = MAX_FUNCTION_LINES
                if name in LONG or inside(key, "tests"):
                    most = MAX_LONG_FUNCTION_LINES
                if lines > most:
                    wrong.append(f"{name}: {lines} lines, {most} at most")
    return wrong


def _length(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def code_on_load(sources: Sources) -> list[str]:
    """Any use of code that can execute what it loads: pickle, in all its forms."""
    wrong = [
        str(each)
        for each in imports(sources)
        if each.imported.split(".")[0] in RUNS_CODE_ON_LOAD
        or each.imported in ("torch.load", "torch.save")
    ]
    for key, text in sources.items():
        tree = _tree(text)
        torches = {"torch"} | {
            alias.asname
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.name == "torch" and alias.asname
        }
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and node.attr in ("load", "save")
                and isinstance(node.value, ast.Name)
                and node.value.id in torches
            ):
                wrong.append(f"{key}:{node.lineno} uses torch.{node.attr}")
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                wrong.append(f"{key}:{node.value.lineno} says allow_pickle")
    return wrong


def prints(sources: Sources) -> list[str]:
    """Uses of `print` outside the command line."""
    return [
        f"{key}:{node.lineno} prints"
        for key, text in sources.items()
        if not any(inside(module_name(key), module) for module in PRINTING_MODULES)
        for node in ast.walk(_tree(text))
        if isinstance(node, ast.Name) and node.id == "print"
    ]


def bare_factorisations(sources: Sources) -> list[str]:
    """LU factorisations by torch outside the modules that guard them."""
    return [
        f"{key}:{node.lineno} uses {ast.unparse(node)}; take `solve` of {' or '.join(GUARDED)}"
        for key, text in sources.items()
        if module_name(key) not in GUARDED
        for node in ast.walk(_tree(text))
        if isinstance(node, ast.Attribute)
        and (
            (ast.unparse(node.value) == "torch.linalg" and _stem(node.attr) in FACTORISES)
            or (
                ast.unparse(node.value) == "torch"
                and node.attr in ("inverse", "logdet", "lu_solve")
            )
            or node.attr in ("inverse", "logdet", "slogdet")
        )
    ]


def _stem(name: str) -> str:
    return name.removesuffix("_ex")
