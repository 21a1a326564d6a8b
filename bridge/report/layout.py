"""How the columns of logs are grouped into figures; the program that wrote them says it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Topic:
    """Columns whose figures belong together.

    Args:
        title: of their section; topics of one title share a section.
        columns: patterns of their names, see `fnmatch`; without any, the topic takes the columns
            of no other topic.
        leave_out: patterns of names among them that have no figure.
        of: a column of choices; the topic is of tables with this column, whose columns of no topic
            have no figure.
        over: a column of positive numbers that becomes the x axis if there is only one step.
        only: a column of choices and some of its values; only rows with the first of these values
            that occurs are drawn.
        apart: a column with a panel for each of its values, if these are few.
        same: a column of choices on which the values do not depend, so that one line suffices.
    """

    title: str
    columns: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    of: str = ""
    over: str = ""
    only: tuple[str, tuple[str, ...]] | None = None
    apart: str = ""
    same: str = ""


CURVES = Topic("Curves")


@dataclass(frozen=True)
class Layout:
    """The topics of a program's columns, in the order of their sections.

    Args:
        topics: a column belongs to the first that takes it.
        counters: columns without a figure.
        keys: numeric columns that tell rows of one step apart, as choices do.
        averaged: keys over whose values a figure averages, unless its topic has them apart.

    Examples:
        >>> layout = Layout((Topic("Errors", ("*_error",)), Topic("Others")), counters=("epoch",))
        >>> layout.topic("test_error").title, layout.topic("cost").title, layout.topic("epoch")
        ('Errors', 'Others', None)
    """

    topics: tuple[Topic, ...] = (CURVES,)
    counters: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    averaged: tuple[str, ...] = ()

    def topic(self, column: str, choices: Collection[str] = ()) -> Topic | None:
        """Give the topic of a column; None if it has no figure.

        Args:
            column: its name.
            choices: the columns of choices of its table.
        """
        if column in self.counters:
            return None
        for each in self.topics:
            if _matches(column, each.columns) and (not each.of or each.of in choices):
                return None if _matches(column, each.leave_out) else each
        if any(each.of in choices for each in self.topics if each.of):
            return None
        return next((each for each in self.topics if not each.columns), CURVES)


PLAIN = Layout()
"""The layout of logs of an unknown program: a figure for each column."""


def _matches(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
