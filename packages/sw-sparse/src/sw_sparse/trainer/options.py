"""Options from a dataclass: its annotations say what a value from YAML must be, and what a command's flags are."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
import yaml

from sw_models.errors import InputError


def checked(value: Any, hint: Any, what: str) -> Any:
    """Return a plain value as an annotation wants it: a list as a tuple, 3 as 3.0, the text 4e-3 as a number.

    Args:
        value: as YAML or a flag brings it.
        hint: bool, int, float, str, a dict, a tuple of so many or any number of these, or one of them ``| None``.
        what: is named in errors.

    Raises:
        InputError: it is something else.
    """
    kind, optional = _without_none(hint)
    if value is None and optional:
        return None
    if get_origin(kind) is tuple:
        return _checked_entries(value, get_args(kind), what)
    if kind is float and isinstance(value, str):  # YAML 1.1 reads 4e-3 as text
        try:
            return float(value)
        except ValueError:
            pass
    wanted = (int, float) if kind is float else get_origin(kind) or kind
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
        name = (get_origin(kind) or kind).__name__
        raise InputError(f"{what}: got {value!r}, want {name}{' or nothing' if optional else ''}")
    return float(value) if kind is float else value


def _checked_entries(value: Any, kinds: tuple[Any, ...], what: str) -> tuple[Any, ...]:
    any_number = kinds[-1] is Ellipsis
    wanted = "names" if any_number else f"{len(kinds)} numbers"
    if not isinstance(value, list | tuple) or not (any_number or len(value) == len(kinds)):
        raise InputError(f"{what}: got {value!r}, want {wanted}")
    try:
        return tuple(checked(entry, kinds[0], what) for entry in value)
    except InputError as error:
        raise InputError(f"{what}: got {list(value)}, want {wanted}") from error


def flags_of(options: type, *names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command a flag for every field of a dataclass, or for the named ones.

    Args:
        options: the dataclass; a field's metadata has a text "help".
        *names: of the fields; all if there are none.

    Returns:
        A decorator. The command gets those that were given as its argument ``flags``, a dictionary.
    """
    hints = get_type_hints(options)
    fields = [field for field in dataclasses.fields(options) if not names or field.name in names]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "flags"]
        parameters = [*own, *(_parameter(field, hints[field.name]) for field in fields)]

        @functools.wraps(command)
        def wrapper(**arguments: Any) -> None:
            given = {field.name: arguments.pop(field.name) for field in fields}
            flags = {n: _parsed(n, v, hints[n]) for n, v in given.items() if v is not None and v != []}
            command(flags=flags, **arguments)

        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
        return wrapper

    return decorate


def _parameter(field: dataclasses.Field[Any], hint: Any) -> inspect.Parameter:
    """Return a flag for a field; None stands for "not given"."""
    kind, _ = _without_none(hint)
    if get_origin(kind) is dict:
        kind = str  # YAML
    elif get_args(kind)[1:] == (Ellipsis,):
        kind = list[get_args(kind)[0]]  # type: ignore[misc]
    default = "" if field.default is dataclasses.MISSING else f" (default: {field.default})"  # in [] it were markup
    option = typer.Option(help=field.metadata["help"] + default, show_default=False)
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _parsed(name: str, value: Any, hint: Any) -> Any:
    if get_origin(hint) is not dict:
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"{name}: got {value!r}, want YAML such as '{{n_rep: 2}}'") from error


def _without_none(hint: Any) -> tuple[Any, bool]:
    """Return what an annotation wants besides None, and whether None will do."""
    if get_origin(hint) is not UnionType:
        return hint, False
    (kind,) = (one for one in get_args(hint) if one is not NoneType)
    return kind, True
