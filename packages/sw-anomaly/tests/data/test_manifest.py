"""Digests and manifests: of contents and not of names, and no test image that training saw."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sw_anomaly.data.category import LabelledImage
from sw_anomaly.data.layouts import read_category
from sw_anomaly.data.manifest import check_unseen, digest, picture_digest, training_images, write_manifest
from sw_anomaly.data.splits import Protocol, make_split
from sw_models.errors import InputError

UNSUPERVISED = Protocol()


@pytest.fixture
def category(tiny_root):
    return read_category(tiny_root, "disc")


def test_a_test_image_that_shows_what_training_saw_is_refused_whatever_its_name_and_format(category):
    seen = [picture_digest(image) for image in category.train]
    check_unseen(category.test, seen)
    copy = category.test[0].path.with_name("another.bmp")
    Image.open(category.train[2].path).save(copy)
    with pytest.raises(InputError, match=r"1 copy of images that the detector was trained on: .*another\.bmp"):
        check_unseen((*category.test, LabelledImage(copy, "good")), seen)
    pixels = np.array(Image.open(copy))
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(copy)
    check_unseen((*category.test, LabelledImage(copy, "good")), seen)


def test_the_manifest_names_every_file_with_the_sha256_of_its_content(category, tmp_path):
    split = make_split(category, UNSUPERVISED, 1)
    write_manifest(tmp_path / "manifest.json", split, UNSUPERVISED, 1)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (manifest["protocol"], manifest["leaky"], manifest["seed"]) == ("unsupervised", False, 1)
    for part in ("train", "validation", "test"):
        images = getattr(split, part)
        assert len(manifest[part]) == len(images)
        for entry, image in zip(manifest[part], images, strict=True):
            assert str(image.path).endswith(entry["path"])
            assert entry["path"].startswith("disc/")
            assert entry["file"] == str(image.path.absolute())
            assert entry["sha256"] == hashlib.sha256(image.path.read_bytes()).hexdigest()


def test_the_digest_depends_on_contents_alone(category):
    before = digest(category.train)
    assert digest(reversed(category.train)) == before
    moved = category.train[0].path.rename(category.train[0].path.with_name("zzz.png"))
    renamed = (replace(category.train[0], path=moved), *category.train[1:])
    assert digest(renamed) == before
    moved.write_bytes(moved.read_bytes() + b"x")
    assert digest(renamed) != before


def test_training_images_are_found_again_unless_they_changed(category, tmp_path):
    split = make_split(category, UNSUPERVISED, 1)
    write_manifest(tmp_path / "manifest.json", split, UNSUPERVISED, 1)
    paths = [image.path for image in split.train]
    assert training_images(tmp_path / "manifest.json", 100) == paths
    some = training_images(tmp_path / "manifest.json", 3)
    assert len(some) == 3
    assert set(some) <= set(paths)
    paths[0].write_bytes(b"another")
    paths[1].unlink()
    assert training_images(tmp_path / "manifest.json", 100) == paths[2:]
    assert training_images(tmp_path / "none.json", 100) == []
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(InputError, match=r"manifest\.json is damaged"):
        training_images(tmp_path / "manifest.json", 100)
