"""PrefLib's rankings of candidates: .soc, .soi, .toc and .toi."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np

from nlhf.errors import InputError
from nlhf.preferences.battles import Battles

ENDINGS = {
    ".soc": "strict complete orders",
    ".soi": "strict incomplete orders",
    ".toc": "complete orders with ties",
    ".toi": "incomplete orders with ties",
}
_GROUP = re.compile(r"\{([^{}]*)\}|([^,{}]+)")


def read_preflib(text: str, source: str) -> Battles:
    """Read ballots: each compares every pair that it ranks once; equal ranks are a tie.

    Candidates that an incomplete ballot omits are not compared. A ballot belongs to one voter, so
    resampling draws whole ballots.

    Raises:
        InputError: unreadable file, invalid ballot, or one that the file type does not allow.

    Source: preflib.org, "Data Format".
    """
    kind = ENDINGS.get(Path(source).suffix.lower(), "orders")
    taken = f"it was taken for PrefLib, {kind}"
    names, ballots = _lines(text, source, taken)
    if len(names) < 2:
        raise InputError(f"{source}: {len(names)} alternatives are named; {taken}")
    if not ballots:
        raise InputError(f"{source}: no ballot below the names; {taken}")
    rows: list[tuple[int, int, int, int]] = []
    index = {number: i for i, number in enumerate(names)}
    for n, (line, _, groups) in enumerate(ballots):
        where = f"{source}:{line}"
        flat = [a for group in groups for a in group]
        unknown = next((a for a in flat if a not in index), None)
        if unknown is not None:
            raise InputError(f"{where}: alternative {unknown} has no name above; {taken}")
        if len(set(flat)) < len(flat):
            raise InputError(f"{where}: an alternative stands twice on one ballot; {taken}")
        if "ties" not in kind and kind != "orders" and any(len(group) > 1 for group in groups):
            raise InputError(f"{where}: a tie on a ballot of a strict order; {taken}")
        if " complete" in f" {kind}" and len(flat) < len(names):
            raise InputError(f"{where}: ranks {len(flat)} of {len(names)}; {taken}")
        for upper, group in enumerate(groups):
            below = [a for other in groups[upper + 1 :] for a in other]
            rows += [(n, index[a], index[b], 0) for a in group for b in below]
            rows += [(n, index[a], index[b], 1) for a, b in itertools.combinations(group, 2)]
    if not rows:
        raise InputError(f"{source}: no ballot ranks two alternatives; {taken}")
    ballot, first, second, tied = np.array(rows, dtype=np.int64).T
    cast = np.array([times for _, times, _ in ballots], dtype=np.float64)
    left_out = "; what a ballot leaves out is compared with nothing" if "incomplete" in kind else ""
    voters = f"{cast.sum():,.0f} ballots"
    return Battles(
        name=source,
        layout=f"PrefLib, {kind}: {voters}{left_out}",
        items=tuple(names.values()),
        first=first,
        second=second,
        won=1.0 - tied,
        lost=np.zeros(len(rows)),
        tied=tied.astype(np.float64),
        ballot=ballot,
        times=cast,
    )


_Ballot = tuple[int, int, list[list[str]]]


def _lines(text: str, source: str, taken: str) -> tuple[dict[str, str], list[_Ballot]]:
    """The alternatives' names by number, and each ballot's line number, multiplicity and groups."""
    lines = [(n, line.strip()) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    if lines and not lines[0][1].startswith("#"):
        return _old_lines(lines, source, taken)
    names: dict[str, str] = {}
    ballots = []
    for number, line in lines:
        if line.startswith("#"):
            found = re.fullmatch(r"#\s*ALTERNATIVE NAME\s+(\S+)\s*:\s*(.+)", line, re.IGNORECASE)
            if found:
                _name(names, found[1], found[2].strip(), f"{source}:{number}", taken)
            continue
        times, colon, order = line.partition(":")
        if not colon or not times.strip().isdecimal():
            raise InputError(f'{source}:{number}: {line[:40]!r} is no ballot "3: 1,2,3"; {taken}')
        ballots.append((number, int(times), _groups(order, f"{source}:{number}", taken)))
    return names, ballots


def _old_lines(
    lines: list[tuple[int, str]], source: str, taken: str
) -> tuple[dict[str, str], list[_Ballot]]:
    """The format before 2022: the number of names, "number,name" lines, a line of sums, ballots."""
    names: dict[str, str] = {}
    if not lines[0][1].isdecimal() or len(lines) < int(lines[0][1]) + 2:
        raise InputError(f"{source}:{lines[0][0]}: no header of PrefLib; {taken}")
    last = int(lines[0][1]) + 1
    for number, line in lines[1:last]:
        key, _, name = line.partition(",")
        _name(names, key.strip(), name.strip(), f"{source}:{number}", taken)
    ballots = []
    for number, line in lines[last + 1 :]:
        times, _, order = line.partition(",")
        if not times.strip().isdecimal():
            raise InputError(f'{source}:{number}: {line[:40]!r} is no ballot "3,1,2,3"; {taken}')
        ballots.append((number, int(times), _groups(order, f"{source}:{number}", taken)))
    return names, ballots


def _name(names: dict[str, str], key: str, name: str, where: str, taken: str) -> None:
    if not name or key in names or name in names.values():
        raise InputError(f"{where}: alternative {key} needs one name of its own; {taken}")
    names[key] = name


def _groups(order: str, where: str, taken: str) -> list[list[str]]:
    rest = _GROUP.sub("", order).replace(",", "").strip()
    groups = [
        [part.strip() for part in (tied or single).split(",") if part.strip()]
        for tied, single in _GROUP.findall(order)
    ]
    groups = [group for group in groups if group]
    if rest or not groups:
        raise InputError(f"{where}: {order.strip()[:40]!r} is no order of alternatives; {taken}")
    return groups
