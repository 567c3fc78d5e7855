"""Splits of a data set that has none: the same for the same seed, and with every class in each as far as it goes."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence

import numpy as np

SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


def split_named(name: str) -> str | None:
    """Return the split that a folder or a list is called by, in any of the usual spellings."""
    return next((split for split, names in SPLIT_NAMES.items() if name.lower() in names), None)


def stratify(labels: Sequence[Collection[Hashable]], shares: Mapping[str, float], seed: int = 0) -> list[str]:
    """Divide samples so that each class is in each split as often as its share says.

    Classes are dealt out one after the other, the rarest first, each sample to the split that still lacks most of its
    class (Sechidis et al., On the Stratification of Multi-label Data, 2011).

    Args:
        labels: the classes in each sample.
        shares: of the splits; their sum is 1.
        seed: of what is left to chance.

    Returns:
        The split of each sample. No split is empty if there are as many samples as splits.
    """
    generator = np.random.default_rng(seed)
    names = list(shares)
    members: dict[Hashable, list[int]] = {}
    for sample in generator.permutation(len(labels)).tolist():
        for label in labels[sample]:
            members.setdefault(label, []).append(sample)
    room = {name: shares[name] * len(labels) for name in names}
    lacking = {label: {name: shares[name] * len(found) for name in names} for label, found in members.items()}
    for label, found in members.items():
        if len(found) >= len(names):  # enough for one in each split
            lacking[label] = {name: max(1.0, wanted) for name, wanted in lacking[label].items()}
    taken: dict[int, str] = {}

    def place(sample: int, name: str) -> None:
        taken[sample] = name
        room[name] -= 1
        for label in labels[sample]:
            lacking[label][name] -= 1

    open_classes = dict(members)
    while open_classes:
        left = {label: [s for s in found if s not in taken] for label, found in open_classes.items()}
        open_classes = {label: found for label, found in left.items() if found}
        if not open_classes:
            break
        rarest = min(open_classes, key=lambda label: (len(open_classes[label]), str(label)))
        for sample in open_classes.pop(rarest):
            place(sample, max(names, key=lambda name: (lacking[rarest][name], room[name])))
    for sample in generator.permutation(len(labels)).tolist():
        if sample not in taken:
            place(sample, max(names, key=lambda name: room[name]))
    for name in names:
        if name not in taken.values() and len(labels) >= len(names):
            fullest = max(names, key=lambda other: list(taken.values()).count(other))
            place(next(s for s in reversed(taken) if taken[s] == fullest), name)
    return [taken[sample] for sample in range(len(labels))]
