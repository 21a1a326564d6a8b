"""Load users' code by `module:name` or `file.py:name`; note its file and hash for the log."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from bridge.errors import InputError
from bridge.failures import describe, user_place

EVENT = "code"
"""Kind of the log event that holds a provenance."""

_loaded: dict[str, tuple[Path, str]] = {}
"""Modules that this loader has imported: file and sha256."""


_homes: dict[str, Path] = {}
"""Code files that logs have named, by their specification."""


@dataclass(frozen=True)
class Provenance:
    """Where a user's object comes from.

    Attributes:
        what: which setting named it, e.g. "dataset".
        spec: its specification, as the user wrote it.
        file: the file that defines it; "" if there is none, as for code in C.
        sha256: of the file, hexadecimal; "" without a file.
    """

    what: str
    spec: str
    file: str
    sha256: str

    def as_event(self) -> dict[str, str]:
        """Give the data of a log event of kind EVENT."""
        return asdict(self)


def names_code(text: str) -> bool:
    """Tell whether a text is `module:name` or `file.py:name` rather than a file or a folder."""
    return ":" in text and not os.path.exists(text)


def load_object(spec: str, what: str, also: type | tuple[type, ...] = ()) -> tuple[Any, Provenance]:
    """Import the object that `module:name` or `file.py:name` names; the name may be dotted.

    A module is searched for in the working folder first, as `python -m` does. The imports of a file
    are searched for in its own folder first, as `python file.py` does. A file that has changed
    since this process imported it is imported again.

    Args:
        spec: of the object, which must be callable: a function or a class.
        what: the setting that names it, for messages: "dataset", "field".
        also: types of objects that need not be callable.

    Returns:
        The object and its provenance.

    Raises:
        InputError: there is no such module, file or name, the code fails on import, or the object
            cannot be called; one line.
    """
    subject = f"{what}={spec[:200]!r}"
    place, _, name = spec.rpartition(":")
    if not place or not all(part.isidentifier() for part in name.split(".")):
        raise InputError(f"{subject}: write module:name or file.py:name, e.g. mine:load")
    if place.endswith(".py"):
        path = Path(os.path.expanduser(place))
        module = _import_file(path if path.exists() else _home(spec) or path, subject)
    else:
        module = _import_module(place, subject, _home(spec))
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise InputError(f"{subject}: {place} has no {name!r}; {_near(part, found)}")
        found = getattr(found, part)
    if not (callable(found) or isinstance(found, also)):
        raise InputError(
            f"{subject}: is {type(found).__name__}, which cannot be called; name a function or a "
            "class"
        )
    return found, provenance_of(found, what, spec, module)


def provenance_of(found: Any, what: str, spec: str, module: ModuleType | None = None) -> Provenance:
    """Find where an object comes from.

    Args:
        found: the object.
        what: which setting named it.
        spec: its specification.
        module: where it was found; stands in for the object's file if it has none of its own.
    """
    file = _file_of(found, module)
    digest = _sha256(file) if file else ""
    return Provenance(what, spec, str(file or ""), digest)


def remember(events: Iterable[Mapping[str, Any]]) -> None:
    """Also search for code in the places that a log has noted.

    Args:
        events: of the log; their paths and modules are relative to the folder where it was begun.
    """
    for each in events:
        if each["kind"] == EVENT and each.get("file"):
            _homes[each["spec"]] = Path(each["file"])


def remembered() -> list[dict[str, str]]:
    """Give what `remember` has stored, for the other processes of a run."""
    return [{"kind": EVENT, "spec": spec, "file": str(file)} for spec, file in _homes.items()]


def _home(spec: str) -> Path | None:
    """Find the file that a log has noted for this name, if it is the one to import."""
    file, place = _homes.get(spec), spec.rpartition(":")[0]
    if file is None or not file.is_file():
        return None
    own = os.path.basename(place) if place.endswith(".py") else place.rpartition(".")[2] + ".py"
    return file if file.name == own else None


def changes(
    origins: Iterable[Provenance], events: Iterable[Mapping[str, Any]]
) -> Iterator[tuple[Provenance, str]]:
    """Compare the code that a log has noted with the code of now.

    Returns:
        The changed code; and one line that describes the changes.
    """
    was = {(e["what"], e["spec"]): e["sha256"] for e in events if e["kind"] == EVENT}
    for each in origins:
        before = was.get((each.what, each.spec), each.sha256)
        if before != each.sha256:
            yield (
                each,
                f"{each.what}={each.spec}: {Path(each.file).name} has changed since the run began "
                f"(sha256 {before[:12]}, now {each.sha256[:12]})",
            )


def record_origins(
    origins: Iterable[Provenance],
    events: Iterable[Mapping[str, Any]],
    note: Callable[..., None],
    warn: Callable[[str], None],
) -> None:
    """Note in a log where its code comes from, and report what has changed since the last note.

    Args:
        origins: of the code that runs now.
        events: the events already in the log; empty for a new one.
        note: writes an event, as `RunLog.event` does.
        warn: receives a message for each file that has changed.
    """
    origins, events = tuple(origins), tuple(events)
    known = {(e["what"], e["spec"]) for e in events if e["kind"] == EVENT}
    changed = dict(changes(origins, events))
    for each in origins:
        if each in changed or (each.what, each.spec) not in known:
            note(EVENT, **each.as_event())
        if each in changed:
            warn(f"{changed[each]}; from here on it runs as it is now")


@contextmanager
def running(subject: str) -> Iterator[None]:
    """Within the block, turn an error in users' code into one line that names its place.

    Args:
        subject: how the line begins, e.g. "dataset='mine:load'".

    Raises:
        InputError: users' code has failed; exceptions of other code pass through.
    """
    try:
        yield
    except Exception as error:
        if user_place(error) is None:
            raise
        raise InputError(f"{subject}: {describe(error)}") from None


def _import_file(path: Path, subject: str) -> ModuleType:
    try:
        code = path.read_bytes()
        path = path.resolve()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        near = get_close_matches(path.name, _python_files(path.parent), 1)
        hint = f"did you mean {near[0]}?" if near else "check the path"
        raise InputError(f"{subject}: {path} cannot be read ({reason}); {hint}") from None
    # Not the file's own name: a user's data.py or test.py must not hide an installed module.
    identity = hashlib.sha256(os.fsencode(path) + code).hexdigest()
    name = f"{path.stem}_{identity[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    module = sys.modules[name] = ModuleType(name)
    module.__file__ = str(path)

    def execute() -> None:
        # Execute the text that was hashed, not bytecode cached within the same second.
        exec(compile(code, str(path), "exec", dont_inherit=True), module.__dict__)

    try:
        _run(execute, path.parent, subject, path.name)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(name: str, subject: str, home: Path | None = None) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise InputError(
            f"{subject}: {name[:100]!r} is no module's name; write module:name or file.py:name"
        )
    _forget_stale(name)
    importlib.invalidate_caches()
    folder = Path.cwd()
    if home is not None and not _is_found(name):
        folder = home.parents[name.count(".")]
    module = _run(lambda: importlib.import_module(name), folder, subject, name)
    file = getattr(module, "__file__", None)
    if file and Path(file).is_relative_to(Path.cwd()):
        _loaded[name] = Path(file), _sha256(Path(file))
    return module


def _is_found(name: str) -> bool:
    """Whether such a module exists, as seen from the working folder."""
    first = name.partition(".")[0]
    here = Path.cwd() / first
    return (
        first in sys.modules
        or here.with_suffix(".py").exists()
        or here.is_dir()
        or importlib.util.find_spec(first) is not None
    )


def _forget_stale(name: str) -> None:
    """Drop a module of an earlier call if its file has changed or lies in another folder."""
    if name in _loaded and name in sys.modules:
        file, digest = _loaded[name]
        if not file.is_relative_to(Path.cwd()) or _sha256(file) != digest:
            del sys.modules[name], _loaded[name]


def _run(execute: Callable[[], Any], folder: Path, subject: str, name: str) -> Any:
    """Import with a folder first on the path; it stays there, last, for imports in functions."""
    here = str(folder)
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        return execute()
    except (KeyboardInterrupt, MemoryError):
        raise
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing == name or name.startswith(f"{missing}."):
            raise InputError(f"{subject}: no module {missing!r}; {_near_module(missing)}") from None
        raise InputError(
            f"{subject}: {name} imports {missing!r}, which is not here; install it, or start where "
            "it lies"
        ) from None
    except SyntaxError as error:
        raise InputError(
            f"{subject}: {Path(error.filename or name).name}:{error.lineno}: {error.msg}; mend it"
        ) from None
    except BaseException as error:  # whatever the user's module raises on import
        raise InputError(f"{subject}: fails when it is imported: {describe(error)}") from None
    finally:
        if added and here in sys.path:
            sys.path.remove(here)
            sys.path.append(here)


def _near(name: str, owner: Any) -> str:
    names = [each for each in dir(owner) if not each.startswith("__")]
    near = get_close_matches(name, names, 1)
    if near:
        return f"did you mean {near[0]!r}?"
    home = getattr(owner, "__module__", owner.__name__)
    own = [n for n in names if getattr(getattr(owner, n), "__module__", "") == home]
    return f"it has {', '.join(own[:8])}" if own else "it defines nothing of its own"


def _near_module(name: str) -> str:
    near = get_close_matches(f"{name}.py", _python_files(Path.cwd()), 1)
    if near:
        return f"did you mean {near[0].removesuffix('.py')}?"
    return "it is neither installed nor in this folder; file.py:name takes a path"


def _python_files(folder: Path) -> list[str]:
    try:
        return sorted(each.name for each in folder.iterdir() if each.suffix == ".py")
    except (OSError, ValueError):
        return []


def _file_of(found: Any, module: ModuleType | None) -> Path | None:
    """Find the source file that defines an object, or else its module's file."""
    try:
        file = inspect.getsourcefile(inspect.unwrap(found))
    except (TypeError, OSError):
        file = None
    if module is None and file is None:
        module = sys.modules.get(type(found).__module__)
    file = file or getattr(module, "__file__", None)
    return Path(file).resolve() if file and os.path.isfile(file) else None


def _sha256(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""
