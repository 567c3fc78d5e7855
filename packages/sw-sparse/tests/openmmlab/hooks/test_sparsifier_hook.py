import pytest
import torch
from networks import SmallNet, batch

pytest.importorskip("mmengine", reason="mmengine is not installed (extra openmmlab)")

import timm
from mmengine.hooks import EMAHook
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch.utils.data import Dataset

import sw_models  # noqa: F401 - registers the models
from sw_sparse.openmmlab.hooks import SparsifierHook
from sw_sparse.trainer.layer_decay import decays, layer_wise_id, stage_wise_id


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.backbone = SmallNet()

    def forward(self, images, labels, mode="tensor"):
        return {"loss": torch.nn.functional.cross_entropy(self.backbone(images), labels)}


class Batches(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        images, labels = batch(index, 1)
        return {"images": images[0], "labels": labels[0]}


def train(folder, hooks, iterations=6, model=None, accumulate=1):
    """Train for some iterations; return the runner."""
    init_default_scope("mmengine")
    sampler, collate = {"type": "InfiniteSampler", "shuffle": False}, {"type": "default_collate"}
    runner = Runner(
        model or Model(),
        str(folder),
        train_dataloader={"batch_size": 4, "dataset": Batches(), "sampler": sampler, "collate_fn": collate},
        train_cfg={"by_epoch": False, "max_iters": iterations},
        optim_wrapper={"optimizer": {"type": "AdamW", "lr": 0.01}, "accumulative_counts": accumulate},
        default_hooks={"checkpoint": None},
        custom_hooks=hooks,
        experiment_name=f"{folder.name}{iterations}",
        log_level="ERROR",
    )
    runner.train()
    return runner


def sparse_model(share=0.5):
    """Return a model with zeros, and where they are."""
    model = Model()
    generator = torch.Generator().manual_seed(0)
    off = {}
    with torch.no_grad():
        for name in ("backbone.weights.0", "backbone.weights.1", "backbone.expand.weight", "backbone.project.weight"):
            weight = model.get_parameter(name)
            off[name] = torch.rand(weight.shape, generator=generator) < share
            weight[off[name]] = 0
    return model, off


def test_zeros_stay_and_everything_else_trains(tmp_path):
    model, off = sparse_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train(tmp_path, [SparsifierHook()], model=model)
    for name, zeros in off.items():
        weight = model.get_parameter(name)
        assert int((weight == 0).sum()) == int(zeros.sum())
        assert not weight[zeros].any()
        assert (weight != before[name])[~zeros].all()


def test_without_the_hook_they_do_not(tmp_path):
    model, off = sparse_model()
    train(tmp_path, [], model=model)
    assert all(model.get_parameter(name)[zeros].any() for name, zeros in off.items())


def test_averages_are_kept_sparse_too(tmp_path):
    model, off = sparse_model()
    average = EMAHook(momentum=0.5)
    train(tmp_path, [SparsifierHook(), average], model=model)
    for name, zeros in off.items():
        assert not average.ema_model.module.get_parameter(name)[zeros].any()


def test_steps_that_only_gather_gradients_do_not_count(tmp_path):
    hook = SparsifierHook(sparsity=0.5, update="static")
    train(tmp_path, [hook], iterations=6, accumulate=2)
    assert hook.sparsifier.steps == 3


def test_masks_that_move_are_part_of_the_checkpoint(tmp_path):
    settings = {
        "sparsity": 0.5, "update": "set", "update_every": 2, "targets": ["backbone.expand.*"],
        "initialisation": "random",  # other masks than the trained ones, if they were drawn anew
    }  # fmt: skip
    hook = SparsifierHook(**settings)
    trained = train(tmp_path, [hook], iterations=4).model
    checkpoint = {}
    hook.before_save_checkpoint(None, checkpoint)
    resumed = SparsifierHook(**settings)
    resumed.after_load_checkpoint(None, checkpoint)
    fresh = Model()
    fresh.load_state_dict(trained.state_dict())
    optimizer = torch.optim.AdamW(fresh.parameters())
    wrapper = type("Wrapper", (), {"optimizer": optimizer})
    resumed.before_train(type("Runner", (), {"model": fresh, "optim_wrapper": wrapper, "hooks": []}))
    assert resumed.sparsifier.steps == hook.sparsifier.steps == 4
    assert all(torch.equal(value, fresh.state_dict()[key]) for key, value in trained.state_dict().items())
    for mine, its in zip(resumed.sparsifier.layers, hook.sparsifier.layers, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine.active, its.active, strict=True))


def test_a_dense_checkpoint_has_nothing_to_keep(tmp_path):
    with pytest.raises(ValueError, match="no zeros to keep"):
        train(tmp_path, [SparsifierHook()])


@pytest.mark.parametrize(
    ("decay_type", "layers", "layer_of"), [("layer_wise", 9, layer_wise_id), ("stage_wise", 6, stage_wise_id)]
)
def test_learning_rates_fall_towards_the_stem(decay_type, layers, layer_of):
    model = torch.nn.ModuleDict({"backbone": timm.create_model("shiftwise_pico", num_classes=0)})
    model["head"] = torch.nn.Conv2d(128, 4, 1)
    config = {
        "type": "OptimWrapper",
        "optimizer": {"type": "AdamW", "lr": 0.1, "weight_decay": 0.05},
        "constructor": "LayerDecayOptimWrapperConstructor",
        "paramwise_cfg": {"decay_type": decay_type, "decay_rate": 0.9, "num_layers": layers},
    }
    groups = build_optim_wrapper(model, config).optimizer.param_groups
    by_parameter = {id(p): group for group in groups for p in group["params"]}
    assert len(by_parameter) == sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        group = by_parameter[id(parameter)]
        assert group["lr"] == pytest.approx(0.1 * 0.9 ** (layers + 1 - layer_of(name, layers)))
        assert group["weight_decay"] == (0.05 if decays(name, parameter) else 0)
    assert by_parameter[id(model["head"].weight)]["lr"] == 0.1


def test_other_kinds_of_decay_are_refused():
    config = {
        "optimizer": {"type": "SGD", "lr": 0.1},
        "constructor": "LayerDecayOptimWrapperConstructor",
        "paramwise_cfg": {"decay_type": "block_wise", "decay_rate": 0.9, "num_layers": 9},
    }
    with pytest.raises(ValueError, match="want one of layer_wise, stage_wise"):
        build_optim_wrapper(torch.nn.Linear(2, 2), config)
