"""What a result depends on besides its config: code, packages, machine, process."""

from __future__ import annotations

import json
import os
import platform
import shlex
import socket
import subprocess
import sys
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from bridge.invocation import command_words

_PACKAGES = ("bioplaus", "torch", "numpy", "scipy", "h5py", "pydantic")
_OPTIONAL = ("transformers", "peft", "brian2", "datasets")


def provenance() -> dict[str, str | int | bool]:
    """Collect the facts about code, machine and process that a log stores.

    torch is queried only if the program has imported it.
    """
    commit, dirty = _git()
    pid = os.getpid()
    return {
        "command_line": shlex.join(command_words()),
        "git_commit": commit,
        "git_dirty": dirty,
        "packages": json.dumps(_versions()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cpu_count": os.cpu_count() or 0,
        **_torch(),
        "host": socket.gethostname(),
        "pid": pid,
        "process": process_identity(pid),
        "launch": _launch(),
    }


def process_identity(pid: int) -> str:
    """Identify a process even if its number is reused later; "" if it does not exist.

    On Linux it is the machine's boot id and the start of the process in clock ticks after boot;
    elsewhere it only says that the process exists.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        if Path("/proc/self/stat").exists():
            return ""
    else:
        # A zombie has ended, but its parent has not collected it yet.
        return "" if fields[0] == "Z" else f"{boot}:{fields[19]}"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        pass
    return "exists"


def _launch() -> str:
    """Name the torchrun launch that this process belongs to; "" if there is none.

    Processes that torchrun restarts, after one of them has died, have the same name.
    """
    run_id, agent = os.environ.get("TORCHELASTIC_RUN_ID"), os.getppid()
    return "" if run_id is None else f"{run_id}:{agent}:{process_identity(agent)}"


@lru_cache(maxsize=1)
def _git() -> tuple[str, bool]:
    """Give the commit of the running code, if it runs from its repository, and whether edited."""
    here = Path(__file__)
    try:
        _run_git("ls-files", "--error-unmatch", here.name)
        return _run_git("rev-parse", "HEAD"), bool(_run_git("status", "--porcelain", "-uno"))
    except (OSError, subprocess.SubprocessError):
        return "", False


def _run_git(*args: str) -> str:
    return subprocess.run(
        ["git", *args],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    ).stdout.strip()


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    found = {}
    for name in (*_PACKAGES, *(n for n in _OPTIONAL if n in sys.modules)):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    import h5py

    found["hdf5"] = h5py.version.hdf5_version
    return found


@lru_cache(maxsize=1)
def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _torch() -> dict[str, Any]:
    torch = sys.modules.get("torch")
    if torch is None:
        return {"threads": 1, "gpu": "", "deterministic": False, "tf32": False}
    cuda = torch.cuda.is_available()
    return {
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if cuda else "",
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "tf32": torch.get_float32_matmul_precision() != "highest",
    }
