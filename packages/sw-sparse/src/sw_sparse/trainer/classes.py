"""Class names: what binds a label to its meaning, from the training data to every other data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sw_models.errors import InputError


def class_names(dataset: Any) -> list[str] | None:
    """Return the data set's class names in the order of their labels, or None where it does not tell."""
    holder = getattr(dataset, "reader", dataset)
    for attribute in ("class_to_idx", "class_name_to_idx"):
        if numbers := getattr(holder, attribute, None):
            names: dict[int, str] = {}
            for name, number in numbers.items():
                names.setdefault(number, str(name))  # torchvision's ImageNet has synonyms
            return [names.get(number, str(number)) for number in range(max(names) + 1)]
    return None


def number_of_classes(asked: int | None, classes: Sequence[str] | None) -> int:
    """Return the number of the model's outputs, from the recipe or from the data.

    Raises:
        InputError: where neither tells, or the recipe asks for fewer than the data have.
    """
    if asked is None and classes is None:
        raise InputError("num_classes: got nothing, and the data set does not tell")
    if asked is not None and classes is not None and asked < len(classes):
        raise InputError(f"num_classes: got {asked}, but the data have {len(classes)} classes")
    return asked or len(classes or ())


def bind_labels(dataset: Any, classes: Sequence[str] | None, what: str) -> None:
    """Give a data set the training's numbers, class by class of the same name; it may hold a subset of the classes.

    Raises:
        InputError: naming classes that were not trained.
    """
    own = class_names(dataset)
    if own is None or classes is None or own == list(classes):
        return
    numbers = {name: number for number, name in enumerate(classes)}
    if unknown := [name for name in own if name not in numbers]:
        raise InputError(
            f"data_dir: {what} has {_some(unknown)}, classes that were not trained, want some of {_some(classes)}"
        )
    if not hasattr(dataset, "target_transform"):
        raise InputError(f"data_dir: {what} numbers its classes in another way than training, and cannot be told")
    dataset.target_transform = [numbers[name] for name in own].__getitem__


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
