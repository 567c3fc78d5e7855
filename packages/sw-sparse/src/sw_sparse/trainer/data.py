"""Data sets, transforms and loaders, all timm's, and the one data set that is always there."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sized
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from timm.data import create_dataset, create_transform
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset, Sampler, Subset
from torchvision import transforms

from sw_models.errors import InputError
from sw_sparse.trainer.image_folder import SPLIT_NAMES, ImageFolder, find_split, names_of
from sw_sparse.trainer.images import to_rgb
from sw_sparse.trainer.recipe import Recipe

TIMM_PREFIXES = ("torch", "hfds", "hfids", "tfds", "wds")


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
        self.target_transform: Callable[[int], int] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image, label = Image.fromarray(self.scans[index]).convert("RGB"), int(self.labels[index])
        label = self.target_transform(label) if self.target_transform else label
        return self.transform(image) if self.transform else image, label


def open_dataset(recipe: Recipe, split: str, *, training: bool) -> Dataset:
    """Open one split with its transform.

    Raises:
        InputError: where the data set or the split does not exist, cannot be opened, or is empty.
    """
    transform = transform_of(recipe, training=training)
    if recipe.dataset == "digits":
        dataset: Any = Digits(split)
    elif recipe.dataset == "folder":
        dataset = ImageFolder(find_split(Path(recipe.data_dir or ""), split))
    else:
        dataset = _open_with_timm(recipe, split, training=training)
    if isinstance(dataset, Sized) and not len(dataset):
        raise InputError(f"data_dir: {split!r} of {recipe.dataset!r} at {recipe.data_dir} is empty")
    dataset.transform = transform
    return dataset


def _open_with_timm(recipe: Recipe, split: str, *, training: bool) -> Any:
    where = f"data_dir: cannot open {split!r} of {recipe.dataset!r} at {recipe.data_dir}"
    prefix, _, name = recipe.dataset.partition("/")
    if recipe.dataset != "tar" and (prefix not in TIMM_PREFIXES or not name):
        raise InputError(
            f"dataset: got {recipe.dataset!r}, want folder, tar, digits, or timm's {', '.join(TIMM_PREFIXES)}/NAME"
        )
    root: str | Path | None = recipe.data_dir
    if recipe.dataset in ("torch/folder", "torch/image_folder"):
        root = find_split(Path(recipe.data_dir or ""), split)
    elif prefix == "torch" and not any(split in names for names in SPLIT_NAMES):
        # For many of them timm takes any name that is not "train" for the other half of the data.
        raise InputError(f"{where}: no such split, want train, validation or test")
    try:
        dataset = create_dataset(
            "" if recipe.dataset == "tar" else recipe.dataset,
            root=str(_tar_file(recipe, split)) if recipe.dataset == "tar" else root,  # type: ignore[arg-type]
            split=split,
            search_split=False,
            is_training=training,
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            download=recipe.download,
            input_img_mode="",
        )
    except (OSError, ValueError, RuntimeError, AssertionError, ImportError, KeyError) as error:
        raise InputError(f"{where}: {(str(error) or type(error).__name__).splitlines()[0]}") from error
    if "" in (getattr(getattr(dataset, "reader", None), "class_to_idx", None) or ()):
        raise InputError(f"{where}: it has images outside its class folders")
    return dataset


def _tar_file(recipe: Recipe, split: str) -> Path:
    """Return the file that a split is in: timm does not look for splits among tar files."""
    place = Path(recipe.data_dir or "")
    if not place.is_dir():
        if not place.is_file():
            raise FileNotFoundError(f"no file or folder {place}")
        return place
    files = [place / f"{name}.tar" for name in names_of(split)]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"no {' or '.join(file.name for file in files)} there")
    return found


def transform_of(recipe: Recipe, *, training: bool) -> Any:
    """Return timm's augmentation for training, or resizing and cropping for evaluation; of images of any mode.

    Raises:
        InputError: for a policy that timm does not know.
    """
    try:
        augmentation = create_transform(
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
    except (AssertionError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"auto_augment: timm knows no policy {recipe.auto_augment!r}") from error
    return transforms.Compose([to_rgb, augmentation])


def seed_everything(*numbers: int) -> None:
    """Seed every random number generator from these numbers, those of accelerators too."""
    torch.manual_seed(_seed_augmentation(*numbers))


def _seed_augmentation(*numbers: int) -> int:
    """Seed the generators that augmentation draws from: ten times as fast as all of them. Return the seed."""
    own = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    random.seed(own)
    np.random.seed(own)  # noqa: NPY002  (timm's mixup and augmentation draw from it)
    torch.default_generator.manual_seed(own)
    return own


class _SeededImages(Dataset):
    """A data set whose every image is augmented by seed, epoch and index, whichever process loads it, and when."""

    def __init__(self, dataset: Any, seed: int) -> None:
        self._dataset = dataset
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        _seed_augmentation(self._seed, self._epoch, index)
        return self._dataset[index]


class _Batches(Sampler[list[int]]):
    """This rank's batches of an epoch, from ``first`` on.

    Batches of all ranks together are consecutive pieces of one permutation, however many ranks there are.
    """

    def __init__(self, recipe: Recipe, dataset: Any, rank: int, world: int) -> None:
        self._order: DistributedSampler = DistributedSampler(
            dataset, world, rank, shuffle=True, seed=recipe.seed, drop_last=True
        )
        self._size = recipe.batch_size
        self.first = 0

    def set_epoch(self, epoch: int) -> None:
        self._order.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._order) // self._size

    def __iter__(self) -> Iterator[list[int]]:
        indices = list(self._order)
        for number in range(self.first, len(self)):
            yield indices[number * self._size : (number + 1) * self._size]


def training_loader(recipe: Recipe, dataset: Any, rank: int, world: int) -> DataLoader:
    """Return a loader whose order depends on the seed and the epoch alone."""
    more: dict[str, Any] = {
        "num_workers": recipe.workers, "worker_init_fn": _seed_worker, "pin_memory": torch.cuda.is_available()
    }  # fmt: skip
    if isinstance(dataset, IterableDataset):  # they share themselves out
        return DataLoader(dataset, recipe.batch_size, drop_last=True, **more)
    return DataLoader(_SeededImages(dataset, recipe.seed), batch_sampler=_Batches(recipe, dataset, rank, world), **more)


def evaluation_loader(recipe: Recipe, dataset: Any, rank: int, world: int) -> DataLoader:
    """Return a loader over this rank's share of the images, each once."""
    if not isinstance(dataset, IterableDataset):
        dataset = Subset(dataset, range(rank, len(dataset), world))
    batch = recipe.batch_size * 3 // 2  # no gradients to hold
    return DataLoader(dataset, batch, num_workers=recipe.workers, pin_memory=torch.cuda.is_available())


def start_epoch(loader: DataLoader, seed: int, epoch: int, rank: int, first: int = 0) -> Iterator[tuple[Any, Any]]:
    """Return the batches of an epoch, from ``first`` on: the same ones whenever they are asked for.

    What came before is not loaded again, except from data sets that can only be read from the start.

    Raises:
        InputError: while iterating, for an image that cannot be read.
    """
    holders: tuple[Any, Any] = (loader.batch_sampler, loader.dataset)
    for holder in holders:
        if hasattr(holder, "set_epoch"):
            holder.set_epoch(epoch)
    seed_everything(seed, epoch, rank)
    if isinstance(loader.batch_sampler, _Batches):
        loader.batch_sampler.first = first
        return readable(loader)
    return itertools.islice(readable(loader), first, None)


def readable(loader: DataLoader) -> Iterator[tuple[Any, Any]]:
    """Yield a loader's batches; what is wrong with an image is said in one line, whichever process found it."""
    try:
        yield from loader
    except (InputError, OSError) as error:
        # Out of a worker the message comes with the worker's traceback before it.
        raise InputError(str(error).strip().splitlines()[-1].rpartition("InputError: ")[2]) from error


def _seed_worker(_: int) -> None:
    np.random.seed(torch.initial_seed() % 2**32)  # noqa: NPY002
