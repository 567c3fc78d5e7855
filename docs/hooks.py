"""Pages from the documents of each package, packages/NAME/docs; and every public name is on some page."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
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


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a site on which a name of some package's ``__all__`` is not documented."""
    pages = "".join(page.read_text() for page in Path(config.site_dir).glob("*.html"))
    documented = set(re.findall(r'id="(sw_\w+)(?:\.[a-z_]\w*)*\.(\w+)"', pages))  # not the members of classes
    missing = [
        f"{module.parent.name}.{name}"
        for module in sorted(ROOT.glob("packages/*/src/*/__init__.py"))
        for name in _public_names(module)
        if (module.parent.name, name) not in documented
    ]
    if missing:
        raise PluginError(f"public names that no page documents: {', '.join(missing)}")


def _public_names(module: Path) -> list[str]:
    for statement in ast.parse(module.read_text()).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
            return [name for name in ast.literal_eval(statement.value) if not name.startswith("_")]
    return []
