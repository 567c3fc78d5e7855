import numpy as np
from PIL import Image

from sw_seg.folder import read_folder
from sw_seg.sample import SIZE, SIZES, write_sample


def test_the_sample_is_a_data_folder_that_says_what_it_is(tmp_path):
    write_sample(tmp_path / "sample")
    folder = read_folder(tmp_path / "sample")
    assert folder.classes == ("background", "circle", "square", "triangle")
    assert {split: len(folder.pairs(split)) for split in SIZES} == SIZES
    assert (tmp_path / "sample" / "SYNTHETIC.txt").is_file()
    image, labels = folder.pairs("validation")[0]
    assert Image.open(image).size == Image.open(labels).size == (SIZE, SIZE)
    assert np.asarray(Image.open(labels)).max() <= 3


def test_training_and_validation_images_differ(tmp_path):
    write_sample(tmp_path / "sample")
    folder = read_folder(tmp_path / "sample")
    pictures = [np.asarray(Image.open(folder.pairs(split)[0][0])) for split in SIZES]
    assert not np.array_equal(*pictures)
