"""The engine on several processes (gloo, CPU). Every scenario runs on each rank and returns what it saw."""

import multiprocessing
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from networks import ChannelNet, SmallNet, UnitNet, batch, loss_of
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from sw_sparse import Sparsifier, SparsityConfig

GLOBAL_BATCH, STEPS = 16, 8


@pytest.fixture(scope="module")
def launch():
    """Run ``scenario(rank, world, **arguments)`` on ``world`` processes and return what each returned."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch._dynamo", "torch.distributed.fsdp"])
    pools = [context.Pool(1) for _ in range(4)]

    def run(scenario, world, folder, **arguments):
        jobs = [
            pool.apply_async(_on_rank, (scenario, rank, world, f"file://{folder}/meeting", arguments))
            for rank, pool in enumerate(pools[:world])
        ]
        return [job.get(timeout=180) for job in jobs]

    yield run
    for pool in pools:
        pool.terminate()


def _on_rank(scenario, rank, world, meeting, arguments):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
    try:
        return scenario(rank, world, **arguments)
    finally:
        dist.destroy_process_group()


def train(rank, world, *, update="set", seed_by_rank=True, distributed=True):
    """Train on this rank's share of every batch; return losses, weights and masks."""
    model = SmallNet(norm=False)
    wrapped = DistributedDataParallel(model) if distributed else model
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.05, momentum=0.9)
    config = SparsityConfig(
        sparsity=0.5, targets=("weights.*", "expand.*"), granularity="shared_filter", update=update, update_every=2,
        align_every=2, distribution="snip", seed=rank if seed_by_rank else 0,
    )  # fmt: skip
    share = GLOBAL_BATCH // world

    def loss_of(network, step=0):
        images, labels = batch(step, GLOBAL_BATCH)
        mine = slice(rank * share, (rank + 1) * share)
        return F.cross_entropy(network(images[mine]), labels[mine])

    # The gradients of the first mask come from the whole batch, so that one process decides the same.
    whole = batch(0, GLOBAL_BATCH)
    sparsifier = Sparsifier(wrapped, optimizer, config, loss=lambda net: F.cross_entropy(net(whole[0]), whole[1]))
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(wrapped, step)
        loss.backward()
        optimizer.step()
        sparsifier.step()
        losses.append(loss.detach())
    return {
        "losses": torch.stack(losses),
        "masks": [mask for layer in sparsifier.layers for mask in layer.active],
        "weights": [weight.detach() for layer in sparsifier.layers for weight in layer.parameters],
    }


@pytest.mark.parametrize(("world", "update"), [(2, "set"), (4, "rigl")])
def test_every_rank_holds_the_same_masks_whatever_its_seed(launch, world, update, tmp_path):
    first, *others = launch(train, world, tmp_path, update=update)
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first["masks"], other["masks"], strict=True))
        assert all(torch.equal(a, b) for a, b in zip(first["weights"], other["weights"], strict=True))


def test_two_processes_train_as_one_does(launch, tmp_path):
    two = launch(train, 2, tmp_path, seed_by_rank=False)
    one = train(0, 1, seed_by_rank=False, distributed=False)
    assert all(torch.equal(a, b) for a, b in zip(one["masks"], two[0]["masks"], strict=True))
    losses = torch.stack([rank["losses"] for rank in two]).mean(0)
    torch.testing.assert_close(losses, one["losses"], rtol=0, atol=1e-5)


def grow_units(rank, world, granularity):
    """Let units grow, which draws weights, and return what this rank holds."""
    model: Any = UnitNet() if granularity == "unit" else ChannelNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    config = SparsityConfig(sparsity=0.5, granularity=granularity, update_every=1, drop_fraction=0.5, seed=rank)
    sparsifier = Sparsifier(DistributedDataParallel(model), optimizer, config, inputs=batch(0)[:1])
    model.eval()  # batch statistics would tell the ranks apart
    for step in range(4):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()
        sparsifier.step()
    return [*[mask for layer in sparsifier.layers for mask in layer.active], *model.state_dict().values()]


@pytest.mark.parametrize("granularity", ["unit", "channel"])
def test_every_rank_draws_the_same_weights_for_units_that_grow(launch, tmp_path, granularity):
    first, second = launch(grow_units, 2, tmp_path, granularity=granularity)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def diverge(rank, world):
    """Tamper with one rank's mask and return the error of the next update."""
    model = SmallNet()
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.05)
    sparsifier = Sparsifier(model, optimizer, SparsityConfig(targets=("expand.*", "project.*"), update_every=1))
    if rank == 1:
        sparsifier.layers[1].switch([~sparsifier.layers[1].active[0]])
    optimizer.step()
    with pytest.raises(RuntimeError) as error:
        sparsifier.step()
    return str(error.value)


def test_masks_that_differ_are_an_error_that_names_the_layer(launch, tmp_path):
    for message in launch(diverge, 2, tmp_path):
        assert message.startswith("the masks of project.weight differ between ranks")


def shard(rank, world):
    """Return what the sparsifier says to sharded parameters."""
    model: Any = fully_shard(SmallNet().requires_grad_())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(TypeError) as error:
        Sparsifier(model, optimizer, SparsityConfig())
    return str(error.value)


def test_sharded_parameters_are_refused(launch, tmp_path):
    assert all("fully_shard" in message for message in launch(shard, 2, tmp_path))
