"""Registers classes in another package's registry as soon as that package is there, now or later."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any


def import_after(trigger: str, module: str) -> None:
    """Import ``module``, which registers classes, at once if ``trigger`` was imported, else right after it will be.

    So a program that never imports a large package, such as one that prints its help, does not wait for it.

    Args:
        trigger: a top-level package, such as "timm".
        module: ours, which imports ``trigger``.
    """
    if trigger in sys.modules:
        importlib.import_module(module)
    else:
        sys.meta_path.insert(0, _Trigger(trigger, module))


class _Trigger(MetaPathFinder):
    """Finds a package as Python does, with an import of our module appended to it, once."""

    def __init__(self, trigger: str, module: str) -> None:
        self.trigger, self.module = trigger, module

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        if fullname != self.trigger:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Followed(spec.loader, self.module)
        return spec


class _Followed(Loader):
    """A loader of one module that imports another afterwards."""

    def __init__(self, loader: Loader, module: str) -> None:
        self.loader, self.module = loader, module

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader  # its files are read through its own loader
        self.loader.exec_module(module)
        importlib.import_module(self.module)
