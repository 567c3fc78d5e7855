import shutil
import tarfile
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sw_models.errors import InputError
from sw_sparse.trainer.classes import bind_labels, class_names, number_of_classes
from sw_sparse.trainer.data import Digits, evaluation_loader, open_dataset, start_epoch, training_loader
from sw_sparse.trainer.data_identity import identity_of, refuse_other_data
from sw_sparse.trainer.image_folder import describe_left_out
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
    assert number_of_classes(None, class_names(train)) == 2
    assert class_names(val) == ["cat", "dog"]
    assert train[0][0].shape == (3, 32, 32)


def test_tar_files(folder):
    for split in ("train", "val"):
        with tarfile.open(folder / f"{split}.tar", "w") as tar:
            tar.add(folder / split, arcname=".")
    (folder / "val" / "cat" / "0.png").unlink()  # from now on the folders hold other images than the tar files
    settings = recipe(dataset="tar", data_dir=str(folder))
    train: Any
    val: Any
    train, val = (open_dataset(settings, split, training=False) for split in ("train", "validation"))
    assert len(train) == len(val) == 8
    assert class_names(train) == class_names(val) == ["cat", "dog"]
    alone: Any = open_dataset(recipe(dataset="tar", data_dir=str(folder / "val.tar")), "train", training=False)
    assert alone.filenames() == val.filenames()
    with pytest.raises(InputError, match="cannot open 'test' of 'tar' at .*: no test.tar there"):
        open_dataset(settings, "test", training=False)


def test_splits_of_other_classes_are_refused(folder):
    (folder / "val" / "dog").rename(folder / "val" / "wolf")
    settings = recipe(data_dir=str(folder))
    sets = [open_dataset(settings, split, training=False) for split in ("train", "validation")]
    with pytest.raises(InputError, match="data_dir: 'validation' has 'wolf', classes that were not trained"):
        bind_labels(sets[1], class_names(sets[0]), "'validation'")


def test_a_split_with_some_of_the_classes_gets_the_numbers_of_training(folder):
    shutil.rmtree(folder / "val" / "cat")
    val: Any = open_dataset(recipe(data_dir=str(folder)), "validation", training=False)
    assert val[0][1] == 0
    bind_labels(val, ["cat", "dog"], "'validation'")
    assert {label for _, label in val} == {1}


@pytest.mark.parametrize("dataset", ["folder", "torch/image_folder"])
def test_a_split_that_does_not_exist_is_refused_by_name(folder, dataset):
    settings = recipe(dataset=dataset, data_dir=str(folder))
    with pytest.raises(InputError, match=r"has no folder 'tset' for the split 'tset', it has train, val"):
        open_dataset(settings, "tset", training=False)
    shutil.rmtree(folder / "val")
    with pytest.raises(InputError, match="no folder 'validation' or 'val' .* it has train"):
        open_dataset(settings, "validation", training=False)
    (folder / "train").rename(folder / "Train")
    with pytest.raises(InputError, match="no folder 'train'"):
        open_dataset(settings, "train", training=True)
    inside = recipe(dataset=dataset, data_dir=str(folder / "Train"))
    assert len(open_dataset(inside, ".", training=False)) == 8


def test_an_unknown_split_or_name_of_timms_data_sets_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such split, want train, validation or test"):
        open_dataset(recipe(dataset="torch/cifar10", data_dir=str(tmp_path)), "tset", training=False)
    with pytest.raises(InputError, match="dataset: got 'fodler'"):
        open_dataset(recipe(dataset="fodler", data_dir=str(tmp_path)), "train", training=False)


def test_sixteen_bit_grey_images_are_scaled_and_others_refused_by_name(folder):
    ramp = np.linspace(0, 65535, 32 * 32).round().reshape(32, 32)
    Image.fromarray(ramp.astype(np.uint16)).save(folder / "val" / "cat" / "0.png")
    settings = recipe(data_dir=str(folder), crop_pct=1.0, mean=[0.0] * 3, std=[1.0] * 3)
    val = open_dataset(settings, "validation", training=False)
    np.testing.assert_allclose(val[0][0][0].numpy(), np.round(ramp / 257) / 255, atol=1e-6)
    Image.fromarray(ramp.astype(np.float32)).save(folder / "val" / "cat" / "0.tif")
    with pytest.raises(InputError, match=r"0\.tif: no image that can be read .*mode 'F'"):
        open_dataset(settings, "validation", training=False)[1]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_named_in_one_line(folder, workers):
    (folder / "train" / "dog" / "3.png").write_bytes(b"no image")
    settings = recipe(data_dir=str(folder), workers=workers)
    loader = training_loader(settings, open_dataset(settings, "train", training=True), 0, 1)
    with pytest.raises(InputError, match=r"^/.*dog/3\.png: no image that can be read") as error:
        list(start_epoch(loader, 0, 0, 0))
    assert "\n" not in str(error.value)


def test_files_that_are_left_out_are_counted_and_loose_images_are_no_class(folder):
    image = folder / "train" / "cat" / "0.png"
    for number in range(3):
        shutil.copy(image, folder / "train" / f"loose-{number}.png")
        (folder / "train" / "dog" / f"{number}.heic").touch()
    Image.open(image).save(folder / "train" / "cat" / "more.webp")
    train: Any = open_dataset(recipe(data_dir=str(folder)), "train", training=True)
    assert class_names(train) == ["cat", "dog"]
    assert (len(train), sorted(train.labels)) == (9, [0] * 5 + [1] * 4)
    assert describe_left_out(train, "train") == (
        "train: 6 files left out: 3 .heic (no image suffix), 3 images outside the class folders"
    )
    assert describe_left_out(open_dataset(recipe(data_dir=str(folder)), "val", training=False), "val") is None


def test_other_data_are_told_from_those_of_training(folder):
    settings = recipe(data_dir=str(folder))
    before = {"train": identity_of(open_dataset(settings, "train", training=True))}
    refuse_other_data(before, before, "runs/x")
    (folder / "train" / "cat" / "0.png").rename(folder / "train" / "cat" / "9.png")
    renamed = {"train": identity_of(open_dataset(settings, "train", training=True))}
    with pytest.raises(InputError, match="the files of 'train' are not those that the run in runs/x was trained on"):
        refuse_other_data(before, renamed, "runs/x")
    (folder / "train" / "cat" / "9.png").unlink()
    fewer = {"train": identity_of(open_dataset(settings, "train", training=True))}
    with pytest.raises(InputError, match=r"the images of 'train' .*\(8 then, 7 now\)"):
        refuse_other_data(before, fewer, "runs/x")


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
        loader.batch_sampler.set_epoch(epoch)
    return [{i for share in shares for i in share} for shares in zip(*(x.batch_sampler for x in loaders), strict=True)]


def test_the_global_batches_do_not_depend_on_the_number_of_processes():
    assert order(1, 3, 64) == order(2, 3, 32) == order(4, 3, 16)
    assert order(1, 3, 64) != order(1, 4, 64)


def test_every_image_is_evaluated_once_whatever_the_number_of_processes():
    settings, dataset = recipe(dataset="digits"), Digits("test")
    loaders: list[Any] = [evaluation_loader(settings, dataset, rank, 3) for rank in range(3)]
    seen = [i for loader in loaders for i in loader.dataset.indices]
    assert sorted(seen) == list(range(360))


def test_an_epoch_is_repeated_exactly_and_ranks_differ():
    settings = recipe(dataset="digits")
    dataset = open_dataset(settings, "train", training=True)
    loader = training_loader(settings, dataset, 0, 1)

    def first(epoch, rank=0):
        batches = start_epoch(loader, 7, epoch, rank)
        number = np.random.rand()  # noqa: NPY002  (what is seeded)
        return next(batches)[0], number

    (image, number), (again, same) = first(2), first(2)
    assert torch.equal(image, again)
    assert number == same
    assert first(3)[1] != number != first(2, rank=1)[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_goes_on_from_any_batch_exactly(workers):
    def batches(first):
        settings = recipe(dataset="digits", batch_size=200, workers=workers)
        loader = training_loader(settings, open_dataset(settings, "train", training=True), 0, 1)
        return [images for images, _ in start_epoch(loader, 3, 1, 0, first)]

    whole, rest = batches(0), batches(3)
    assert len(whole) == 5
    assert all(torch.equal(a, b) for a, b in zip(whole[3:], rest, strict=True))
