"""Check downloaded model folders for consistency before loading their weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.extras import need

MOST_JSON_BYTES = 2**26
WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PLACES = ("max_window_layers", "attn_layer_period", "attn_layer_offset", "expert_layer_period")
"""Config keys whose numbers say which layers are of a kind, not how many there are."""
_SLACK = 2**26  # elements that a model may have beyond its weights: masks, position tables


def read_object(path: Path, writer: str = "save_pretrained") -> dict[str, Any]:
    """Read a JSON object from a regular file.

    Args:
        path: the file.
        writer: the function that writes such folders, for the message if the file is missing.

    Raises:
        InputError: the file is missing, too large, or not a JSON object.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a folder that {writer} wrote")
    if path.stat().st_size > MOST_JSON_BYTES:
        raise InputError(f"{path}: larger than {MOST_JSON_BYTES // 2**20} MiB; not read")
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: no JSON: {' '.join(str(error).split())[:120]}") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: must hold a JSON object")
    return found


def check_model_folder(folder: Path, kind: Any) -> None:
    """Reject a model whose config needs more than its weights hold, or files outside the folder.

    Otherwise memory is allocated for whatever the config claims, and missing parts are random.

    Args:
        folder: holds config.json and safetensors, in one file or in shards with an index.
        kind: the transformers class that will load it.

    Raises:
        InputError: the model is rejected, has no safetensors weights, or a file is damaged.
    """
    transformers = need("transformers")
    settings = read_object(folder / "config.json")
    for key in ("attn_implementation", "_attn_implementation"):
        if "/" in str(settings.get(key)):
            raise InputError(f"{folder}: {key}={settings[key]!r} is code on the hub; it is not run")
    for name in ("generation_config.json", "tokenizer_config.json"):
        if (folder / name).exists():
            read_object(folder / name)
    files = _weight_files(folder, settings)
    sizes = [shape.numel() for path in files for shape in shapes(path).values()]
    for key, value in _numbers(settings):
        # each layer has at least one tensor
        counts = "layer" in key and key not in PLACES
        if (counts and value > len(sizes)) or (key == "num_hidden_layers" and value < 1):
            raise InputError(
                f"{folder}: config.json says {key}={value}, its weights are {len(sizes)} tensors"
            )
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with torch.device("meta"):
        model = kind.from_config(config, trust_remote_code=False)
    wanted = sum(t.numel() for part in (model.parameters(), model.buffers()) for t in part)
    # factor 2: tied weights are stored once
    if wanted > 2 * sum(sizes) + _SLACK:
        raise InputError(
            f"{folder}: config.json asks for {wanted} numbers, its weights hold {sum(sizes)}"
        )


def check_adapter_folder(folder: Path) -> str:
    """Reject an adapter that is not LoRA, not in safetensors, or that imports other code.

    Returns:
        The spec of its base model.

    Raises:
        InputError: the adapter is rejected, or a file is damaged.
    """
    settings = read_object(folder / ADAPTER)
    base = settings.get("base_model_name_or_path")
    if settings.get("peft_type") != "LORA":
        raise InputError(f"{folder}: peft_type={settings.get('peft_type')!r}; only LORA is read")
    if not isinstance(base, str) or not base:
        raise InputError(f"{folder}: base_model_name_or_path={base!r} names no model")
    for key in ("auto_mapping", "megatron_config"):
        if settings.get(key) is not None:
            raise InputError(f"{folder}: {key} would import other code; it is not read")
    path = folder / ADAPTER_WEIGHTS
    if not path.is_file():
        raise InputError(f"{folder}: no {ADAPTER_WEIGHTS}; pickled weights are not read")
    most = max((n for shape in shapes(path).values() for n in shape), default=0)
    patterns = settings.get("rank_pattern") or {}
    for rank in (settings.get("r"), *(patterns.values() if isinstance(patterns, dict) else ["?"])):
        if not isinstance(rank, int) or not 1 <= rank <= most:
            raise InputError(f"{path}: does not fit a rank of {rank!r} in {ADAPTER}")
    return base


def check_adapter(folder: Path, state: Mapping[str, Tensor]) -> None:
    """Reject a loaded adapter if part of it would be random or is not finite.

    Args:
        folder: the folder it was loaded from.
        state: its weights, by their names in the file.

    Raises:
        InputError: the adapter is rejected.
    """
    path = folder / ADAPTER_WEIGHTS
    stored = shapes(path)
    for name, weights in state.items():
        if stored.get(name) != weights.shape:
            raise InputError(f"{path}: no {name} of shape {list(weights.shape)}, or of another")
        if not bool(torch.isfinite(weights).all()):
            raise InputError(f"{path}: {name} is not finite; get a good copy")


def _weight_files(folder: Path, settings: Mapping[str, Any]) -> list[Path]:
    """The weight files that transformers will load, all directly in the folder."""
    name = settings.get("transformers_weights") or WEIGHTS
    if name == WEIGHTS and not (folder / WEIGHTS).is_file():
        name = INDEX
        if not (folder / INDEX).is_file():
            raise InputError(f"{folder}: no {WEIGHTS}; pickled weights are not read")
    if not _is_plain(name):
        raise InputError(f"{folder}: config.json has weights elsewhere: {name!r}")
    if not name.endswith(".index.json"):
        return [folder / name]
    listed = read_object(folder / name).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise InputError(f"{folder / name}: no weight_map of tensors to files")
    files = list(listed.values())
    for each in files:
        if not _is_plain(each) or not each.endswith(".safetensors"):
            raise InputError(
                f"{folder / name}: {each!r} is no safetensors file of this folder; not read"
            )
    return [folder / each for each in dict.fromkeys(files)]


def _is_plain(name: object) -> bool:
    """Whether it names a file inside the folder."""
    return (
        isinstance(name, str) and not set(name) & {"/", "\\", "\0"} and name not in ("", ".", "..")
    )


def shapes(path: Path) -> dict[str, torch.Size]:
    """Read the names and shapes of tensors in a safetensors file; only its header is read.

    Raises:
        InputError: the file is missing or damaged.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: torch.Size(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: damaged: {reason}") from None


def _numbers(settings: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Every integer in a config, including nested ones."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _numbers(value)
        elif isinstance(value, int):
            yield str(key), value
