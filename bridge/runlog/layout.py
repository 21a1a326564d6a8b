"""The layout of a log's file, and its checksums.

A kill may tear a write where it crosses a page of memory, and HDF5 rewrites a whole chunk with its
checksum for every row. So a growing log is made of pages, and nothing smaller than a page crosses a
boundary. Otherwise half of all chunks and one header in fifteen would, and some kills in a thousand
would lose acknowledged rows (measured by tests.bridge.killing).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from bridge.headline import Headline
from bridge.runlog.schema import Column, TableSchema

# Every HDF5 since 1.10 reads these formats, and their metadata have checksums.
LIBVER = ("v110", "v110")
GROWING: Mapping[str, Any] = {"libver": LIBVER, "fs_strategy": "page", "fs_page_size": 4096}
CRC = Column("crc", "int")
_MAX_CHUNK_ROWS = 4096
_PAGE_ROWS = 510
_CRC_DTYPE = np.dtype("<u4")

Meta = Mapping[str, str | int | bool]


def stored_dtype(column: Column) -> np.dtype[Any]:
    """The dtype of a column's dataset; `crc` is 32 bits wide."""
    return _CRC_DTYPE if column == CRC else column.dtype


def create_root(file: h5py.File, tables: Sequence[str], headline: Headline | None) -> None:
    """Mark the file as NeXus, so that viewers open it at the headline, or at the first table."""
    file.attrs["NX_class"] = "NXroot"
    file.attrs["default"] = headline.table if headline else tables[0]


def create_table(
    file: h5py.File, schema: TableSchema, rows: int = 0, headline: Headline | None = None
) -> dict[str, h5py.Dataset]:
    """Create one dataset per column, and `crc`, with NeXus attributes that say what to plot.

    Viewers plot a single signal, because others have other units: the headline, or the first float.

    Args:
        file: the file that receives the group.
        schema: the table.
        rows: how many rows it starts with; they are written later.
        headline: of the run.
    """
    group = file.create_group(schema.name)
    datasets = {}
    for column in (*schema.columns, CRC):
        datasets[column.name] = group.create_dataset(
            column.name,
            shape=(rows,),
            maxshape=(None,),
            chunks=(chunk_rows(column, rows),),
            dtype=stored_dtype(column),
            fletcher32=True,
        )
        if column.names:
            datasets[column.name].attrs["names"] = list(column.names)
    signal = next((column.name for column in schema.columns if column.kind == "float"), None)
    axis = "step"
    if headline is not None and headline.table == schema.name:
        signal, axis = headline.column, headline.over
        datasets[signal].attrs["long_name"] = headline.title
        datasets[signal].attrs["units"] = headline.unit
    if signal is None or axis not in datasets:
        group.attrs["NX_class"] = "NXcollection"
        return datasets
    group.attrs["NX_class"] = "NXdata"
    group.attrs["signal"] = signal
    group.attrs["axes"] = [axis]
    group.attrs[f"{axis}_indices"] = 0
    return datasets


def create_meta(file: h5py.File, meta: Meta) -> None:
    """Write the facts about a run, once: fixed-length texts, numbers, and their CRC."""
    group = file.create_group("meta")
    group.attrs["NX_class"] = "NXcollection"
    for name, value in meta.items():
        if isinstance(value, str):
            data = value.encode()
            dtype = h5py.string_dtype("utf-8", max(len(data), 1))
            group.create_dataset(name, data=np.array(data, dtype), dtype=dtype)
        else:
            group.create_dataset(name, data=value)
    group.create_dataset("crc", data=np.uint32(meta_crc(meta)))


def meta_crc(meta: Meta) -> int:
    """Compute the CRC-32 of all facts, from their JSON with sorted keys."""
    return zlib.crc32(json.dumps(dict(meta), sort_keys=True).encode())


def chunk_rows(column: Column, rows: int = 0) -> int:
    """Give as many rows as fit into a page with their checksum; more if the column has `rows`."""
    page = min(_PAGE_ROWS, (4096 - 4) // stored_dtype(column).itemsize)
    return max(page, min(rows, _MAX_CHUNK_ROWS))
