"""What mkdocs calls while it builds: adds the pages that are made and not written."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from docs.making.notebooks import executed  # noqa: E402
from docs.making.records import separated  # noqa: E402
from docs.making.reference import navigation, pages  # noqa: E402
from docs.making.settings import commands_page, settings_page  # noqa: E402

_SHIM = "https://unpkg.com/iframe-worker/shim"
"""What the theme's plugin `offline` loads where a page is opened from a folder."""
_OWN_SHIM = "assets/offline-worker.js"
COPIED = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""Files of the repository's root that are pages too."""


def on_config(config: Any) -> Any:
    """Put the pages of the reference into the navigation."""
    for section in config.nav:
        if "Reference" in section:
            section["Reference"] += navigation()
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add what is made: the reference, the settings, the commands, and the executed notebooks."""
    made: dict[str, str | bytes] = dict(pages())
    made |= {"settings.md": settings_page(), "commands.md": commands_page()}
    for source, target in COPIED.items():
        made[target] = in_docs((ROOT / source).read_text("utf-8"))
    for path in sorted((ROOT / "docs" / "tutorials").glob("*.ipynb")):
        page, pictures = executed(path)
        made[f"tutorials/{path.stem}.md"] = page
        made |= {f"tutorials/{name}": content for name, content in pictures.items()}
    made |= separated(ROOT / "docs")
    for name, content in made.items():
        if (written := files.get_file_from_path(name)) is not None:
            files.remove(written)
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Leave links into the repository as plain text: the site stands without it."""
    return re.sub(r"\[([^]]+)\]\((?:\.\./)+(?!docs/)[^)]*\)", r"\1", markdown)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Take the search's help for pages in a folder from the site, not from a network."""
    return output.replace(_SHIM, "../" * page.url.count("/") + _OWN_SHIM)


def on_post_template(output: str, template_name: str, config: Any) -> str:
    """The same of the page that a server shows where there is none."""
    return output.replace(_SHIM, f"/{_OWN_SHIM}")


def in_docs(text: str) -> str:
    """Let the links of a file at the root start from the documentation."""
    text = re.sub(r"\]\(docs/", "](", text)
    for source, target in COPIED.items():
        text = text.replace(f"]({source})", f"]({target})")
    return re.sub(r"\[([^]]+)\]\(examples/[^)]*\)", r"\1", text)
