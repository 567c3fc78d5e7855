import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mmcv", reason="mmcv is not installed (extra openmmlab)")

from sw_models.errors import InputError
from sw_sparse.openmmlab.loading import LoadUprightImage, with_upright_images


def test_files_are_loaded_upright_whatever_their_format(tmp_path):
    stored = np.zeros((20, 40, 3), dtype=np.uint8)
    stored[:8, :8] = (250, 20, 20)
    for suffix in ("png", "jpg", "tif"):
        image = Image.fromarray(stored)
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(tmp_path / f"a.{suffix}", exif=exif)
        loaded = LoadUprightImage().transform({"img_path": str(tmp_path / f"a.{suffix}")})
        assert loaded["img_shape"] == loaded["ori_shape"] == loaded["img"].shape[:2] == (40, 20)
        assert loaded["img"][2, -3, 2] > 200  # red is the last channel, and the stored corner went to the right
    with pytest.raises(InputError, match="want at most 100 pixels"):
        LoadUprightImage(max_pixels=100).transform({"img_path": str(tmp_path / "a.png")})


def test_loaders_are_replaced_at_any_depth_and_others_left_alone():
    own = {"type": "mmengine.LoadUprightImage", "max_pixels": 7}
    pipeline = [
        {"type": "LoadImageFromFile"},
        {"type": "RandomChoice", "transforms": [[{"type": "mmdet.LoadImageFromFile", "to_float32": True}]]},
        {"type": "LoadImageFromFile", "color_type": "grayscale"},
    ]
    first, second, third = with_upright_images(pipeline, 7)
    assert first == own
    assert second["transforms"] == [[{**own, "to_float32": True}]]
    assert third == pipeline[2]
