"""The figures of each package stay in one place, packages/NAME/docs, and are pages of the site."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\(\.\./\.\./(sw-\w+)(?:/README\.md)?\)")  # from packages/NAME/docs to a package


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each package: the documents beside its sources."""
    for package in sorted((ROOT / "packages").iterdir()):
        documents = sorted((package / "docs").glob("*.md"))
        text = "\n\n".join(document.read_text() for document in documents)
        page = f"performance/{package.name}.md"
        files.append(File.generated(config, page, content=LINK.sub(r"](../\1.md)", text)))
    return files
