"""The synthetic sample: complete, reproducible, its masks true to what was drawn."""

import pytest

from sw_anomaly.data.layouts import list_categories, read_category
from sw_anomaly.sample.drawings import SIZE
from sw_anomaly.sample.write import is_synthetic, write_sample
from sw_models.errors import InputError


@pytest.fixture
def few(monkeypatch):
    for name, count in (("TRAIN_GOOD", 3), ("TEST_GOOD", 2), ("TEST_PER_DEFECT", 1)):
        monkeypatch.setattr(f"sw_anomaly.sample.write.{name}", count)


@pytest.mark.usefixtures("few")
def test_the_sample_holds_three_categories_in_mvtec_layout_and_is_marked_synthetic(tmp_path):
    steps = []
    write_sample(tmp_path / "sample", progress=lambda what, done, total, note="": steps.append((done, total)))
    assert is_synthetic(tmp_path / "sample")
    assert list_categories(tmp_path / "sample") == ["bottle", "grid", "tile"]
    for name in list_categories(tmp_path / "sample"):
        category = read_category(tmp_path / "sample", name)
        assert len(category.train) == 3
        assert [image.is_good for image in category.test].count(True) == 2
        assert len({image.kind for image in category.test}) == 4
        for image in category.test:
            pixels, mask = image.load()
            assert pixels.shape == (SIZE, SIZE, 3)
            assert mask.any() != image.is_good
    assert steps[-1] == (24, 24)


@pytest.mark.usefixtures("few")
def test_equal_seeds_give_equal_images_and_others_do_not(tmp_path):
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        write_sample(tmp_path / name, seed)
    images = {name: sorted((tmp_path / name).rglob("*.png")) for name in ("one", "same", "other")}
    contents = {name: [path.read_bytes() for path in paths] for name, paths in images.items()}
    assert contents["one"] == contents["same"]
    assert all(a != b for a, b in zip(contents["one"], contents["other"], strict=True))
    assert len(set(contents["one"])) == len(contents["one"])


def test_an_existing_folder_is_not_written_to(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="already there"):
        write_sample(tmp_path / "mine")


@pytest.mark.usefixtures("few")
def test_an_interrupted_drawing_leaves_nothing_behind(tmp_path):
    def interrupt(what, done, total, note=""):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sample(tmp_path / "sample", progress=interrupt)
    assert list(tmp_path.iterdir()) == []
