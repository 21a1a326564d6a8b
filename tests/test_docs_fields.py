"""docs/fields.md: its code runs, and its table agrees with `supports`."""

import re
from pathlib import Path

import torch

from bioplaus import supports
from bioplaus.estimators import ESTIMATORS, ORACLES
from bioplaus.fields import FunctionField
from tests.fields import clipped, problem
from tests.graphs import convolutional, gated, tied

PAGE = Path(__file__).parents[1] / "docs" / "fields.md"
KINDS = {
    "any formula": gated,
    "dense, smooth": lambda: problem().field,
    "convolution, average": lambda: convolutional("average"),
    "convolution, max": lambda: convolutional("max"),
    "box [0, 1]": lambda: problem(**clipped()).field,
    "tied": tied,
}


def table() -> str:
    fields = {name: make() for name, make in KINDS.items()}
    lines = ["| estimator | " + " | ".join(fields) + " |", "|---" * (len(fields) + 1) + "|"]
    for name in ESTIMATORS | ORACLES:
        marks = ["no" if supports(f, estimator=name) else "yes" for f in fields.values()]
        lines.append(f"| `{name}` | " + " | ".join(marks) + " |")
    return "\n".join(lines)


def test_the_table_is_what_supports_says():
    found = re.search(r"<!-- needs -->\n(.*?)\n<!-- /needs -->", PAGE.read_text("utf-8"), re.S)
    assert found is not None
    assert found[1] == table()


def test_every_block_of_code_runs(capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    assert len(blocks) >= 9
    names: dict[str, object] = {"__name__": "docs"}
    torch.manual_seed(0)
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    said = capsys.readouterr().out
    assert "Wrong contradicts its own formula: local_update of w" in said
    assert "needs pairs of feedforward and feedback parameters" in said
    field, history = names["field"], names["history"]
    assert isinstance(field, FunctionField)
    assert len(history.rows) == 2  # pyright: ignore[reportAttributeAccessIssue]
    report = names["report"]
    errors = {
        row.estimator: row.relative_error
        for row in report.rows  # pyright: ignore[reportAttributeAccessIssue]
        if row.parameter == "all" and row.oracle == "implicit"
    }
    assert errors["asym-ep"] < 1e-3 < errors["vector-field"]


if __name__ == "__main__":  # writes the table anew
    text = PAGE.read_text("utf-8")
    between = re.compile(r"(<!-- needs -->\n).*?(\n<!-- /needs -->)", re.S)
    PAGE.write_text(between.sub(lambda m: m[1] + table() + m[2], text), "utf-8")
