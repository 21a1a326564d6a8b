"""The code of docs/run-log.md that opens a growing log with h5py alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from bridge.runlog import open_run
from tests.bridge.headlines import HEADLINE, Batch, Pass, judged_log

PAGE = Path(__file__).parents[2] / "docs" / "run-log.md"
(CODE,) = re.findall(
    r"^```python\n(import time\n.*?swmr=True.*?)^```", PAGE.read_text("utf-8"), re.M | re.S
)
TABLES: dict[str, type] = {"metrics": Batch, "epochs": Pass}


def look(folder: Path, code: str) -> subprocess.Popen[str]:
    """Run code in another process, which waits for a line instead of sleeping."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    code = code.replace("time.sleep(1)", "input()")
    return subprocess.Popen([sys.executable, "-u", "-c", code], cwd=folder, **pipes)


def test_new_rows_show_while_a_run_writes_them(tmp_path: Path) -> None:
    with (
        open_run(tmp_path / "RUN.h5", tables=TABLES, config={}, seed=0, headline=HEADLINE) as log,
        look(tmp_path, CODE) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        said = []
        for epoch in range(1, 4):
            said.append(process.stdout.readline())
            log.log("epochs", Pass(10 * epoch, epoch, 0.1, 8.0 / epoch))
            process.stdin.write("\n")
            process.stdin.flush()
    assert said == ["no row yet\n", "1 rows, the newest 8.0\n", "2 rows, the newest 4.0\n"]
    assert process.returncode == 0


def test_a_growing_log_needs_swmr_and_a_sealed_one_does_not(tmp_path: Path) -> None:
    plain = CODE.replace(", swmr=True", "")
    assert plain != CODE
    options: dict[str, Any] = {"cwd": tmp_path, "capture_output": True, "text": True}
    words = [sys.executable, "-c", plain.replace("time.sleep(1)", "pass")]
    with open_run(tmp_path / "RUN.h5", tables=TABLES, config={}, seed=0, headline=HEADLINE):
        assert "OSError" in subprocess.run(words, check=False, **options).stderr
    (tmp_path / "RUN.h5").unlink()
    judged_log(tmp_path / "RUN.h5", [9.0, 4.0])
    done = subprocess.run(words, check=True, **options)
    assert done.stdout == 3 * "2 rows, the newest 4.0\n"
