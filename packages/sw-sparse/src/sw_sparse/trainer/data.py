"""Data sets, transforms and loaders, all timm's, and the one data set that is always there."""

from __future__ import annotations

import random
from collections.abc import Callable, Sized
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from timm.data import create_dataset, create_transform
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset, Subset

from sw_models.errors import InputError
from sw_sparse.trainer.recipe import Recipe

SPLIT_NAMES = (("train", "training"), ("validation", "val", "valid", "eval", "evaluation"))  # timm takes all for one


class Digits(Dataset):
    """scikit-learn's 1,797 scanned digits, in fixed stratified splits: 60 % train, 20 % validation, 20 % test."""

    class_to_idx = {str(digit): digit for digit in range(10)}  # noqa: RUF012

    def __init__(self, split: str) -> None:
        scans, labels = load_digits(return_X_y=True)
        train, rest = train_test_split(np.arange(len(labels)), test_size=0.4, stratify=labels, random_state=0)
        validation, test = train_test_split(rest, test_size=0.5, stratify=labels[rest], random_state=0)
        splits = {"train": train, "validation": validation, "test": test}
        if split not in splits:
            raise InputError(f"split: digits has no {split!r}, want one of {', '.join(splits)}")
        self.scans = (scans[splits[split]].reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
        self.labels = labels[splits[split]]
        self.transform: Callable[[Image.Image], Any] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = Image.fromarray(self.scans[index]).convert("RGB")
        return self.transform(image) if self.transform else image, int(self.labels[index])


def open_dataset(recipe: Recipe, split: str, *, training: bool) -> Dataset:
    """Open one split with its transform.

    Raises:
        InputError: where the data set cannot be opened, or is empty.
    """
    if recipe.dataset == "digits":
        dataset: Any = Digits(split)
    else:
        name = "" if recipe.dataset in ("folder", "tar") else recipe.dataset
        try:
            dataset = create_dataset(
                name,
                root=_location(recipe, split),
                split=split,
                is_training=training,
                batch_size=recipe.batch_size,
                seed=recipe.seed,
                download=recipe.download,
            )
        except (OSError, ValueError, RuntimeError, AssertionError, ImportError, KeyError) as error:
            first_line = (str(error) or type(error).__name__).splitlines()[0]
            raise InputError(
                f"data_dir: cannot open {split!r} of {recipe.dataset!r} at {recipe.data_dir}: {first_line}"
            ) from error
    if isinstance(dataset, Sized) and not len(dataset):
        raise InputError(f"data_dir: {split!r} of {recipe.dataset!r} at {recipe.data_dir} is empty")
    dataset.transform = transform_of(recipe, training=training)
    return dataset


def _location(recipe: Recipe, split: str) -> str | None:
    """Return where timm is to look, which does not look for a split among tar files itself."""
    if recipe.dataset != "tar" or recipe.data_dir is None or not Path(recipe.data_dir).is_dir():
        return recipe.data_dir
    names = next((names for names in SPLIT_NAMES if split in names), (split,))
    files = [Path(recipe.data_dir) / f"{name}.tar" for name in names]
    found = [str(file) for file in files if file.is_file()]
    if not found:
        raise FileNotFoundError(f"no {' or '.join(file.name for file in files)} there")
    return found[0]


def transform_of(recipe: Recipe, *, training: bool) -> Any:
    """Return timm's augmentation for training, or resizing and cropping for evaluation."""
    return create_transform(
        recipe.input_size,
        is_training=training,
        scale=recipe.scale,
        ratio=recipe.ratio,
        hflip=recipe.hflip,
        color_jitter=recipe.color_jitter or None,  # type: ignore[arg-type]
        auto_augment=recipe.auto_augment,
        interpolation=recipe.interpolation,
        mean=recipe.mean,
        std=recipe.std,
        re_prob=recipe.reprob if training else 0.0,
        re_mode=recipe.remode,
        re_count=recipe.recount,
        crop_pct=recipe.crop_pct,
        # From 384 pixels on the published evaluation warps the whole image instead of cropping it.
        crop_mode="squash" if recipe.input_size >= 384 else "center",
    )


def classes_of(dataset: Any) -> dict[str, int] | None:
    """Return the data set's class names and their labels, where it tells."""
    holder = getattr(dataset, "reader", dataset)
    for attribute in ("class_to_idx", "class_name_to_idx"):
        if found := getattr(holder, attribute, None):
            return dict(found)
    return None


def number_of_classes(recipe: Recipe, *datasets: Any) -> int:
    """Return the number of classes, from the recipe or from the data.

    Raises:
        InputError: where neither tells, or the splits disagree.
    """
    known = [classes for dataset in datasets if (classes := classes_of(dataset))]
    if len(known) > 1 and any(classes != known[0] for classes in known):
        odd = sorted(set(known[0]) ^ set(known[1]))
        raise InputError(f"data_dir: the splits have different classes ({', '.join(odd[:5]) or 'in another order'})")
    if recipe.num_classes:
        return recipe.num_classes
    if not known:
        raise InputError(f"num_classes: got nothing, and the data set {recipe.dataset!r} does not tell")
    return len(known[0])


def training_loader(recipe: Recipe, dataset: Any, rank: int, world: int) -> DataLoader:
    """Return a loader whose order depends on the seed and the epoch alone.

    Batches of all ranks together are consecutive pieces of one permutation, however many ranks there are.
    """
    shares_itself_out = isinstance(dataset, IterableDataset)
    sampler: DistributedSampler | None = None
    if not shares_itself_out:
        sampler = DistributedSampler(dataset, world, rank, shuffle=True, seed=recipe.seed, drop_last=True)
    return DataLoader(
        dataset,
        recipe.batch_size,
        sampler=sampler,
        drop_last=True,
        num_workers=recipe.workers,
        worker_init_fn=_seed_worker,
        pin_memory=torch.cuda.is_available(),
    )


def evaluation_loader(recipe: Recipe, dataset: Any, rank: int, world: int) -> DataLoader:
    """Return a loader over this rank's share of the images, each once."""
    if not isinstance(dataset, IterableDataset):
        dataset = Subset(dataset, range(rank, len(dataset), world))
    batch = recipe.batch_size * 3 // 2  # no gradients to hold
    return DataLoader(dataset, batch, num_workers=recipe.workers, pin_memory=torch.cuda.is_available())


def start_epoch(loader: DataLoader, seed: int, epoch: int, rank: int) -> None:
    """Set the order of the epoch, and every random number generator, from the seed, the epoch and the rank alone."""
    for holder in (loader.sampler, loader.dataset):
        if hasattr(holder, "set_epoch"):
            holder.set_epoch(epoch)
    own = int(np.random.SeedSequence([seed, epoch, rank]).generate_state(1)[0])
    random.seed(own)
    np.random.seed(own)  # noqa: NPY002  (timm's mixup and augmentation draw from it)
    torch.manual_seed(own)


def _seed_worker(_: int) -> None:
    np.random.seed(torch.initial_seed() % 2**32)  # noqa: NPY002
