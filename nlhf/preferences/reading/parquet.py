"""Read Parquet files with pyarrow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nlhf.errors import InputError
from nlhf.preferences.reading.sheet import Sheet, cell, make_sheet


def read_parquet(path: Path) -> Sheet:
    """Read a table; columns of lists or structs are left out.

    Raises:
        InputError: pyarrow is not installed, or the file is not Parquet.
    """
    table = _opened(path).read()
    kept = [f.name for f in table.schema if not f.type.num_fields]
    index = [name for name in kept if name.startswith(_INDEX)]
    names = index + [name for name in kept if name not in index]
    columns = [[cell(value) for value in table.column(name).to_pylist()] for name in names]
    header = ["" if name in index else name for name in names]
    if header.count("") > 1 or not header:
        raise InputError(f"{path}: Parquet without columns of single values, or with two indexes")
    return make_sheet(str(path), "Parquet", header, columns)


def parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Read a table row by row; lists and structs become lists and dicts.

    Raises:
        InputError: see `read_parquet`; or the table has no rows.
    """
    file = _opened(path)
    if not file.metadata.num_rows:
        raise InputError(f"{path}: Parquet without rows")
    for batch in file.iter_batches():
        for row in batch.to_pylist():
            yield {name: value for name, value in row.items() if not name.startswith(_INDEX)}


_INDEX = "__index_level_"


def _opened(path: Path) -> Any:
    try:
        import pyarrow.parquet as parquet
        from pyarrow.lib import ArrowException
    except ImportError:
        raise InputError(f'{path}: Parquet needs pyarrow: pip install ".[parquet]"') from None
    try:
        return parquet.ParquetFile(path)
    except (ArrowException, OSError) as error:
        first = str(error).splitlines()[0][:80]
        raise InputError(f"{path}: cannot be read as Parquet: {first}") from None
