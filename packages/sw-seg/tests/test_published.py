"""A published segmenter's whole way: converted, loaded, used."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

KEYS = json.loads((Path(__file__).parent / "data/published_backbone_tiny.json").read_text())


def weights(shapes):
    """Return random weights; variances and scales are positive, so that maps stay of a size."""
    generator = torch.Generator().manual_seed(0)
    return {
        key: torch.tensor(7)
        if key.endswith("num_batches_tracked")
        else torch.rand(*shape, generator=generator) + 0.5
        if len(shape) == 1
        else torch.randn(*shape, generator=generator) / torch.tensor(shape[1:]).prod() ** 0.5
        for key, shape in shapes.items()
    }


@pytest.mark.slow
def test_a_published_segmenter_is_converted_and_used(run, tmp_path):
    from mmengine.logging import HistoryBuffer

    from sw_models import load_published_checkpoint
    from sw_seg.task import TASK
    from sw_sparse.openmmlab.checkpoint import load_model
    from sw_sparse.openmmlab.config import load_config

    cfg = load_config(TASK, "upernet_tiny")
    heads = {key: value.shape for key, value in load_model(cfg).state_dict().items() if not key.startswith("backbone.")}
    backbone, around = weights(KEYS), weights(heads)
    state = {f"backbone.{key}": value for key, value in backbone.items()} | around
    hub = {"log_scalars": {"train/loss": HistoryBuffer([1.0], [1])}}  # why MMEngine's files are not read as they are
    torch.save({"state_dict": state, "meta": {"iter": 160_000}, "message_hub": hub}, tmp_path / "published.pth")

    status, done, _ = run("convert", "published.pth", "ours.pth", "--config", "upernet_tiny", "--json")
    assert status == 0
    assert done["file"] == "ours.pth"

    model = load_model(cfg, tmp_path / "ours.pth")
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in around.items())
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for ours, theirs in zip(model.backbone(image), load_published_checkpoint(backbone)(image), strict=True):
            assert torch.equal(ours, theirs)

    Image.effect_noise((96, 64), 50).convert("RGB").save(tmp_path / "a.png")
    smaller = ("--cfg-options", "test_dataloader.dataset.pipeline.1.scale=(96, 64)")
    status, seen, _ = run(
        "predict", "a.png", "--run", "upernet_tiny", "--checkpoint", "ours.pth", "--out", "seen", *smaller, "--json"
    )
    assert status == 0
    assert Image.open(seen["images"][0]["labels"]).size == (96, 64)
    assert sum(seen["images"][0]["shares"].values()) == pytest.approx(1, abs=0.01)
