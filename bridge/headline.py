"""The headline metric of a run: the one number that it is judged by.

The command that opens a log says which it is. Lists, comparisons, reports and viewers start with
it, so that none of them has to know what a command measures.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Columns = Mapping[str, Collection[str]]
"""The names of the columns of numbers, by table."""
_Name = Annotated[str, Field(max_length=400)]


class Headline(BaseModel):
    """Which column of which table is the result of a run, and how to read it.

    Args:
        metric: "table/column".
        better: whether the lower or the higher value is the better one.
        unit: as it stands behind a value, e.g. "%".
        label: what readers call it; the column's name with spaces if empty.
        over: the column that it is drawn over, e.g. "epoch".
        where: the rows that count: their values of columns of choices.
        of_rows: what becomes of several rows of the last step.

    Example:
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
        """What readers call it."""
        return self.label or self.column.replace("_", " ")

    @property
    def title(self) -> str:
        """The name, with the unit in parentheses."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


def first_of(headlines: Iterable[Headline], columns: Columns) -> Headline | None:
    """Give the first headline whose column is there, None if there is none.

    Args:
        headlines: the candidates, the best first.
        columns: those that a log has.
    """
    return next((h for h in headlines if h.column in columns.get(h.table, ())), None)
