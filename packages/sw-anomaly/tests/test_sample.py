"""The synthetic sample: complete, reproducible, its masks true to what was drawn."""

import numpy as np
import pytest

from sw_anomaly.dataset import read_category
from sw_anomaly.errors import InputError
from sw_anomaly.sample import CATEGORIES, SIZE, is_synthetic, write_sample


@pytest.fixture
def few(monkeypatch):
    for name, count in (("TRAIN_GOOD", 3), ("TEST_GOOD", 2), ("TEST_PER_DEFECT", 1)):
        monkeypatch.setattr(f"sw_anomaly.sample.{name}", count)


@pytest.mark.usefixtures("few")
def test_the_sample_is_a_category_in_mvtec_layout_and_marked_synthetic(tmp_path):
    steps = []
    write_sample(tmp_path / "sample", progress=lambda what, done, total, note="": steps.append((done, total)))
    category = read_category(tmp_path / "sample", "bottle")
    assert is_synthetic(tmp_path / "sample")
    assert len(category.train) == 3
    assert [image.kind for image in category.test] == ["broken_large", "broken_small", "contamination", "good", "good"]
    for image in category.test:
        pixels, mask = image.load()
        assert pixels.shape == (SIZE, SIZE, 3)
        assert mask.any() != image.is_good
    assert steps[-1] == (8, 8)


@pytest.mark.usefixtures("few")
def test_equal_seeds_give_equal_images_and_others_do_not(tmp_path):
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        write_sample(tmp_path / name, seed)
    images = {name: sorted((tmp_path / name).rglob("*.png")) for name in ("one", "same", "other")}
    contents = {name: [path.read_bytes() for path in paths] for name, paths in images.items()}
    assert contents["one"] == contents["same"]
    assert all(a != b for a, b in zip(contents["one"], contents["other"], strict=True))
    assert len(set(contents["one"])) == len(contents["one"])


@pytest.mark.parametrize("category", CATEGORIES)
def test_masks_hold_what_the_defect_changed(category):
    draw, defects = CATEGORIES[category]
    for defect in defects.values():
        changed_inside = []
        for seed in range(4):
            good, _ = draw(None, np.random.default_rng(seed))
            before = {}

            def spy(picture, x, y, rng, defect=defect, before=before):
                before["picture"] = picture.copy()
                shape = defect(picture, x, y, rng)
                before["change"] = np.abs(picture - before["picture"]).max(axis=2)
                return shape

            bad, mask = draw(spy, np.random.default_rng(seed))
            inside = mask > 0
            assert good.shape == bad.shape
            assert 20 < inside.sum() < 0.25 * inside.size
            assert before["change"][~inside].mean() < 0.002
            changed_inside.append(before["change"][inside].mean())
        assert min(changed_inside) > 0.05


def test_an_existing_folder_is_not_written_to(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="already exists"):
        write_sample(tmp_path / "mine")


@pytest.mark.usefixtures("few")
def test_an_interrupted_drawing_leaves_nothing_behind(tmp_path):
    def interrupt(what, done, total, note=""):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sample(tmp_path / "sample", progress=interrupt)
    assert list(tmp_path.iterdir()) == []
