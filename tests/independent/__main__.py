"""Fuzz the package from the shell: `python -m tests.independent 0:500`, or single numbers."""

from __future__ import annotations

import sys
from collections import Counter

from tests.independent.checking import check
from tests.independent.drawing import draw


def main(arguments: list[str]) -> int:
    """Check the cases of the numbers and ranges given; print failures and a tally."""
    numbers: list[int] = []
    for argument in arguments:
        first, colon, end = argument.partition(":")
        numbers += range(int(first), int(end)) if colon else [int(first)]
    counts: Counter = Counter()
    failed = 0
    for number in numbers:
        case = draw(number)
        found = check(case)
        counts += found.counts
        failed += bool(found.failures)
        if found.failures:
            print(case, *(f"    {line}" for line in found.failures), sep="\n", flush=True)
    print(f"{failed} of {len(numbers)} networks failed;", dict(counts.most_common()))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
