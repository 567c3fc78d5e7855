import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from sw_models.errors import InputError
from sw_sparse.trainer.data import (
    Digits,
    evaluation_loader,
    number_of_classes,
    open_dataset,
    start_epoch,
    training_loader,
)
from sw_sparse.trainer.recipe import read_recipe


@pytest.fixture
def folder(tmp_path):
    """Two classes of four small images, to train and to validate on."""
    for split in ("train", "val"):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(4):
                pixels = np.full((40, 50, 3), 100 * label + i, np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{i}.png")
    return tmp_path


def recipe(**flags):
    return read_recipe(None, {"workers": 0, "batch_size": 2, "input_size": 32, **flags})


def test_digits_has_fixed_disjoint_splits():
    splits = [Digits(split) for split in ("train", "validation", "test")]
    assert [len(split) for split in splits] == [1078, 359, 360]
    scans = {(split.scans[i].tobytes(), int(split.labels[i])) for split in splits for i in range(len(split))}
    assert len(scans) == 1797  # all digits, each in one split
    image, label = splits[0][0]
    assert image.size == (8, 8)
    assert 0 <= label <= 9


def test_folders(folder):
    settings = recipe(data_dir=str(folder))
    train, val = (open_dataset(settings, split, training=t) for split, t in (("train", True), ("validation", False)))
    assert number_of_classes(settings, train, val) == 2
    assert train[0][0].shape == (3, 32, 32)


def test_tar_files(folder):
    for split in ("train", "val"):
        with tarfile.open(folder / f"{split}.tar", "w") as tar:
            tar.add(folder / split, arcname=".")
    (folder / "val" / "cat" / "0.png").unlink()  # from now on the folders hold other images than the tar files
    settings = recipe(dataset="tar", data_dir=str(folder))
    train, val = (open_dataset(settings, split, training=False) for split in ("train", "validation"))
    assert len(train) == len(val) == 8
    assert number_of_classes(settings, train, val) == 2
    alone = open_dataset(recipe(dataset="tar", data_dir=str(folder / "val.tar")), "train", training=False)
    assert alone.filenames() == val.filenames()
    with pytest.raises(InputError, match="cannot open 'test' of 'tar' at .*: no test.tar there"):
        open_dataset(settings, "test", training=False)


def test_splits_of_other_classes_are_refused(folder):
    (folder / "val" / "dog").rename(folder / "val" / "wolf")
    settings = recipe(data_dir=str(folder))
    sets = [open_dataset(settings, split, training=False) for split in ("train", "validation")]
    with pytest.raises(InputError, match="different classes .*dog, wolf"):
        number_of_classes(settings, *sets)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"data_dir": "/nowhere"}, "data_dir: cannot open 'train' of 'folder' at /nowhere"),
        ({"dataset": "torch/nothing", "data_dir": "/nowhere"}, "cannot open 'train' of 'torch/nothing'"),
    ],
)
def test_data_that_are_not_there_are_named_in_one_line(flags, message):
    with pytest.raises(InputError, match=message) as error:
        open_dataset(recipe(**flags), "train", training=True)
    assert "\n" not in str(error.value)


def test_an_unknown_split_of_digits_is_named():
    with pytest.raises(InputError, match="digits has no 'eval'"):
        open_dataset(recipe(dataset="digits"), "eval", training=False)


def order(world, epoch, batch):
    settings = recipe(dataset="digits", batch_size=batch)
    dataset = Digits("train")
    loaders = [training_loader(settings, dataset, rank, world) for rank in range(world)]
    for loader in loaders:
        loader.sampler.set_epoch(epoch)
    shares = [list(loader.sampler) for loader in loaders]
    steps = len(shares[0]) // batch
    return [{i for share in shares for i in share[step * batch : (step + 1) * batch]} for step in range(steps)]


def test_the_global_batches_do_not_depend_on_the_number_of_processes():
    assert order(1, 3, 64) == order(2, 3, 32) == order(4, 3, 16)
    assert order(1, 3, 64) != order(1, 4, 64)


def test_every_image_is_evaluated_once_whatever_the_number_of_processes():
    settings, dataset = recipe(dataset="digits"), Digits("test")
    seen = [i for rank in range(3) for i in evaluation_loader(settings, dataset, rank, 3).dataset.indices]
    assert sorted(seen) == list(range(360))


def test_an_epoch_is_repeated_exactly_and_ranks_differ():
    settings = recipe(dataset="digits")
    dataset = open_dataset(settings, "train", training=True)
    loader = training_loader(settings, dataset, 0, 1)

    def first(epoch, rank=0):
        start_epoch(loader, 7, epoch, rank)
        return next(iter(loader))[0], np.random.rand()  # noqa: NPY002  (what is seeded)

    (image, number), (again, same) = first(2), first(2)
    assert torch.equal(image, again)
    assert number == same
    assert first(3)[1] != number != first(2, rank=1)[1]
