"""The engine: it makes a model sparse, keeps it so, and moves the masks while it trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sw_sparse import distributed, published
from sw_sparse.bits import pack_bits, unpack_bits
from sw_sparse.compaction import compact
from sw_sparse.config import SparsityConfig
from sw_sparse.granularity import COMPOUND
from sw_sparse.initial_masks import first_masks, gradients_of_one_batch, set_counts
from sw_sparse.optimizers import found_inf, innermost, training_parameters
from sw_sparse.schedules import SCHEDULES
from sw_sparse.scores import NEEDS_GRADIENT, SCORES, magnitude, movement
from sw_sparse.targets import SparseLayer, copies_of, find_layers, plain_name
from sw_sparse.units import UnitLayer, find_units, start_grown
from sw_sparse.updates import UPDATE_RULES, UpdateInput, UpdateResult


class Sparsifier:
    """Dynamic sparse training of any model in any loop.

    Example::

        sparsifier = Sparsifier(model, optimizer, SparsityConfig(sparsity=0.3, targets="*.weights.*"))
        for images, labels in loader:
            loss_of(model(images), labels).backward()
            optimizer.step()
            sparsifier.step()
            optimizer.zero_grad()
        sparsifier.squash()

    After construction, every optimizer step and every update: weights that are off are exactly 0, their gradient and
    optimizer state as well, and the number of units that are on is exact in every layer. A layer of which a weight took
    no part in the optimizer's step (frozen, without a gradient, learning rate 0) keeps its mask and its values. The
    model may already be wrapped by DDP or compiled. In a distributed run all ranks construct it, and the first one's
    masks hold. To resume, load the model and the optimizer, and give ``state``; or load all three after it.

    Args:
        model: the model being trained.
        optimizer: its optimizer; where a gradient scaler skips a step, the sparsifier does not count it either.
        config: what, how much and how.
        loss: for ``distribution="snip"``: called once with a copy of the model, returns the loss of one batch.
        ema: an averaged copy of the model, kept consistent with the masks; update it after :meth:`step`.
        state: a :meth:`state_dict` to continue from: its masks are taken, and none are drawn.
        inputs: for ``granularity="unit"``: arguments to trace the model by (two images or more); timm models need none.

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
        state: dict[str, Any] | None = None,
        inputs: Sequence[Any] | None = None,
    ) -> None:
        self.config = config
        self.steps = 0
        self._model = model
        self._optimizer = optimizer = innermost(optimizer)
        self._rule = UPDATE_RULES[config.update]
        self._generator = torch.Generator("cpu").manual_seed(config.seed)
        self._gradients: dict[str, Tensor] = {}
        self._movement: dict[str, Tensor] = {}
        self._training: set[int] = set()
        self._lost: dict[str, tuple[int, Tensor]] = {}
        self._versions: dict[str, int] = {}
        self._optimizer_stepped = False
        self._squashed = False
        self._inputs = inputs
        if config.granularity in COMPOUND:
            self.layers, self.skipped = find_units(model, optimizer, config, inputs)
        else:
            self.layers, self.skipped = find_layers(model, optimizer, config)
        self._ema = copies_of(self.layers, ema)
        self._start_dense()
        if state is None:
            self._initialise(gradients_of_one_batch(loss, model, self.layers) if config.distribution == "snip" else {})
        else:
            if config.published:
                self._leave_dense([layer for layer in self.layers if layer.name not in state["active"]])
            self.load_state_dict(state)
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

        Raises:
            RuntimeError: after :meth:`squash`; or if weights changed although the optimizer given at construction was
                not stepped, which happens when another one has replaced it. What is off is 0 even then.
        """
        if self._squashed:
            raise RuntimeError("step: the sparsifier was squashed, its masks are final")
        if not self._optimizer_stepped:
            changed = self._changed_by_others()
            self._zero_what_is_off(ema=True)
            self._gradients.clear()
            if changed:
                raise RuntimeError(
                    f"optimizer: the one given at construction was not stepped, but {', '.join(changed)} changed; "
                    f"give Sparsifier the optimizer that is stepped (what is off is 0 again)"
                )
            return False
        self._optimizer_stepped = False
        self._lost.clear()
        self.steps += 1
        update = self.config.updates_at(self.steps)
        if update:
            self._update()
        self._zero_what_is_off(ema=update)
        self._gradients.clear()
        self._versions.clear()
        return update

    @torch.no_grad()
    def mask_gradients(self) -> None:
        """Zero the gradients of weights that are off.

        This happens by itself within ``optimizer.step()``. Call it before ``clip_grad_norm_`` (and after
        ``scaler.unscale_``) where the norm is to count the weights that are on alone.
        """
        self._versions = {name: weight._version for layer in self.layers for name, weight in layer.weights.items()}
        self._mask_gradients()

    def _mask_gradients(self) -> None:
        keep_for_growth = self._keeps_gradients() and self.config.updates_at(self.steps + 1)
        for layer in self.layers:
            for (name, weight), off in zip(layer.weights.items(), layer.off(), strict=True):
                if weight.grad is None:
                    continue
                if weight.grad.layout != torch.strided:
                    raise RuntimeError(f"model: the gradient of {name} is a sparse tensor, masks need dense ones")
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

    @torch.no_grad()
    def compact(self, model: nn.Module) -> nn.Module:
        """Return a smaller, dense copy without the units that are off; see :func:`sw_sparse.compact`.

        Args:
            model: the model, or its averaged copy.
        """
        self._zero_what_is_off(ema=True)
        return compact(model, self._inputs)

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
            "active": {layer.name: [pack_bits(mask) for mask in layer.active] for layer in self.layers},
            "explored": {layer.name: [pack_bits(mask) for mask in layer.explored] for layer in self.layers},
            "movement": {name: score.clone() for name, score in self._movement.items()},
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`; load the model and the optimizer as well.

        Raises:
            ValueError: naming the first setting or layer that does not fit, or a layer whose weights were loaded before
                construction, which has set some to 0 that are on in the state: give it as ``state=`` instead.
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
        active = {layer.name: _unpacked(state["active"][layer.name], layer) for layer in self.layers}
        self._refuse_losses(active)
        self.steps = state["steps"]
        self._generator.set_state(state["generator"].cpu())
        for layer in self.layers:
            layer.counts = state["counts"][layer.name].cpu().clone()
            layer.explored = _unpacked(state["explored"][layer.name], layer)
            layer.switch(active[layer.name])
        for name, score in state["movement"].items():
            self._movement[name] = score.to(self._movement[name].device).clone()
        self._zero_what_is_off(ema=True)

    # -- where the masks come from, and where they go -----------------------------------------------------------------

    @torch.no_grad()
    def _start_dense(self) -> None:
        for layer in self.layers:
            layer.switch([torch.ones_like(score, dtype=torch.bool) for score in layer.scores(layer.parameters)])
            if self.config.importance == "movement":
                self._movement |= {name: torch.zeros_like(weight) for name, weight in layer.weights.items()}

    @torch.no_grad()
    def _initialise(self, gradients: dict[str, Tensor]) -> None:
        """Draw the first masks, and remember which weights they cost."""
        if self.config.published:
            masks = published.first_masks(self.layers, gradients, 1 - self.config.off, self._generator)
        else:
            set_counts(self.layers, self.config, gradients)
            masks = [m for layer in self.layers for m in first_masks(layer, self.config, gradients, self._generator)]
        if distributed.is_distributed():
            masks = distributed.broadcast_masks(masks)
        self._switch(masks)
        for layer in self.layers:
            layer.explored = layer.active
        if self.config.published:
            self._leave_dense([layer for layer in self.layers if layer.density() >= published.DENSE_ENOUGH])
        lost: dict[str, Tensor] = {}
        for name, weight, off in self._weights():
            lost[name] = lost.get(name, False) | (off & (weight != 0))
        self._zero_what_is_off(ema=True)
        self._lost = {name: (weight._version, lost[name]) for name, weight, _ in self._weights()}

    def _leave_dense(self, dense: Sequence[SparseLayer]) -> None:
        self.skipped |= {layer.name: "dense enough (published)" for layer in dense}
        self.layers = [layer for layer in self.layers if layer not in dense]

    def _refuse_losses(self, active: dict[str, list[Tensor]]) -> None:
        """Refuse masks that need weights which construction has set to 0, and nobody has loaded since."""
        for layer in self.layers:
            for (name, weight), on in zip(layer.weights.items(), layer.spread(active[layer.name]), strict=True):
                version, lost = self._lost.get(name, (None, on))
                if weight._version == version and (count := int((lost & on.to(lost.device)).sum())):
                    raise ValueError(
                        f"state: {count} weights of {name} that are on in it were set to 0 at construction, want "
                        f"Sparsifier(..., state=...), or the model loaded after it"
                    )

    def _update(self) -> None:
        """Decide new masks on the first rank, bring them to the others, and start regrown weights from 0."""
        if distributed.is_distributed():
            names = [name for layer in self.layers for name in layer.paths]
            distributed.verify_masks(names, [mask for layer in self.layers for mask in layer.active])
        results = self._decide()
        kept = [result.kept for result in results]
        active = [result.active for result in results]
        if distributed.is_distributed():
            both = distributed.broadcast_masks(kept + active)
            kept, active = both[: len(kept)], both[len(kept) :]
        self._switch(kept)
        self._zero_what_is_off(ema=True)
        self._switch(active)
        if self.config.granularity in COMPOUND:
            self._start_units_afresh(kept)

    def _start_units_afresh(self, kept: Sequence[Tensor]) -> None:
        """Prepare units that grew, which at 0 in all their parameters could not start."""
        born = start_grown([layer for layer in self.layers if isinstance(layer, UnitLayer)], kept, self._generator)
        self._zero_what_is_off(ema=True)
        for layer, grown in born:
            for name, on in zip(layer.weights, layer.spread([grown]), strict=True):
                if (average := self._ema.get(name)) is not None:
                    average.copy_(torch.where(on.to(average.device), layer.weights[name].to(average), average))

    def _decide(self) -> list[UpdateResult]:
        """Return what becomes of each path of each layer; layers that took no part in the step stay as they are."""
        config = self.config
        progress = config.progress(self.steps)
        fraction = SCHEDULES[config.schedule](config.drop_fraction, config.final_drop_fraction, progress)
        aligned = (self.steps // config.update_every) % config.align_every == 0
        training = [layer for layer in self.layers if all(id(w) in self._training for w in layer.parameters)]
        if config.published:
            paths = iter(published.update(training, fraction, aligned, self._generator))
            results = {layer.name: [next(paths) for _ in layer.paths] for layer in training}
        else:
            results = {layer.name: self._decide_layer(layer, progress, fraction, aligned) for layer in training}
        unchanged = {layer.name: [UpdateResult(mask, mask) for mask in layer.active] for layer in self.layers}
        return [result for paths_of_layer in (unchanged | results).values() for result in paths_of_layer]

    def _decide_layer(self, layer: SparseLayer, progress: float, fraction: float, aligned: bool) -> list[UpdateResult]:
        importance = layer.scores([self._importance(name, weight) for name, weight in layer.weights.items()])
        gradient = self._gradients_of_units(layer)
        more = (self._counts_now(layer, progress), fraction, self._generator, self.config.regrow_dropped)
        if aligned and len(layer.paths) > 1:
            anywhere, importance_of_all, gradient_of_all = map(torch.stack, (layer.active, importance, gradient))
            shared = self._rule.apply(
                UpdateInput(anywhere.any(0), importance_of_all.sum(0), gradient_of_all.sum(0), *more)
            )
            return [UpdateResult(shared.kept & mask, shared.active) for mask in layer.active]
        paths = zip(layer.active, importance, gradient, strict=True)
        return [self._rule.apply(UpdateInput(mask, score, slope, *more)) for mask, score, slope in paths]

    def _counts_now(self, layer: SparseLayer, progress: float) -> Tensor:
        if not self._rule.starts_dense:
            return layer.counts
        size, schedule = layer.active[0].shape[1], SCHEDULES[self.config.schedule]
        return torch.tensor([round(schedule(size, end, progress)) for end in layer.counts.tolist()], device="cpu")

    def _importance(self, name: str, weight: nn.Parameter) -> Tensor:
        if self.config.importance == "movement":
            return self._movement[name]
        if self.config.importance == "magnitude":
            return magnitude(weight)
        return SCORES[self.config.importance](weight, self._gradient(name, weight))

    def _gradients_of_units(self, layer: SparseLayer) -> list[Tensor]:
        if not self._rule.needs_gradient:
            return [torch.zeros_like(mask, dtype=torch.float32) for mask in layer.active]
        return layer.scores([self._gradient(name, weight).abs() for name, weight in layer.weights.items()])

    def _gradient(self, name: str, weight: nn.Parameter) -> Tensor:
        """Return the dense gradient of the last step; zeros for a weight that had none."""
        return self._gradients.get(name, torch.zeros_like(weight))

    def _keeps_gradients(self) -> bool:
        return self._rule.needs_gradient or self.config.importance in NEEDS_GRADIENT

    def _switch(self, masks: Sequence[Tensor]) -> None:
        """Give each layer its share of the masks, which come path by path."""
        for layer in self.layers:
            mine, masks = masks[: len(layer.paths)], masks[len(layer.paths) :]
            layer.switch(list(mine))

    def _weights(self) -> Iterator[tuple[str, nn.Parameter, Tensor]]:
        """Yield every weight with its name and the mask of what is off."""
        for layer in self.layers:
            for (name, weight), off in zip(layer.weights.items(), layer.off(), strict=True):
                yield name, weight, off

    # -- keeping what is off at 0 -------------------------------------------------------------------------------------

    def _changed_by_others(self) -> list[str]:
        """Return the weights that something else than the optimizer has changed, or put another parameter in place of.

        Nothing but an optimizer changes weights between :meth:`mask_gradients` and :meth:`step`; at any other time
        it shows in what is off.
        """
        parameters = {plain_name(n): p for n, p in self._model.named_parameters(remove_duplicate=False)}
        return [
            name
            for name, weight, off in self._weights()
            if parameters.get(name, weight) is not weight
            or self._versions.get(name, weight._version) != weight._version
            or bool(torch.where(off, weight, 0).any())
        ]

    def _zero_what_is_off(self, *, ema: bool) -> None:
        """Zero weights, gradients' history and averages where a mask is off."""
        for name, weight, off in self._weights():
            weight.masked_fill_(off, 0)
            for key, value in self._optimizer.state.get(weight, {}).items():
                kept_as_published = self.config.published and key != "momentum_buffer"
                if isinstance(value, Tensor) and value.shape == weight.shape and not kept_as_published:
                    value.masked_fill_(off, 0)
            if name in self._movement:
                self._movement[name].masked_fill_(off, 0)
            if ema and name in self._ema:
                self._ema[name].masked_fill_(off.to(self._ema[name].device), 0)

    @torch.no_grad()
    def _before_optimizer_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self._mask_gradients()
        if self.config.updates_at(self.steps + 1):
            self._training = training_parameters(optimizer)
        if self._movement and not found_inf(optimizer):
            self._add_movement(getattr(optimizer, "grad_scale", None))

    def _after_optimizer_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self._optimizer_stepped = not found_inf(optimizer)

    @torch.no_grad()
    def _add_movement(self, scale: Tensor | None) -> None:
        weights = {name: weight for layer in self.layers for name, weight in layer.weights.items()}
        for name, weight in weights.items():
            if weight.grad is not None:
                moved = movement(weight, weight.grad)
                self._movement[name] += moved if scale is None else moved / scale


def _unpacked(bits: Sequence[Tensor], layer: SparseLayer) -> list[Tensor]:
    return [unpack_bits(b, like) for b, like in zip(bits, layer.active, strict=True)]
