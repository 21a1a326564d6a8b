"""Check the built site: every link leads somewhere, and nothing is loaded from a network.

python -m docs.making.links SITE
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


class _Page(HTMLParser):
    """The anchors of a page, where it links to, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = {""}
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value is not None}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in LOADED and LOADED[tag] in given and given.get("rel") != "canonical":
            self.loads.append(given[LOADED[tag]])


@cache
def _page(path: Path) -> _Page:
    return _Page(path.read_text("utf-8"))


def mistakes(site: Path) -> Iterator[str]:
    """Say of each page which of its links lead nowhere, and what it would load from elsewhere."""
    for path in sorted(site.rglob("*.html")):
        page, name = _page(path), path.relative_to(site)
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loads and parts.scheme != "data":
                    yield f"{name}: loads {link}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if name.name == "404.html":  # its links start from the root of a server
                target = site.resolve() / unquote(parts.path).lstrip("/")
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                yield f"{name}: {link} is not there"
            elif target.suffix == ".html" and unquote(parts.fragment) not in _page(target).anchors:
                yield f"{name}: {link} has no such place"


def main() -> int:
    """Print the mistakes; 1 if there are any."""
    site = Path(sys.argv[1])
    found = list(mistakes(site))
    pages = len(list(site.rglob("*.html")))
    print(*found, f"{pages} pages, {len(found)} mistakes", sep="\n")
    return 1 if found or not pages else 0


if __name__ == "__main__":
    sys.exit(main())
