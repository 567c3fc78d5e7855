"""The engine: it makes a model sparse, keeps it so, and moves the masks while it trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sw_sparse import distributed as agreement
from sw_sparse import published
from sw_sparse.config import SparsityConfig
from sw_sparse.initial_masks import first_masks, gradients_of_one_batch, share_out
from sw_sparse.schedules import SCHEDULES
from sw_sparse.scores import NEEDS_GRADIENT, SCORES, magnitude, movement
from sw_sparse.targets import SparseLayer, find_layers, plain_name
from sw_sparse.updates import UPDATE_RULES, Outcome, Situation


class Sparsifier:
    """Dynamic sparse training of any model in any loop::

        sparsifier = Sparsifier(model, optimizer, SparsityConfig(sparsity=0.3, targets="*.weights.*"))
        for images, labels in loader:
            loss_of(model(images), labels).backward()
            optimizer.step()
            sparsifier.step()
            optimizer.zero_grad()
        sparsifier.squash()

    After construction, every optimizer step and every update: weights that are off are exactly 0, their gradient and
    optimizer state as well, and the number of units that are on is exact in every layer. The model may already be
    wrapped by DDP or compiled. In a distributed run all ranks construct it, and the first one's masks hold.

    Args:
        model: the model being trained.
        optimizer: its optimizer; where a gradient scaler skips a step, the sparsifier does not count it either.
        config: what, how much and how.
        loss: for ``distribution="snip"``: called once with a copy of the model, returns the loss of one batch.
        ema: an averaged copy of the model, kept consistent with the masks; update it after :meth:`step`.

    Attributes:
        layers: what is sparse.
        skipped: parameters that match the targets but are left alone, with the reason.
        steps: optimizer steps taken.

    Raises:
        ValueError: if nothing can be made sparse, or an argument is missing.
        TypeError: if the parameters are sharded (FSDP).
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        config: SparsityConfig,
        *,
        loss: Callable[[nn.Module], Tensor] | None = None,
        ema: nn.Module | None = None,
    ) -> None:
        self.config = config
        self.steps = 0
        self._optimizer = optimizer = _innermost(optimizer)
        self._rule = UPDATE_RULES[config.update]
        self._generator = torch.Generator().manual_seed(config.seed)
        self._gradients: dict[str, Tensor] = {}
        self._movement: dict[str, Tensor] = {}
        self._optimizer_stepped = False
        self._squashed = False
        self.layers, self.skipped = find_layers(model, optimizer, config)
        self._ema = _copies_of(self.layers, ema)
        self._initialise(gradients_of_one_batch(loss, model, self.layers) if config.distribution == "snip" else {})
        self._hooks = [
            optimizer.register_step_pre_hook(self._before_optimizer_step),
            optimizer.register_step_post_hook(self._after_optimizer_step),
        ]

    # -- what the user calls ------------------------------------------------------------------------------------------

    @torch.no_grad()
    def step(self) -> bool:
        """Follow an ``optimizer.step()``: keep what is off at 0 and, when it is time, move the masks.

        Returns:
            Whether the masks may have changed. Steps that the optimizer did not take are not counted.
        """
        if self._squashed:
            raise RuntimeError("step: the sparsifier was squashed, its masks are final")
        if not self._optimizer_stepped:
            self._gradients.clear()
            return False
        self._optimizer_stepped = False
        self.steps += 1
        update = self.config.updates_at(self.steps)
        if update:
            self._update()
        self._zero_what_is_off(ema=update)
        self._gradients.clear()
        return update

    @torch.no_grad()
    def mask_gradients(self) -> None:
        """Zero the gradients of weights that are off.

        This happens by itself within ``optimizer.step()``. Call it before ``clip_grad_norm_`` (and after
        ``scaler.unscale_``) where the norm is to count the weights that are on alone.
        """
        keep_for_growth = self._keeps_gradients() and self.config.updates_at(self.steps + 1)
        for layer in self.layers:
            for (name, weight), off in zip(layer.weights.items(), layer.off(), strict=True):
                if weight.grad is None:
                    continue
                if keep_for_growth and name not in self._gradients:
                    self._gradients[name] = weight.grad.clone()
                if not self.config.published:
                    weight.grad.masked_fill_(off, 0)

    @torch.no_grad()
    def squash(self) -> None:
        """End: the zeros stay in the weights, the optimizer is let go, and no further step is possible."""
        self._zero_what_is_off(ema=True)
        for hook in self._hooks:
            hook.remove()
        self._squashed = True

    def densities(self) -> dict[str, float]:
        """Return the share of units that is on, by layer."""
        return {layer.name: layer.density() for layer in self.layers}

    def exploration_rates(self) -> dict[str, float]:
        """Return the share of units that is or ever was on, by layer ("in-time over-parameterisation", Liu 2021)."""
        return {layer.name: layer.exploration() for layer in self.layers}

    def state_dict(self) -> dict[str, Any]:
        """Return everything a resumed run needs, as tensors and plain values; masks as bits."""
        return {
            "steps": self.steps,
            "config": self.config.described(),
            "generator": self._generator.get_state(),
            "counts": {layer.name: layer.counts.clone() for layer in self.layers},
            "active": {layer.name: [agreement.pack(mask) for mask in layer.active] for layer in self.layers},
            "explored": {layer.name: [agreement.pack(mask) for mask in layer.explored] for layer in self.layers},
            "movement": {name: score.clone() for name, score in self._movement.items()},
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`; load the model and the optimizer as well.

        Raises:
            ValueError: naming the first setting or layer that does not fit.
        """
        here = self.config.described()
        for setting, value in state["config"].items():
            if here[setting] != value:
                raise ValueError(f"state: {setting} is {value!r} in it, and {here[setting]!r} here")
        if missing := {layer.name for layer in self.layers} ^ set(state["active"]):
            raise ValueError(f"state: it and the model do not both have the layer {min(missing)}")
        for layer in self.layers:
            for bits, mask in zip(state["active"][layer.name], layer.active, strict=True):
                if len(bits) != -(-mask.numel() // 8):
                    raise ValueError(f"state: the mask of {layer.name} has {len(bits)} bytes for {mask.numel()} units")
        self.steps = state["steps"]
        self._generator.set_state(state["generator"].cpu())
        for layer in self.layers:
            layer.counts = state["counts"][layer.name].cpu().clone()
            layer.explored = _unpacked(state["explored"][layer.name], layer)
            layer.switch(_unpacked(state["active"][layer.name], layer))
        for name, score in state["movement"].items():
            self._movement[name] = score.to(self._movement[name].device).clone()
        self._zero_what_is_off(ema=True)

    # -- where the masks come from, and where they go -----------------------------------------------------------------

    @torch.no_grad()
    def _initialise(self, gradients: dict[str, Tensor]) -> None:
        for layer in self.layers:
            layer.switch([torch.ones_like(layer.units(w), dtype=torch.bool) for w in layer.parameters])
            if self.config.importance == "movement":
                self._movement |= {name: torch.zeros_like(weight) for name, weight in layer.weights.items()}
        if self.config.published:
            masks = published.first_masks(self.layers, gradients, 1 - self.config.off, self._generator)
        else:
            share_out(self.layers, self.config, gradients)
            masks = [m for layer in self.layers for m in first_masks(layer, self.config, gradients, self._generator)]
        if agreement.distributed():
            masks = agreement.adopt_from_first_rank(masks)
        self._switch(masks)
        for layer in self.layers:
            layer.explored = layer.active
        if self.config.published:
            dense = [layer for layer in self.layers if layer.density() >= published.DENSE_ENOUGH]
            self.skipped |= {layer.name: "dense enough (published)" for layer in dense}
            self.layers = [layer for layer in self.layers if layer not in dense]
        self._zero_what_is_off(ema=True)

    def _update(self) -> None:
        """Decide new masks on the first rank, bring them to the others, and start regrown weights from 0."""
        if agreement.distributed():
            names = [name for layer in self.layers for name in layer.weights]
            agreement.verify(names, [mask for layer in self.layers for mask in layer.active])
        outcomes = self._decide()
        kept = [outcome.kept for outcome in outcomes]
        active = [outcome.active for outcome in outcomes]
        if agreement.distributed():
            both = agreement.adopt_from_first_rank(kept + active)
            kept, active = both[: len(kept)], both[len(kept) :]
        self._switch(kept)
        self._zero_what_is_off(ema=True)
        self._switch(active)

    def _decide(self) -> list[Outcome]:
        """Return what becomes of each path of each layer."""
        config, outcomes = self.config, []
        progress = config.progress(self.steps)
        fraction = SCHEDULES[config.schedule](config.drop_fraction, config.final_drop_fraction, progress)
        aligned = (self.steps // config.update_every) % config.align_every == 0
        if config.published:
            return published.update(self.layers, fraction, aligned, self._generator)
        for layer in self.layers:
            worth = [self._importance(layer, name) for name in layer.weights]
            slope = [self._slope(layer, name) for name in layer.weights]
            counts = self._counts_now(layer, progress)
            if aligned and len(layer.weights) > 1:
                anywhere, worth_of_all, slope_of_all = (torch.stack(x) for x in (layer.active, worth, slope))
                shared = self._rule.apply(
                    Situation(
                        anywhere.any(0), worth_of_all.sum(0), slope_of_all.sum(0), counts, fraction, self._generator
                    )
                )
                outcomes += [Outcome(shared.kept & mask, shared.active) for mask in layer.active]
            else:
                outcomes += [
                    self._rule.apply(Situation(*path, counts, fraction, self._generator))
                    for path in zip(layer.active, worth, slope, strict=True)
                ]
        return outcomes

    def _counts_now(self, layer: SparseLayer, progress: float) -> Tensor:
        if not self._rule.starts_dense:
            return layer.counts
        size, schedule = layer.active[0].shape[1], SCHEDULES[self.config.schedule]
        return torch.tensor([round(schedule(size, end, progress)) for end in layer.counts.tolist()])

    def _importance(self, layer: SparseLayer, name: str) -> Tensor:
        if self.config.importance == "movement":
            return layer.units(self._movement[name])
        weight = layer.weights[name]
        if self.config.importance == "magnitude":
            return layer.units(magnitude(weight))
        return layer.units(SCORES[self.config.importance](weight, self._gradient(name, weight)))

    def _slope(self, layer: SparseLayer, name: str) -> Tensor:
        if not self._rule.needs_gradient:
            return torch.zeros_like(layer.active[0], dtype=torch.float32)
        return layer.units(self._gradient(name, layer.weights[name]).abs())

    def _gradient(self, name: str, weight: nn.Parameter) -> Tensor:
        """Return the dense gradient of the last step; zeros for a weight that had none."""
        return self._gradients.get(name, torch.zeros_like(weight))

    def _keeps_gradients(self) -> bool:
        return self._rule.needs_gradient or self.config.importance in NEEDS_GRADIENT

    def _switch(self, masks: Sequence[Tensor]) -> None:
        """Give each layer its share of the masks, which come path by path."""
        for layer in self.layers:
            mine, masks = masks[: len(layer.weights)], masks[len(layer.weights) :]
            layer.switch(list(mine))

    # -- keeping what is off at 0 -------------------------------------------------------------------------------------

    def _zero_what_is_off(self, *, ema: bool) -> None:
        """Zero weights, gradients' history and averages where a mask is off."""
        for layer in self.layers:
            for (name, weight), off in zip(layer.weights.items(), layer.off(), strict=True):
                weight.masked_fill_(off, 0)
                for key, value in self._optimizer.state.get(weight, {}).items():
                    kept_as_published = self.config.published and key != "momentum_buffer"
                    if isinstance(value, Tensor) and value.shape == weight.shape and not kept_as_published:
                        value.masked_fill_(off, 0)
                if name in self._movement:
                    self._movement[name].masked_fill_(off, 0)
                if ema and name in self._ema:
                    self._ema[name].masked_fill_(off.to(self._ema[name].device), 0)

    def _before_optimizer_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self.mask_gradients()
        if self._movement and not _found_inf(optimizer):
            self._add_movement(getattr(optimizer, "grad_scale", None))

    def _after_optimizer_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self._optimizer_stepped = not _found_inf(optimizer)

    @torch.no_grad()
    def _add_movement(self, scale: Tensor | None) -> None:
        for layer in self.layers:
            for name, weight in layer.weights.items():
                if weight.grad is not None:
                    moved = movement(weight, weight.grad)
                    self._movement[name] += moved if scale is None else moved / scale


def _innermost(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return the optimizer that really steps, from within accelerate's or Fabric's wrapper or timm's Lookahead."""
    for attribute in ("optimizer", "_base_optimizer"):
        if isinstance(inner := getattr(optimizer, attribute, None), torch.optim.Optimizer):
            return _innermost(inner)
    return optimizer


def _found_inf(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a gradient scaler told a fused optimizer, which is stepped all the same, to leave this step out."""
    found = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found)


def _copies_of(layers: Sequence[SparseLayer], ema: nn.Module | None) -> dict[str, nn.Parameter]:
    """Find the averaged counterpart of every sparse weight."""
    if ema is None:
        return {}
    averaged = {plain_name(name): parameter for name, parameter in ema.named_parameters(remove_duplicate=False)}
    for layer in layers:
        for name in layer.weights:
            if name not in averaged:
                raise ValueError(f"ema: it has no parameter {name}, want an averaged copy of the model")
    return averaged


def _unpacked(bits: Sequence[Tensor], layer: SparseLayer) -> list[Tensor]:
    return [agreement.unpack(b, like) for b, like in zip(bits, layer.active, strict=True)]
