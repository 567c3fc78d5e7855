"""What the shipped configurations promise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.optim import build_optim_wrapper

from sw_det.dataset import adapt_to_data

from conftest import CONFIGS, build, load

NAMES = sorted(path.stem for path in CONFIGS.glob("*.py"))
LAYER_IDS = json.loads((Path(__file__).parent / "data/layer_ids.json").read_text())


def test_the_models_that_the_readme_names_are_there() -> None:
    nano = [f"{name}{data}" for name in ("mask_rcnn_nano", "rtmdet_ins_nano") for data in ("", "_shapes")]
    cascades = [f"cascade_{name}_{size}" for name in ("mask_rcnn", "rcnn") for size in ("small", "tiny")]
    assert sorted([*cascades, "faster_rcnn_nano", "rtmdet_nano", "rtmdet_tiny", *nano]) == NAMES


@pytest.mark.parametrize("name", ["mask_rcnn_nano", pytest.param("rtmdet_ins_nano", marks=pytest.mark.slow)])
def test_a_detector_learns_from_a_batch_and_answers(name: str, sample: Path) -> None:
    cfg = load(name)
    adapt_to_data(cfg, sample)
    batch = first_batch(cfg, 2)
    detector = build_for(cfg)
    losses = loss(detector, batch)
    losses.backward()
    assert torch.isfinite(losses)
    still = [name for name, p in detector.named_parameters() if p.grad is None]
    assert not still
    detector.eval()
    with torch.no_grad():
        found = detector.test_step(batch)[0].pred_instances
    assert found.bboxes.shape == (len(found), 4)
    assert found.masks.shape == (len(found), 160, 160)


@pytest.mark.parametrize("name", ["faster_rcnn_nano", "rtmdet_nano"])
def test_a_detector_of_boxes_learns_from_a_batch_and_answers(name: str, sample: Path) -> None:
    cfg = load(name)
    adapt_to_data(cfg, sample)
    batch = first_batch(cfg, 2)
    detector = build_for(cfg)
    losses = loss(detector, batch)
    losses.backward()
    assert torch.isfinite(losses)
    assert not [name for name, p in detector.named_parameters() if p.grad is None]
    detector.eval()
    with torch.no_grad():
        found = detector.test_step(batch)[0].pred_instances
    assert found.bboxes.shape == (len(found), 4)
    assert "masks" not in found


@pytest.mark.parametrize(
    "name", ["cascade_rcnn_tiny", "cascade_rcnn_small", "faster_rcnn_nano", "rtmdet_nano", "rtmdet_tiny"]
)
def test_detectors_of_boxes_neither_read_nor_measure_masks(name: str) -> None:
    cfg = load(name)
    assert "with_mask=True" not in str(cfg.train_dataloader) + str(cfg.val_dataloader) + str(cfg.test_dataloader)
    assert cfg.val_evaluator.metric == cfg.test_evaluator.metric == ["bbox"]
    assert not cfg.model.get("roi_head", {}).get("mask_head")


@pytest.mark.parametrize("name", ["cascade_mask_rcnn_tiny", "cascade_mask_rcnn_small"])
def test_the_published_recipe(name: str) -> None:
    cfg = load(name)
    assert cfg.train_cfg.max_epochs == 36
    assert [s.milestones for s in cfg.param_scheduler if s.type == "MultiStepLR"] == [[27, 33]]
    assert cfg.optim_wrapper.optimizer == {"type": "AdamW", "lr": 1e-4, "betas": (0.9, 0.999), "weight_decay": 0.05}
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.model.backbone.drop_path_rate == 0.4
    for head in cfg.model.roi_head.bbox_head:
        assert (head.num_shared_convs, head.num_shared_fcs, head.norm_cfg.type) == (4, 1, "SyncBN")
        assert head.loss_bbox == {"type": "GIoULoss", "loss_weight": 10.0}
    whole, cropped = cfg.train_dataloader.dataset.pipeline[3].transforms
    assert [side for _, side in whole[0].scales] == list(range(480, 801, 32))
    assert cropped[1].type == "RandomCrop"
    assert cropped[2] == whole[0]


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_learning_rates_fall_towards_the_stem_as_published(size: str) -> None:
    """Compare layer by layer with the published constructor's ids and scales, on the whole detector."""
    name = f"cascade_mask_rcnn_{size}"
    detector = build(name)
    optimizer = build_optim_wrapper(detector, load(name).optim_wrapper).optimizer
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    seen = set()
    for key, parameter in detector.named_parameters():
        part = published_part(key)
        seen.add(part)
        _, scale = LAYER_IDS[size][part]
        group = groups[id(parameter)]
        assert group["lr"] == pytest.approx(1e-4 * scale, rel=1e-9), key
        whole = parameter.ndim == 1 or key.endswith(".bias")
        assert group["weight_decay"] == (0.0 if whole and ".grn." not in key else 0.05), key
    assert seen == set(LAYER_IDS[size])


def published_part(key: str) -> str:
    """Return the entry of the published table that a parameter of a detector belongs to."""
    words = key.split(".")
    if words[:2] != ["backbone", "backbone"]:
        return "norm0 / neck / heads / anything else"
    if words[2] == "stem":
        return "downsample_layers.0"
    stage = words[3]
    return f"downsample_layers.{stage}" if words[4] == "downsample" else f"stages.{stage}.{words[5]}"


def build_for(cfg: Any) -> Any:
    from mmdet.registry import MODELS
    from mmengine.model import revert_sync_batchnorm

    return revert_sync_batchnorm(MODELS.build(cfg.model))


def first_batch(cfg: Any, size: int) -> Any:
    from mmdet.registry import DATASETS
    from mmengine.dataset import pseudo_collate
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet")
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    return pseudo_collate([dataset[i] for i in range(size)])


def loss(detector: Any, batch: Any) -> torch.Tensor:
    detector.train()
    data = detector.data_preprocessor(batch, training=True)
    return detector.parse_losses(detector(**data, mode="loss"))[0]
