"""A log's tables in the formats of other programs: CSV, Parquet, TensorBoard."""

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bridge.errors import InputError
from bridge.runlog.output import check_new_folder, new_folder
from bridge.runlog.reader import Run
from bridge.runlog.series import series
from bridge.runlog.tensorboard import event_file

_Table = Mapping[str, NDArray[Any]]


def export_run(run: Run, form: str, folder: Path, tables: Sequence[str] = ()) -> list[Path]:
    """Write a log's tables into a new folder, whole or not at all.

    CSV and Parquet have a file a table with all its rows and columns, numbers without loss.
    TensorBoard has one file of scalars of 32 bits, at the run's start as wall time; of several rows
    of one step it has the mean.

    Args:
        run: the run.
        form: csv, parquet or tensorboard.
        folder: to be made; an empty one may be there.
        tables: names of tables; all if empty.

    Returns:
        The files.

    Raises:
        InputError: an unknown format or table, a folder with something in it or that cannot be
            made, or Parquet without pyarrow.
        StorageError: the disk is full or fails.
    """
    if form not in FORMATS:
        raise InputError(f"format={form!r} is unknown; use one of {', '.join(FORMATS)}")
    chosen = {name: run.table(name) for name in (tables or run.tables)}
    check_new_folder("--out", folder)
    if form == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise InputError('--format parquet needs pyarrow: pip install ".[parquet]"')
    with new_folder("--out", folder) as temporary:
        FORMATS[form](run, chosen, temporary)
    return sorted(folder.iterdir())


def _csv(run: Run, tables: Mapping[str, _Table], folder: Path) -> None:
    for name, columns in tables.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(zip(*(values.tolist() for values in columns.values()), strict=True))


def _parquet(run: Run, tables: Mapping[str, _Table], folder: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    about = {"bioplaus": json.dumps(dict(run.meta))}
    for name, columns in tables.items():
        arrays = {
            column: pyarrow.array(values.tolist(), pyarrow.string()).dictionary_encode()
            if values.dtype.kind == "U"
            else pyarrow.array(values)
            for column, values in columns.items()
        }
        table = pyarrow.table(arrays).replace_schema_metadata(about)
        pyarrow.parquet.write_table(table, folder / f"{name}.parquet")


def _tensorboard(run: Run, tables: Mapping[str, _Table], folder: Path) -> None:
    start = datetime.fromisoformat(run.meta["start_time"]).timestamp()
    steps: dict[int, dict[str, float]] = {}
    for each in series(run, by=("beta", "context")):
        if each.table in tables:
            pairs = zip(each.curve.steps.tolist(), each.curve.values.tolist(), strict=True)
            for step, value in pairs:
                steps.setdefault(step, {})[each.name] = value
    with (folder / f"events.out.tfevents.{int(start)}.{run.meta['run_id']}").open("wb") as file:
        file.writelines(event_file(start, steps))


FORMATS: Mapping[str, Callable[[Run, Mapping[str, _Table], Path], None]] = {
    "csv": _csv,
    "parquet": _parquet,
    "tensorboard": _tensorboard,
}
