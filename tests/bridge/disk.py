"""A disk that lost its power: the files that may be left, given all writes to it.

The file system is assumed to behave as follows. Each page written since its file was last forced
may have the content of any moment since then, independently of other pages. The same holds for the
size of a file. New names, renames and removals in a folder take effect in their order, up to some
point, whatever happened to the files. Forcing a file fixes its content and size, and forcing a
folder fixes its names. Nothing else is fixed.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_HEAD = struct.Struct("<c5Q")


@dataclass(frozen=True)
class Call:
    """One system call; see tests/bridge/recorded_calls.c for the kinds."""

    kind: str
    inode: int
    place: int
    length: int
    name: str
    data: bytes


def calls(trace: Path, folder: Path) -> list[Call]:
    """Read a trace; names become relative to the folder."""
    text, at, found = trace.read_bytes(), 0, []
    while at < len(text):
        kind, inode, place, length, of_name, of_data = _HEAD.unpack_from(text, at)
        at += _HEAD.size
        name, data = text[at : at + of_name], text[at + of_name : at + of_name + of_data]
        at += of_name + of_data
        if kind in b"RL":
            data = os.path.relpath(data, os.fsencode(folder))
        where = os.path.relpath(os.fsdecode(name), folder) if name else ""
        found.append(Call(kind.decode(), inode, place, length, where, data))
    return found


@dataclass
class File:
    """A file's content when it was last forced, and the calls since."""

    content: bytearray = field(default_factory=bytearray)
    since: list[Call] = field(default_factory=list)

    def forced(self) -> None:
        """Make everything permanent."""
        self.content = self.state(lambda page: len(self.since), len(self.since), 4096)
        self.since = []

    def sizes(self) -> list[int]:
        """The size when it was last forced, and after each call since."""
        found = [len(self.content)]
        for call in self.since:
            cut = call.kind == "T"
            found.append(call.place if cut else max(found[-1], call.place + call.length))
        return found

    def pages(self, size: int) -> list[int]:
        """The pages among so many bytes that were written since."""
        touched = set()
        for call in self.since:
            if call.kind == "W":
                last = call.place + len(call.data) - 1
                touched |= set(range(call.place // size, last // size + 1))
        return sorted(touched)

    def state(self, until: Callable[[int], int], sized: int, size: int) -> bytearray:
        """The content that the disk may hold.

        Args:
            until: by page number, how many of the calls since have reached the page.
            sized: how many have reached the size.
            size: bytes of a page.
        """
        sizes = self.sizes()
        end, longest = sizes[sized], max(sizes)
        content = self.content + bytes(longest - len(self.content))
        for i, call in enumerate(self.since):
            if call.kind == "T":
                # Truncated parts read as zeros, however long the file becomes again.
                if sized > i:
                    content[call.place :] = bytes(max(len(content) - call.place, 0))
                continue
            if call.kind != "W":
                continue
            start, last = call.place, call.place + len(call.data)
            for page in range(start // size, (last - 1) // size + 1):
                if i < until(page):
                    at, stop = max(page * size, start), min((page + 1) * size, last)
                    content[at:stop] = call.data[at - start : stop - start]
        return content[:end]


@dataclass
class Folder:
    """The names in a folder when it was last forced, and the calls since."""

    names: dict[str, int] = field(default_factory=dict)
    since: list[tuple[str, int | None, str]] = field(default_factory=list)

    def state(self, count: int) -> dict[str, int]:
        """The names after so many of the calls since."""
        names = dict(self.names)
        for name, node, old in self.since[:count]:
            if old:
                names.pop(old, None)
            if node is None:
                names.pop(name, None)
            else:
                names[name] = node
        return names

    def forced(self) -> None:
        """Make everything permanent."""
        self.names, self.since = self.state(len(self.since)), []


class Disk:
    """All requests to a disk up to a moment, and what a power cut may leave of them."""

    def __init__(self) -> None:
        """Start with an empty folder."""
        self._nodes: dict[int, File | Folder] = {0: Folder()}
        self._by_inode: dict[int, int] = {}
        self._next = 1

    def do(self, call: Call) -> None:
        """Process a call."""
        if call.kind in "ND":
            node, self._next = self._next, self._next + 1
            self._nodes[node] = File() if call.kind == "N" else Folder()
            if call.kind == "N":
                self._by_inode[call.inode] = node
            self._name(call.name, node)
        elif call.kind in "WTA":
            file = self._nodes.get(self._by_inode.get(call.inode, -1))
            if isinstance(file, File):
                file.since.append(call)
        elif call.kind == "F":
            node = self._find(call.name)
            if node is None:
                node = self._by_inode.get(call.inode)
            if node is not None:
                self._nodes[node].forced()
        elif call.kind == "U":
            self._name(call.name, None)
        elif call.kind in "RL":
            node = self._find(call.name)
            if node is not None:
                old = os.path.basename(call.name) if call.kind == "R" else ""
                self._name(os.fsdecode(call.data), node, old)

    def _parent(self, name: str) -> Folder | None:
        found = self._find(os.path.dirname(name))
        parent = None if found is None else self._nodes[found]
        return parent if isinstance(parent, Folder) else None

    def _find(self, name: str) -> int | None:
        node = 0
        for part in [p for p in name.split("/") if p not in ("", ".")]:
            folder = self._nodes[node]
            names = folder.state(len(folder.since)) if isinstance(folder, Folder) else {}
            if part not in names:
                return None
            node = names[part]
        return node

    def _name(self, name: str, node: int | None, old: str = "") -> None:
        parent = self._parent(name)
        if parent is not None:
            parent.since.append((os.path.basename(name), node, old))

    def leave(self, folder: Path, choice: Choice) -> None:
        """Write into an empty folder what a power cut may leave."""
        self._leave(0, folder, choice)

    def _leave(self, number: int, path: Path, choice: Choice) -> None:
        node = self._nodes[number]
        if isinstance(node, File):
            path.write_bytes(choice.content(node))
            return
        path.mkdir(exist_ok=True)
        for name, inner in node.state(choice.names(node)).items():
            self._leave(inner, path / name, choice)


class Choice:
    """Chooses how much of what was not forced has reached the disk."""

    KINDS = ("nothing", "everything", "names", "sizes", "all but one", "only one", "some", "any")

    def __init__(self, kind: str, page: int, random_: random.Random) -> None:
        """Set the kind of choice.

        Args:
            kind: one of KINDS: nothing; everything; names without content; names and sizes without
                content; all pages but one; a single page, without or with names; a random subset of
                pages; each page as of a random moment.
            page: bytes that are written atomically.
            random_: source of randomness.
        """
        self._kind, self._page, self._random = kind, page, random_
        self._all = random_.random() < 0.5

    def names(self, folder: Folder) -> int:
        """How many of the calls since have reached a folder."""
        n = len(folder.since)
        if self._kind == "nothing":
            return 0
        if self._kind in ("some", "any"):
            return self._random.randint(0, n)
        return n if self._kind != "only one" or self._all else 0

    def content(self, file: File) -> bytes:
        """The content of a file that has reached the disk."""
        n, random_ = len(file.since), self._random
        if not n:
            return bytes(file.content)
        pages = file.pages(self._page)
        chosen = random_.choice(pages) if pages else -1
        share = random_.choice((0.1, 0.5, 0.9))
        until: dict[int, int] = {}
        for page in pages:
            until[page] = {
                "nothing": 0,
                "everything": n,
                "names": 0,
                "sizes": 0,
                "all but one": 0 if page == chosen else n,
                "only one": n if page == chosen else 0,
                "some": n * (random_.random() < share),
                "any": random_.randint(0, n),
            }[self._kind]
        sized = n if self._kind not in ("nothing", "names", "any") else 0
        if self._kind == "any":
            sized = random_.randint(0, n)
        return bytes(file.state(until.__getitem__, sized, self._page))


def kinds_of_forcing(trace: list[Call]) -> Iterator[str]:
    """Each forced file or folder, by its name without numbers and random parts."""
    seen = set()
    for call in trace:
        if call.kind == "F":
            kind = general(call.name)
            if kind not in seen:
                seen.add(kind)
                yield kind


def general(name: str) -> str:
    """A name without numbers and random parts."""
    if name.endswith(" (deleted)"):
        return general(name.removesuffix(" (deleted)")) + " (deleted)"
    parts = []
    for part in name.split("/"):
        words = ["N" if word.isdigit() else word for word in part.replace("-", ".-.").split(".")]
        parts.append(".".join(words).replace(".-.", "-"))
    return "/".join(parts)
