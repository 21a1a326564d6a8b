"""Data sets from the Hugging Face hub, read by the `datasets` library."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from nlhf.errors import InputError
from nlhf.language.extras import need
from nlhf.preferences.reading.records import Records

PREFIX = "hf:"


def read_dataset(spec: str) -> Records:
    """Read `hf:DATASET[:split]` or `hf:DATASET:config:split`, or a local folder of data files.

    The default split is "train", or the only split. No code of a data set is run.

    Raises:
        InputError: `datasets` is not installed, there is no such data set or split, or several
            splits exist and none was chosen.
    """
    name, *rest = spec.removeprefix(PREFIX).split(":")
    if not name or len(rest) > 2:
        raise InputError(f"{spec}: give hf:DATASET, hf:DATASET:split or hf:DATASET:config:split")
    config, split = (None, *rest, None, None)[:2] if len(rest) < 2 else (rest[0], rest[1])
    datasets = need("datasets")
    datasets.disable_progress_bars()
    try:
        found = _load(datasets, name, config, split, spec)
    except InputError:
        raise
    except Exception as error:  # the library, the network or a builder can raise anything
        raise _unreadable(spec, error) from None
    if not len(found):
        raise InputError(f"{spec}: a data set without rows")
    return Records(spec, "a data set", enumerate(_rows(found, spec), 1), "row")


def _rows(found: Any, spec: str) -> Iterator[dict[str, Any]]:
    try:
        yield from found
    except Exception as error:  # a value that the library cannot decode
        raise _unreadable(spec, error) from None


def _unreadable(spec: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200]
    return InputError(f"{spec}: cannot be read: {type(error).__name__}: {reason}")


def _load(datasets: Any, name: str, config: str | None, split: str | None, spec: str) -> Any:
    if os.path.isfile(os.path.join(name, "dataset_dict.json")):
        splits = datasets.load_from_disk(name)
        return splits[_chosen(list(splits), split, spec)]
    if os.path.isfile(os.path.join(name, "dataset_info.json")):
        return datasets.load_from_disk(name)  # it has no splits
    known = datasets.get_dataset_split_names(name, config)
    return datasets.load_dataset(name, config, split=_chosen(known, split, spec))


def _chosen(known: list[str], split: str | None, spec: str) -> str:
    if split is None and len(known) == 1:
        return known[0]
    wanted = split or "train"
    if wanted not in known:
        splits = ", ".join(known)
        raise InputError(f"{spec}: split={wanted!r} is none of {splits}; give hf:DATASET:split")
    return wanted
