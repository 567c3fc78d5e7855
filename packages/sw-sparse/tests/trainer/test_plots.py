import numpy as np
from PIL import Image

from sw_sparse.trainer.plots import draw_curves, draw_sparsity


def history(layers):
    return [
        {"epoch": i, "train_loss": 2.0 / (i + 1), "loss": 2.1 / (i + 1), "top1": 10.0 * i, "lr": 0.1,
         "density": {f"layer.{n}": 0.7 for n in range(layers)},
         "explored": {f"layer.{n}": 0.7 + 0.05 * i for n in range(layers)}}
        for i in range(3)
    ]  # fmt: skip


def test_pictures_show_something(tmp_path):
    draw_curves(history(3), tmp_path / "curves.png")
    draw_sparsity(history(3), tmp_path / "few.png")
    draw_sparsity(history(21), tmp_path / "many.png")
    for path in tmp_path.iterdir():
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert pixels.shape[0] > 300
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50
    assert len(list(tmp_path.iterdir())) == 3
