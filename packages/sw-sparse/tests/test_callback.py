"""The engine in a trainer that calls back: the Hugging Face Trainer, where it is installed."""

import pytest
import torch
from networks import ChannelNet, SmallNet, UnitNet, batch, loss_of
from torch import nn

from sw_models.errors import InputError
from sw_sparse import SparsifierCallback, SparsityConfig


class Arguments:
    """What a callback sees of a trainer's arguments."""

    def __init__(self, folder):
        self.output_dir = str(folder)


class Progress:
    """And of its progress."""

    is_world_process_zero = True

    def __init__(self, step):
        self.global_step = step


def train(model, callback, folder, steps, loaded=None):
    """Train as such trainers do: the events, and a folder for a checkpoint after each step."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    if loaded is not None:
        model.load_state_dict(loaded["model"])
        optimizer.load_state_dict(loaded["optimizer"])
    args, told = Arguments(folder), {"model": model, "optimizer": optimizer}
    callback.on_init_end(args, Progress(0), None, **told)  # an event of no interest
    callback.on_train_begin(args, Progress(steps[0]), None, **told)
    for step in steps:
        loss_of(model, step).backward()
        optimizer.step()
        model.zero_grad()
        callback.on_step_end(args, Progress(step + 1), None, **told)
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        (folder / f"checkpoint-{step + 1}").mkdir(parents=True, exist_ok=True)
        torch.save(state, folder / f"checkpoint-{step + 1}" / "rest.pt")
        callback.on_save(args, Progress(step + 1), None, **told)
    callback.on_train_end(args, Progress(steps[-1] + 1), None, **told)
    return model


@pytest.mark.parametrize(("network", "granularity"), [(SmallNet, "element"), (ChannelNet, "channel")])
def test_a_resumed_training_ends_with_the_same_weights(network, granularity, tmp_path):
    config = SparsityConfig(sparsity=0.5, granularity=granularity, update_every=2)
    straight = train(network(), SparsifierCallback(config), tmp_path / "straight", range(8))
    train(network(), SparsifierCallback(config), tmp_path / "run", range(3))
    elsewhere = SparsifierCallback(config, checkpoint=tmp_path / "run" / "checkpoint-3")
    for callback, folder in ((SparsifierCallback(config), "run"), (elsewhere, "other")):
        loaded = torch.load(tmp_path / "run" / "checkpoint-3" / "rest.pt")
        resumed = train(network(seed=1), callback, tmp_path / folder, range(3, 8), loaded)
        assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))


def test_a_checkpoint_without_a_sparsifier_is_refused(tmp_path):
    callback = SparsifierCallback(SparsityConfig(granularity="unit"), inputs=batch(0)[:1])
    with pytest.raises(InputError, match=r"checkpoint-5/sparsifier\.safetensors: no such file"):
        train(UnitNet(), callback, tmp_path, range(5, 6))


class WithLoss(nn.Module):
    """A network that returns its loss, as the Trainer wants it."""

    def __init__(self, seed=0):
        super().__init__()
        self.network = UnitNet(seed)

    def forward(self, images, labels):
        logits = self.network(images)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


@pytest.mark.parametrize("optimizer", ["adamw_torch", "sgd"])
def test_the_hugging_face_trainer_resumes_bitwise(optimizer, tmp_path):
    transformers = pytest.importorskip("transformers")

    def trainer(seed):
        images, labels = batch(0, 64)
        data = [{"images": image, "labels": label} for image, label in zip(images, labels, strict=True)]
        args = transformers.TrainingArguments(
            output_dir=str(tmp_path), per_device_train_batch_size=8, num_train_epochs=2, save_steps=5, optim=optimizer,
            learning_rate=0.01, report_to=[], use_cpu=True, logging_steps=100,
        )  # fmt: skip
        config = SparsityConfig(sparsity=0.5, update_every=2)
        model = WithLoss(seed)
        return model, transformers.Trainer(model, args, train_dataset=data, callbacks=[SparsifierCallback(config)])

    straight, one = trainer(0)
    one.train()
    resumed, other = trainer(1)
    other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))
    (callback,) = [c for c in other.callback_handler.callbacks if isinstance(c, SparsifierCallback)]
    for layer in callback.sparsifier.layers:
        for weight, off in zip(layer.parameters, layer.off(), strict=True):
            assert not torch.where(off, weight, 0).any()
