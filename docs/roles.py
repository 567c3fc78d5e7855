"""Docstrings say :class:`Name` and ``this::`` for readers in editors; on a page these are ``Name`` and ``this:``."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`~?([^`]+)`")
COLONS = re.compile(r"::$", re.MULTILINE)  # code follows


class Roles(griffe.Extension):
    """Write what Sphinx alone understands as Markdown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of everything that is loaded."""
        if obj.docstring:
            obj.docstring.value = COLONS.sub(":", ROLE.sub(r"`\1`", obj.docstring.value))
