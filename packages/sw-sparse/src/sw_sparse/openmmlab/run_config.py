"""The configuration in a run's folder: written as data, and read as data, so that no folder of somebody's runs code.

``config.yaml`` is YAML with one tag of its own, ``!tuple``, which is as harmless as a list. Folders of version 0.1.0
hold ``config.py``, a file of assignments; those are parsed, not run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from sw_models.errors import InputError
from sw_models.files import write_atomically

NAME = "config.yaml"
_NAMES = (NAME, "config.py")

# What a configuration may name by a dotted path, as a module to import or the class of a part.
_TRUSTED_MODULES = re.compile(r"(mmengine|mmcv|mmdet|mmseg|mmpretrain|sw_models|sw_sparse|sw_det|sw_seg)(\.\w+)*")
_SCOPED_CLASS = re.compile(r"(mmengine|mmcv|mmdet|mmseg|mmpretrain)\.[A-Z]\w*")


class _Loader(yaml.SafeLoader):
    """Plain YAML and tuples, without aliases: a few lines of them can stand for more than memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse an alias."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has aliases such as *name, want every value written out")
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Plain YAML and tuples, without anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Loader.add_constructor("!tuple", lambda loader, node: tuple(loader.construct_sequence(node, deep=True)))
_Dumper.add_representer(tuple, lambda dumper, value: dumper.represent_sequence("!tuple", list(value), flow_style=True))


def find_run_config(folder: Path) -> Path | None:
    """Return the file with the configuration of the run in a folder, if there is one."""
    return next((folder / name for name in _NAMES if (folder / name).is_file()), None)


def write_run_config(content: Mapping[str, Any], folder: Path) -> None:
    """Write a configuration into a run's folder.

    Raises:
        InputError: it holds something that is no data, such as a function.
    """
    try:
        text = yaml.dump(dict(content), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
    except yaml.representer.RepresenterError as error:
        raise InputError(
            f"config: {error.args[-1]!r} is no number, text or list; name classes by their names"
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / NAME, lambda file: file.write_text(text))


def read_data(path: Path) -> dict[str, Any]:
    """Return the content of a configuration file that is data, without running anything of it.

    Args:
        path: ``.yaml``, ``.yml``, ``.json`` (which YAML includes), or a ``.py`` that only assigns.

    Raises:
        InputError: it is no data, or not to be parsed.
    """
    try:
        text = path.read_text()
        content = _assignments(text) if path.suffix == ".py" else yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, SyntaxError, OSError, RecursionError) as error:
        raise InputError(f"config: {path} cannot be read as data ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"config: {path} holds a {type(content).__name__}, want named settings")
    return content


def read_run_config(path: Path) -> dict[str, Any]:
    """Return the configuration of a run, which may come from anybody.

    Raises:
        InputError: as :func:`read_data`, or it wants more than OpenMMLab's classes and this project's.
    """
    content = read_data(path)
    imports = content.get("custom_imports") or {}
    listed = imports.get("imports", []) if isinstance(imports, dict) else imports
    foreign = [str(name) for name in (listed if isinstance(listed, list | tuple) else [listed])]
    foreign = [name for name in foreign if not _TRUSTED_MODULES.fullmatch(name)]
    foreign += [name for name in _types(content) if "." in name and not _SCOPED_CLASS.fullmatch(name)]
    if "_base_" in content:
        foreign.append("_base_")
    if foreign:
        raise InputError(
            f"config: {path} wants {foreign[0]}, which is not trusted in a run's folder; name {path} itself"
        )
    return content


def _types(value: Any) -> Iterator[str]:
    """Yield what every part of a configuration says of its type."""
    if isinstance(value, Mapping):
        if isinstance(value.get("type"), str):
            yield value["type"]
        for item in value.values():
            yield from _types(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _types(item)


def _assignments(text: str) -> dict[str, Any]:
    """Return what a Python file of assignments of plain values assigns."""
    content = {}
    for statement in ast.parse(text).body:
        if not (
            isinstance(statement, ast.Assign)
            and len(statement.targets) == 1
            and isinstance(statement.targets[0], ast.Name)
        ):
            raise ValueError(f"line {statement.lineno} is a program")
        content[statement.targets[0].id] = _value(statement.value)
    return content


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords) if all(k.arg for k in keywords):
            return {str(keyword.arg): _value(keyword.value) for keyword in keywords}
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {ast.literal_eval(key): _value(value) for key, value in zip(keys, values, strict=True) if key}
        case ast.List(elts=items):
            return [_value(item) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_value(item) for item in items)
        case _:
            return ast.literal_eval(node)
