"""Export a log's tables to the formats of other programs: CSV, Parquet, TensorBoard."""

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from bridge.errors import InputError
from bridge.runlog.moments import moment_of
from bridge.runlog.output import check_new_folder, new_folder
from bridge.runlog.reader import Run
from bridge.runlog.series import series_of
from bridge.runlog.stream import LogFile, open_log
from bridge.runlog.tensorboard import records, version_record


def export_run(
    run: Run | Path | str, form: str, folder: Path, tables: Sequence[str] = ()
) -> list[Path]:
    """Write a log's tables into a new folder, completely or not at all, in blocks of rows.

    CSV and Parquet have one file per table with all its rows and columns, numbers without loss.
    TensorBoard has one file of 32-bit scalars. Their wall time is the moment of their step, see
    `bridge.runlog.moments`; several rows of one step are averaged.

    Args:
        run: the log, or a run that was read from it.
        form: csv, parquet or tensorboard.
        folder: created; it may exist if it is empty.
        tables: names of tables; if empty, all.

    Returns:
        The files written.

    Raises:
        InputError: the log is missing or damaged, the format or a table is unknown, the folder is
            not empty or cannot be created, or Parquet is asked for without pyarrow.
        StorageError: the disk is full or fails.
    """
    if form not in FORMATS:
        raise InputError(f"format={form!r} is unknown; use one of {', '.join(FORMATS)}")
    with open_log(run.path if isinstance(run, Run) else run) as log:
        chosen = [log.schema(name).name for name in tables or log.schemas]
        check_new_folder("--out", folder)
        if form == "parquet" and importlib.util.find_spec("pyarrow") is None:
            raise InputError('--format parquet needs pyarrow: pip install ".[parquet]"')
        with new_folder("--out", folder) as temporary:
            FORMATS[form](log, chosen, temporary)
    return sorted(folder.iterdir())


def _csv(log: LogFile, tables: Sequence[str], folder: Path) -> None:
    for name in tables:
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(column.name for column in log.schema(name).columns)
            for block in log.blocks(name):
                rows = zip(*(values.tolist() for values in block.values()), strict=True)
                writer.writerows(rows)


def _parquet(log: LogFile, tables: Sequence[str], folder: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    texts = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    about = {"bioplaus": json.dumps(dict(log.meta))}
    for name in tables:
        columns = log.schema(name).columns
        fields = [
            (c.name, texts if c.names else pyarrow.from_numpy_dtype(c.dtype)) for c in columns
        ]
        schema = pyarrow.schema(fields, metadata=about)
        with pyarrow.parquet.ParquetWriter(folder / f"{name}.parquet", schema) as writer:
            for block in log.blocks(name):
                arrays = [
                    pyarrow.array(values.tolist(), pyarrow.string()).dictionary_encode()
                    if values.dtype.kind == "U"
                    else pyarrow.array(values)
                    for values in block.values()
                ]
                writer.write_table(pyarrow.table(arrays, schema=schema))


def _tensorboard(log: LogFile, tables: Sequence[str], folder: Path) -> None:
    start = datetime.fromisoformat(log.meta["start_time"]).timestamp()
    name = f"events.out.tfevents.{int(start)}.{log.meta['run_id']}"
    moment = moment_of(log)
    with (folder / name).open("wb") as file:
        file.write(version_record(start))
        for table in tables:
            for window in log.windows(table):
                steps: dict[int, dict[str, float]] = {}
                for each in series_of({table: window}, by=("beta", "context")):
                    pairs = zip(each.curve.steps.tolist(), each.curve.values.tolist(), strict=True)
                    for step, value in pairs:
                        steps.setdefault(step, {})[each.name] = value
                for step, values in sorted(steps.items()):
                    file.writelines(records(moment(step), {step: values}))


FORMATS: Mapping[str, Callable[[LogFile, Sequence[str], Path], None]] = {
    "csv": _csv,
    "parquet": _parquet,
    "tensorboard": _tensorboard,
}
