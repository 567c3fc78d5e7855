"""What the READMEs and the pages of the documentation tell people to run."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted(ROOT.glob("packages/*/README.md")),
    *sorted(ROOT.glob("packages/*/docs/*.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
]
PROGRAMS = r"(?:sw-(?:ops|models|sparse|det|seg|anomaly)|torchrun|python|pip|make|bash|gh|\.venvs?/\S+)"


def programs_in_python() -> list[tuple[str, str]]:
    """Return the blocks marked "python", which are whole programs; fragments are marked "py"."""
    found = []
    for page in PAGES:
        for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S), start=1):
            found.append((f"{page.relative_to(ROOT)} block {number}", block))
    return found


def commands() -> list[str]:
    """Return all commands that are shown, in lines of their own or within a sentence, without remarks behind them."""
    found = set()
    for page in PAGES:
        text = re.sub(r"^```py(?:thon)?\n.*?^```", "", page.read_text(), flags=re.M | re.S)
        found |= {re.split(r"  +| #", line)[0] for line in re.findall(rf"^    ({PROGRAMS} .+)$", text, re.M)}
        found |= {" ".join(it.split()) for it in re.findall(rf"`(?:[A-Z_]+=\S+ )*({PROGRAMS} [^`]+)`", text)}
    return sorted(command for command in found if "<-" not in command)
