"""Bad checkpoints beside a good log."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bridge.checkpoint import MANIFEST, STATE, TENSORS
from tests.bad_input.models import bad_safetensors
from tests.bad_input.noise import noise

PATHS = ["../run.h5", "/etc/passwd", "../../../etc/passwd", "tensors.safetensors/../x", "", "."]


def damage(rng: random.Random, folder: Path) -> None:
    """Spoil a checkpoint in one way, without signing it again."""
    path = folder / rng.choice([MANIFEST, STATE, TENSORS])
    data = path.read_bytes()
    manifest = json.loads((folder / MANIFEST).read_bytes())
    kind = rng.randrange(7)
    if kind == 0:
        path.write_bytes(data[: rng.randrange(len(data))])
    elif kind == 1:
        path.write_bytes(noise(rng) + b"x")
    elif kind == 2:
        at = rng.randrange(len(data))
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :])
    elif kind == 3:
        path.unlink()
    elif kind == 4:
        path.unlink()
        path.symlink_to(rng.choice(["/etc/passwd", "/dev/zero", "nowhere", ".."]))
    elif kind == 5:
        name, hidden = rng.choice([STATE, TENSORS]), rng.choice(PATHS)
        manifest["sha256"][hidden] = manifest["sha256"].pop(name)
        (folder / MANIFEST).write_text(json.dumps(manifest))
    else:
        path.unlink()
        os.mkfifo(path)


def foreign(rng: random.Random, folder: Path) -> None:
    """Spoil a checkpoint and sign it again: it is intact, but useless to its run."""
    tensors, state = folder / TENSORS, folder / STATE
    kind = rng.randrange(3)
    if kind == 0:
        tensors.write_bytes(bad_safetensors(rng, tensors.read_bytes()))
    else:
        found = json.loads(state.read_bytes())
        _spoil(rng, found, "state" if kind == 1 else rng.choice(["facts", "step", "state"]))
        state.write_text(json.dumps(found))
    manifest = json.loads((folder / MANIFEST).read_bytes())
    for name in (TENSORS, STATE):
        manifest["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))


def _spoil(rng: random.Random, found: dict[str, Any], part: str) -> None:
    wrong = [None, [], {}, "x", {"$": "tensor", "at": "../x"}, {"$": "os.system", "of": "x"}]
    if part != "state":
        found[part] = rng.choice([*wrong, -1])
        return
    places: list[Callable[[Any], None]] = [placing(found, "state")]
    _walk(found["state"], places)
    rng.choice(places)(rng.choice(wrong))


def _walk(value: Any, places: list[Callable[[Any], None]]) -> None:
    if isinstance(value, dict):
        for key, each in value.items():
            if key != "$":
                places.append(placing(value, key))
                _walk(each, places)


def placing(into: dict[str, Any], key: str) -> Callable[[Any], None]:
    """Make the function that puts a value under a key."""
    return lambda value: into.__setitem__(key, value)
