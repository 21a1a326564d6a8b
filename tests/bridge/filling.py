"""Write a log until a limit on the size of files stops it; run as a process of its own.

    python -m tests.bridge.filling FILE LIMIT [WEIGHTS]

prints the last acknowledged step and ends with 74, as a command would.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np

from bridge.errors import StorageError
from tests.bridge.records import new_log, row


def main() -> None:
    """Fill the file."""
    path, limit = Path(sys.argv[1]), int(sys.argv[2])
    weights = {"w": np.zeros(int(sys.argv[3]) if len(sys.argv) > 3 else 10)}
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    last = saved = -1
    try:
        with new_log(path, weights=weights) as log:
            for step in range(10**6):
                log.log("metrics", row(step))
                last = step
                if step % 700 == 0:
                    log.event("note", text="x" * 700)
                    log.save_weights(step, {"w": weights["w"] + step})
                    saved = step
    except StorageError as error:
        print(last, saved, error)
        sys.exit(74)


if __name__ == "__main__":
    main()
