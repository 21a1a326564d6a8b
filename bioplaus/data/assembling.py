"""Turn a reader's result into a data set: check, split, scale and describe it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from bioplaus.data.examples import Examples
from bioplaus.data.facts import Facts, facts_of
from bioplaus.data.holdout import hold_out
from bioplaus.data.layout import channels_first
from bioplaus.data.raw import Channels, Part, Raw
from bioplaus.data.scaling import Ranges, Scale, scales
from bioplaus.data.targets import Targets, read_targets
from bioplaus.errors import InputError

D = TypeVar("D")
_MOST_NAMED = 8
"""Above this number, files are counted rather than named."""


@dataclass(frozen=True)
class Wishes:
    """The options of a data set.

    Attributes:
        train_size: number of training examples to keep, the first ones; None keeps all.
        test_size: likewise for the test examples.
        value_range: the values that become 0 and 1, if not those of the arrays' type.
        channels: position of the channels in [N, ., ., .]; None detects it.
        holdout: fraction of a training set to hold out as a test set if there is none, in (0, 1).
        holdout_seed: seed of the draw.
        num_classes: number of classes; None means 1 + the largest label.
        range_option: how the user gives a range, see `Ranges.option`.
        needs_test: whether to reject a data set without a test set.
    """

    train_size: int | None = None
    test_size: int | None = None
    value_range: tuple[float, float] | None = None
    channels: Channels | None = None
    holdout: float | None = None
    holdout_seed: int = 0
    num_classes: int | None = None
    range_option: str = "--set data.range=[{}, {}]"
    needs_test: bool = True


def assemble(
    kind: Callable[..., D], raw: Raw, name: str, dtype: torch.dtype | None, wishes: Wishes
) -> D:
    """Make a data set from a reader's result.

    Args:
        kind: `Dataset`.
        raw: the reader's result.
        name: name of the data set.
        dtype: floating-point type of the inputs; None keeps float64 and float32, and converts
            others to float32.
        wishes: the options.

    Raises:
        InputError: the arrays do not fit each other or the options.
    """
    for part in raw.parts:
        _check_inputs(part)
    _check_shapes(raw)
    digest = raw.sha256
    raw, laid_out = _laid_out(raw, wishes)
    targets = read_targets(
        [part.targets for part in raw.parts],
        [part.targets_name for part in raw.parts],
        raw.class_names,
        wishes.num_classes or raw.num_classes,
    )
    parts = [
        dataclasses.replace(part, targets=array)
        for part, array in zip(raw.parts, targets.of, strict=True)
    ]
    ranges = Ranges(wishes.value_range, raw.full, raw.keep_floats, wishes.range_option)
    found, notes = scales([p.inputs_name for p in parts], [p.inputs for p in parts], ranges)
    parts, held_out = _parts(parts, targets, name, wishes)
    if len(parts) > len(found):  # a test set was held out
        found = [found[0], found[0]]
    parts = _shortened(parts, wishes)
    more_facts = {
        "format": raw.format,
        "layout": laid_out,
        "targets": targets.note,
        "held out": held_out,
        **raw.facts,
        "files": list(raw.files) if len(raw.files) <= _MOST_NAMED else len(raw.files),
        "left out": list(raw.left_out),
    }
    facts = _facts(parts, targets, found[0], ranges, (*raw.warnings, *notes), more_facts)
    examples = [_examples(part, scale, dtype) for part, scale in zip(parts, found, strict=False)]
    return kind(
        name=name,
        train=examples[0],
        test=examples[1] if len(examples) > 1 else _none_of(examples[0]),
        shape=parts[0].inputs.shape[1:],
        num_outputs=targets.num_outputs,
        sha256=digest,
        class_names=targets.class_names,
        facts=facts,
    )


def no_test_set(n: int) -> str:
    """Make the message for a data set of `n` training examples without a test set."""
    return (
        f"has no test set: --set data.holdout=0.1 holds out a tenth of its {n} training examples, "
        "or put the test set beside them"
    )


def _check_inputs(part: Part) -> None:
    inputs, name = part.inputs, part.inputs_name
    if inputs.ndim < 2:
        raise InputError(
            f"{name} has shape {list(inputs.shape)}: inputs have 2 or more dimensions, one row an "
            "example"
        )
    if inputs.size == 0:
        raise InputError(f"{name} holds no inputs: its shape is {list(inputs.shape)}; replace it")
    if inputs.dtype.kind not in "buif":
        raise InputError(f"{name} holds {inputs.dtype}: inputs are integers or floats; convert it")
    if len(inputs) != len(part.targets):
        noun = "images" if inputs.ndim > 2 else "rows"
        kind = "labels" if part.targets.ndim == 1 else "targets"
        raise InputError(
            f"{name} holds {len(inputs)} {noun} and {part.targets_name} {len(part.targets)} "
            f"{kind}: give one {noun[:-1]} one {kind[:-1]}"
        )


def _check_shapes(raw: Raw) -> None:
    first, *others = raw.parts
    for other in others:
        if first.inputs.shape[1:] != other.inputs.shape[1:]:
            raise InputError(
                f"{first.inputs_name} holds inputs of shape {list(first.inputs.shape[1:])} and "
                f"{other.inputs_name} of {list(other.inputs.shape[1:])}: give both one shape"
            )


def _laid_out(raw: Raw, wishes: Wishes) -> tuple[Raw, str]:
    """Put channels first and convert booleans to numbers; also return a note on it."""
    arrays, laid_out = channels_first(
        [part.inputs.astype(np.float32) if part.inputs.dtype.kind == "b" else part.inputs
         for part in raw.parts],
        [part.inputs_name for part in raw.parts],
        wishes.channels or raw.channels,
    )  # fmt: skip
    parts = [
        dataclasses.replace(part, inputs=array)
        for part, array in zip(raw.parts, arrays, strict=True)
    ]
    test = parts[1] if len(parts) > 1 else None
    note = "" if raw.channels else laid_out
    return dataclasses.replace(raw, train=parts[0], test=test, digests=(raw.sha256,)), note


def _parts(
    parts: list[Part], targets: Targets, name: str, wishes: Wishes
) -> tuple[list[Part], str]:
    """The parts, with a test set held out if there is none; also return a note on it."""
    share, seed = wishes.holdout, wishes.holdout_seed
    if len(parts) > 1:
        if share is not None:
            raise InputError(
                f"holdout={share:g} is for a training set without a test set, but {name} has one "
                f"of {len(parts[1].inputs)}; leave holdout out"
            )
        return parts, ""
    if share is None:
        if wishes.needs_test:
            raise InputError(f"{name} {no_test_set(len(parts[0].inputs))}")
        return parts, ""
    labels = parts[0].targets if parts[0].targets.ndim == 1 else None
    halves = list(hold_out(parts[0], labels, share, seed))
    return halves, f"{len(halves[1].inputs)} of the training set, at random (seed {seed})"


def _shortened(parts: Sequence[Part], wishes: Wishes) -> list[Part]:
    """Keep the first examples of each part, as many as the options ask for."""
    sizes = [
        _size("train_size", wishes.train_size, len(parts[0].inputs)),
        _size("test_size", wishes.test_size, len(parts[1].inputs) if len(parts) > 1 else 0),
    ]
    return [
        dataclasses.replace(p, inputs=p.inputs[:n], targets=p.targets[:n])
        for p, n in zip(parts, sizes, strict=False)
    ]


def _size(option: str, size: int | None, available: int) -> int:
    if size is None:
        return available
    if not 1 <= size <= available:
        legal = f"use 1 to {available}, or leave it out" if available else "leave it out"
        raise InputError(f"{option}={size} is not there: {legal}")
    return size


def _facts(
    parts: Sequence[Part],
    targets: Targets,
    scale: Scale,
    ranges: Ranges,
    notes: tuple[str, ...],
    more_facts: Mapping[str, Any],
) -> Facts:
    dtype = parts[0].inputs.dtype
    held = f"{scale.lowest:g} to {scale.highest:g} as {dtype.name}"
    kept = dtype.kind == "f" and ranges.keep_floats and ranges.given is None
    made = "kept as they are" if kept else f"{scale.low:g} to {scale.high:g} made 0 to 1"
    return facts_of(
        [(part.inputs, part.targets) for part in parts],
        targets.num_outputs,
        targets.class_names,
        f"{held}, {made}",
        more_facts,
        notes,
    )


def _examples(part: Part, scale: Scale, dtype: torch.dtype | None) -> Examples:
    doubles = part.inputs.dtype == np.float64
    dtype = dtype or (torch.float64 if doubles else torch.float32)
    targets: Tensor = torch.from_numpy(np.array(part.targets))
    return Examples(
        scale.states(part.inputs, dtype), targets if targets.ndim == 1 else targets.to(dtype)
    )


def _none_of(examples: Examples) -> Examples:
    return Examples(examples.inputs[:0], examples.targets[:0])
