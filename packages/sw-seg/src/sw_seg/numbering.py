"""Which numbers in label maps stand for which class: recognized from all maps, or refused, never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sw_models.errors import InputError
from sw_models.images import some

_MEANINGS = ("auto", "class", "ignore")


@dataclass(frozen=True)
class Numbering:
    """The classes of label maps.

    Attributes:
        classes: their names, in order.
        values: of each class's pixels.
        colored: whether the values are colors.
        notes: what was recognized, a sentence each.
        ignored: values that are no class.
    """

    classes: tuple[str, ...]
    values: tuple[int, ...]
    colored: bool = False
    notes: tuple[str, ...] = ()
    ignored: tuple[int, ...] = ()


def number_classes(
    path: Path,
    maps: str,
    values: set[int],
    trained: set[int],
    names: tuple[str, ...],
    options: Mapping[str, Any],
    is_ade: bool = False,
) -> Numbering:
    """Return what the numbers in a folder's label maps mean.

    Maps of 0 and 255 are masks of a foreground, unless "white" is stated. Elsewhere 255 is no class. In
    ``annotations`` 0 is no class, as in ADE20K, unless there is a single class beside it, or "zero" is stated.

    Args:
        path: the folder, for messages.
        maps: "annotations", or a folder whose classes count from 0.
        values: all that occur.
        trained: those that occur in training.
        names: of the classes; empty if nobody says.
        options: "zero" and "white", and "ignore", values that are no class.
        is_ade: whether the folder is ADE20K's own.

    Raises:
        InputError: it is not clear, or there is nothing to tell apart.
    """
    zero, white = (_stated(options, key) for key in ("zero", "white"))
    void = _ignored(options)
    if void:
        if void >= trained:
            raise InputError(f"data_options.ignore: got {some(sorted(void))}, which leaves nothing of {path}")
        stated = (f"{some(sorted(void))} is no class, as stated",)
        first = 1 if zero == "ignore" or (zero == "auto" and maps == "annotations" and 0 not in void) else 0
        return _without(void, values, trained, names, stated, path, first)
    numbers = sorted(values - {0, 255})
    if white == "class" or (white == "auto" and zero == "auto" and not numbers and values == {0, 255}):
        if numbers:
            raise InputError(f"--data: 255 is stated to be a class, but {path} has {some(numbers)} beside it")
        note = "maps of 0 and 255: two classes, 255 is the foreground (data_options.white=ignore if it is no class)"
        return Numbering(_two(path, names), (0, 255), notes=(note,))
    one_class = numbers == [1] and len(names) < 3 and (maps == "annotations" or len(names) == 1)
    if zero == "auto" and not is_ade and one_class:
        note = "maps of 0 and 1: two classes, 0 is the background (data_options.zero=ignore if it is no class)"
        return Numbering(_two(path, names), (0, 1), notes=(note,), ignored=(255,))
    ignore_zero = zero == "ignore" or (zero == "auto" and maps == "annotations")
    first = 1 if ignore_zero else 0
    notes: list[str] = []
    if names:
        if zero == "auto" and ignore_zero and not is_ade and 0 in values and max(values - {255}) == len(names) - 1:
            raise InputError(
                f"--data: the maps in {path / maps} hold 0 to {len(names) - 1}, and classes.txt {len(names)} names: "
                "either 0 is a class or the last class does not occur; say data_options.zero=class or ignore"
            )
    else:
        names = _numbered(path, values, trained, first)
    if ignore_zero and 0 in values:
        notes.append("0 is no class, as in ADE20K")
    if 255 in values:
        notes.append("255 is no class")
    if len(names) < 2:
        raise InputError(f"--data: the training maps of {path} have no class at all to tell from another")
    kept = tuple(range(first, first + len(names)))
    return Numbering(names, kept, notes=tuple(notes), ignored=(255, *((0,) if ignore_zero else ())))


def _without(
    void: set[int],
    values: set[int],
    trained: set[int],
    names: tuple[str, ...],
    notes: tuple[str, ...],
    path: Path,
    first: int,
) -> Numbering:
    """Return the classes that are left where values are stated to be none: numbers from ``first``, or by names."""
    if not names:
        names = _numbered(path, values | void, trained - void, first)
    kept = [(name, first + i) for i, name in enumerate(names) if first + i not in void]
    if len(kept) < 2:
        raise InputError(f"--data: the training maps of {path} have no class at all to tell from another")
    numbers = tuple(number for _, number in kept)
    ignored = (255, *void) if first == 0 else (0, 255, *void)
    return Numbering(tuple(name for name, _ in kept), numbers, notes=notes, ignored=ignored)


def _ignored(options: Mapping[str, Any]) -> set[int]:
    stated = options.get("ignore")
    listed = [] if stated is None or stated == "" else stated if isinstance(stated, list | tuple) else [stated]
    if not all(isinstance(value, int) and 0 <= value <= 255 for value in listed):
        raise InputError(f"data_options.ignore: got {stated!r}, want numbers from 0 to 255")
    return set(listed)


def _stated(options: Mapping[str, Any], key: str) -> str:
    meaning = options.get(key, "auto")
    if meaning not in _MEANINGS:
        raise InputError(f"data_options.{key}: got {meaning!r}, want one of {', '.join(_MEANINGS)}")
    return str(meaning)


def _two(path: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    if len(names) > 2:
        raise InputError(f"--data: the maps of {path} have two values, but classes.txt {len(names)} names")
    return names if len(names) == 2 else ("background", *(names or ("foreground",)))


def _numbered(path: Path, values: set[int], trained: set[int], first: int) -> tuple[str, ...]:
    """Return names for classes that nobody named; numbers that leave gaps are no numbers of classes."""
    highest = max(trained - {255}, default=-1)
    if highest < first:
        raise InputError(f"--data: the training maps of {path} have no class at all")
    if gaps := sorted(set(range(first, highest + 1)) - values):
        there = some(sorted(values - {255}), 6)
        raise InputError(
            f"--data: the maps of {path} hold {there}, but no {some(gaps)}; want numbers without gaps, or classes.txt"
            " with a name for each number"
        )
    return tuple(f"class {number}" for number in range(first, highest + 1))
