"""Rows of a report as a data frame."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bioplaus.errors import InputError


def frame(rows: Iterable[Any]) -> Any:
    """Records as a pandas data frame, one a row.

    Raises:
        InputError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise InputError('to_dataframe() needs pandas: pip install "bioplaus[report]"') from None
    return pandas.DataFrame([vars(row) for row in rows])
