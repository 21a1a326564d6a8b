"""The records: what was measured, moved from the pages that explain to pages of its own.

In the repository, each page holds its own measurements. On the site they have separate pages, so
that tables do not interrupt the manual.
"""

from __future__ import annotations

import re
from pathlib import Path

SECTIONS = {
    "brian2": ("MNIST", "Spikes"),
    "equilibrium-propagation": ("Results",),
    "fields": ("Results",),
    "gradient-laboratory": ("Results",),
    "language-models": ("A cyclic language", "Speed", "A real model"),
    "learning-from-votes": ("Results",),
    "methods": (
        "Last iterates on tables",
        "The benchmark",
        "A step compared",
        "A comparison on text",
    ),
    "nash": ("Results",),
    "preference-models": ("Results",),
    "rank": ("The shipped votes", "Crowd votes", "The same votes", "Are the verdicts", "Speed"),
    "run-log": ("Findings about HDF5",),
}
"""For each page, the beginnings of the headings of its measurements."""


def separated(folder: Path) -> dict[str, str]:
    """Split the pages.

    Args:
        folder: of the documentation.

    Returns:
        By path the Markdown of each page without its measurements, and of its record.

    Raises:
        ValueError: a page has no such section.
    """
    found, moved = {}, {}
    for name, headings in SECTIONS.items():
        first, *sections = _sections((folder / f"{name}.md").read_text("utf-8"))
        taken = [each for each in sections if each.removeprefix("## ").startswith(headings)]
        if len(taken) != len(headings):
            raise ValueError(f"{name}.md has not one section for each of {headings}")
        title = first.partition("\n")[0].removeprefix("# ")
        kept = [each for each in sections if each not in taken]
        note = f"The measurements are in the [records](records/{name}.md).\n"
        found[f"{name}.md"] = first + "".join(kept) + f"\n{note}"
        back = f"# Records: {title}\n\nThe page that explains them: [{title}](../{name}.md).\n\n"
        found[f"records/{name}.md"] = back + _one_deeper("".join(taken))
        moved |= {f"{name}.md#{slug}": f"records/{name}.md#{slug}" for slug in _slugs(taken)}
    return {path: _redirected(text, path, moved) for path, text in found.items()}


def _sections(text: str) -> list[str]:
    """What comes before the first heading of the second level, and each of those with its text."""
    parts, fenced = [""], False
    for line in text.splitlines(keepends=True):
        fenced ^= line.startswith("```")
        if line.startswith("## ") and not fenced:
            parts.append("")
        parts[-1] += line
    return parts


def _one_deeper(text: str) -> str:
    """Let links start from a folder below."""
    return re.sub(r"\]\((?!https?:|#)", "](../", text)


def _slugs(sections: list[str]) -> list[str]:
    headings = re.findall(r"^#{2,3} (.*)$", "".join(sections), re.M)
    return [
        re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", each).strip().lower()) for each in headings
    ]


def _redirected(text: str, path: str, moved: dict[str, str]) -> str:
    up = "../" * path.count("/")
    for old, new in moved.items():
        text = text.replace(f"]({up}{old})", f"]({up}{new})")
    return text
