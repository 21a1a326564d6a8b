"""What the commands say of their metrics, so that lists and reports need not know them.

A `Headline` is the one number that a run is judged by. The command that opens a log names it;
lists, comparisons, reports and viewers show it first. A `Contest` says which column of a table
ranks what.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Columns = Mapping[str, Collection[str]]
"""The names of the numeric columns, by table."""
_Name = Annotated[str, Field(max_length=400)]


class Headline(BaseModel):
    """Which column of which table is the result of a run, and how to read it.

    Args:
        metric: "table/column".
        better: whether the lower or the higher value is the better one.
        unit: written after a value, e.g. "%".
        label: the name that readers see; if empty, the column's name with spaces.
        over: the column on the x axis of its plot, e.g. "epoch".
        where: selects rows by their values in columns of choices.
        of_rows: how several rows of the last step are combined.

    Examples:
        >>> Headline(metric="epochs/test_error", unit="%", over="epoch").title
        'test error (%)'
    """

    model_config = ConfigDict(strict=True, frozen=True)

    metric: Annotated[str, Field(pattern=r"^[^/]+/[^/]+$", max_length=400)]
    better: Literal["lower", "higher"] = "lower"
    unit: _Name = ""
    label: _Name = ""
    over: _Name = "step"
    where: Mapping[_Name, _Name] = {}
    of_rows: Literal["mean", "smallest", "largest"] = "mean"

    @property
    def table(self) -> str:
        """The table's name."""
        return self.metric.partition("/")[0]

    @property
    def column(self) -> str:
        """The column's name."""
        return self.metric.partition("/")[2]

    @property
    def name(self) -> str:
        """The name that readers see."""
        return self.label or self.column.replace("_", " ")

    @property
    def title(self) -> str:
        """The name, with the unit in parentheses."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


def first_of(headlines: Iterable[Headline], columns: Columns) -> Headline | None:
    """Give the first headline whose column exists, None if there is none.

    Args:
        headlines: the candidates, in order of preference.
        columns: the columns of a log.
    """
    return next((h for h in headlines if h.column in columns.get(h.table, ())), None)


@dataclass(frozen=True)
class Contest:
    """What the rows of a table rank; the smaller mean is the better one.

    Args:
        of: column of choices whose values are ranked.
        by: numeric column by which they are ranked.
        apart: further columns that distinguish contestants, as far as a table has them.
        valid: column that is 1 in rows that count, if a table has it.
        part: column that says which part of a contestant a row is about, if a table has it.
        wholes: values of `part` that stand for the whole, in order of preference.
        title: of the ranking.
        by_title: of the mean.
        counted, left_out: names of the numbers of rows that count and that do not.

    Examples:
        >>> contest = Contest("estimator", "angle", part="weights", wholes=("forward", "all"))
        >>> contest.whole(["all", "bias"]), contest.whole(["all", "forward"])
        ('all', 'forward')
    """

    of: str
    by: str
    apart: tuple[str, ...] = ()
    valid: str = ""
    part: str = ""
    wholes: tuple[str, ...] = ()
    title: str = "ranking"
    by_title: str = "mean"
    counted: str = "rows"
    left_out: str = "left out"

    def takes(self, columns: Collection[str]) -> bool:
        """Whether a table with these columns is ranked."""
        return {self.of, self.by} <= set(columns)

    def whole(self, parts: Iterable[str]) -> str:
        """Choose, of the parts that occur, the one that stands for the whole; "" for none."""
        occurring = set(parts)
        return next((part for part in self.wholes if part in occurring), "")
