"""The configuration of a sparsifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from sw_sparse.granularity import COMPOUND, parse_granularity
from sw_sparse.schedules import SCHEDULES
from sw_sparse.scores import SCORES
from sw_sparse.updates import UPDATE_RULES

Targets = str | tuple[str, ...] | Callable[[str, nn.Parameter], bool]

INITIALISATIONS = ("top", "random", "nonzero")
DISTRIBUTIONS = ("uniform", "erk", "snip")


@dataclass(frozen=True)
class SparsityConfig:
    """What is made sparse, how much, and how the masks change. The defaults are a dynamic 30 % of single weights.

    Attributes:
        sparsity: share of the units that is off, in ``[0, 1)``; None is 0.3, or what N:M implies.
        targets: which parameters: a name pattern such as ``"*.weights.*"``, several of them, or a predicate
            ``(name, parameter) -> bool``. Vectors (biases, norms, layer scales, GRN) are never made sparse.
        granularity: ``element``, ``filter``, ``shared_filter`` (one mask for the parallel paths of a layer, that is
            for the entries of an ``nn.ParameterList`` or ``nn.ModuleList``), ``N:M``, ``unit`` (an output of a layer
            with its bias, its norm's entries and every consumer's inputs; ``targets`` then name the layers), or
            ``channel`` (of a shift-wise layer: all its slots and its norms' entries; one that is off is only copied).
        align_every: with ``shared_filter``, the paths share their mask after every so many updates and choose their own
            in between; 1 is always.
        distribution: ``uniform``, ``erk`` or ``snip``: how the density is shared out between layers.
        initialisation: ``top`` (the most important units), ``random``, or ``nonzero`` (keep the mask of sparse weights:
            what is 0 stays off; ``sparsity`` and ``distribution`` then have no effect).
        importance: score that decides what is dropped: ``magnitude``, ``gradient``, ``snip`` or ``movement``.
        update: ``set``, ``rigl``, ``static`` or ``gradual``.
        update_every: optimizer steps between updates.
        total_steps: length of the schedule in optimizer steps; the masks do not change after it.
        drop_fraction: share of a layer's units replaced by an update, at the start.
        final_drop_fraction: the same at ``total_steps``.
        schedule: ``constant``, ``cosine`` or ``cubic``, from one to the other. Under ``gradual`` it takes the density
            from 1 to its end instead.
        seed: of the sparsifier's own random numbers.
        regrow_dropped: let a unit grow back in the update that drops it, as RigL's published code does; otherwise it
            returns only where nothing else is left to grow.
        published: decide as the published ShiftwiseConv code does, for comparisons: layer rates from SNIP with a strict
            threshold, Bernoulli masks, growth that is right on average only, moments of inactive weights kept.
    """

    sparsity: float | None = None
    targets: Targets = "*"
    granularity: str = "element"
    align_every: int = 1
    distribution: str = "uniform"
    initialisation: str = "top"
    importance: str = "magnitude"
    update: str = "set"
    update_every: int = 100
    total_steps: int | None = None
    drop_fraction: float = 0.3
    final_drop_fraction: float = 0.005
    schedule: str = "constant"
    seed: int = 0
    regrow_dropped: bool = False
    published: bool = False

    def __post_init__(self) -> None:
        _one_of("distribution", self.distribution, DISTRIBUTIONS)
        _one_of("initialisation", self.initialisation, INITIALISATIONS)
        _one_of("importance", self.importance, SCORES)
        _one_of("update", self.update, UPDATE_RULES)
        _one_of("schedule", self.schedule, SCHEDULES)
        granularity = parse_granularity(self.granularity)
        for name in ("align_every", "update_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, want at least 1")
        for name in ("drop_fraction", "final_drop_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, want a share between 0 and 1")
        if not 0 <= self.off < 1:
            raise ValueError(f"sparsity: got {self.sparsity}, want a share of at least 0 and below 1")
        per_block = granularity.kept_per_block
        if per_block is not None and self.off != self._implied_by_n_of_m():
            raise ValueError(
                f"sparsity: got {self.sparsity}, but {self.granularity} makes it {self._implied_by_n_of_m():g}"
            )
        if self.granularity in COMPOUND and UPDATE_RULES[self.update].needs_gradient:
            raise ValueError(
                f"update: got {self.update!r}, but the gradient of a {self.granularity} that is off is 0 like that of "
                f"any other, want set, gradual or static"
            )
        if (self.schedule != "constant" or self.update == "gradual") and not self.total_steps:
            raise ValueError(f"total_steps: got {self.total_steps}, but the {self.schedule} schedule needs its length")
        if self.published and (self.granularity, self.distribution, self.importance, self.update) != (
            "shared_filter",
            "snip",
            "magnitude",
            "set",
        ):
            raise ValueError(
                "published: wants granularity='shared_filter', distribution='snip', importance='magnitude', "
                "update='set'; the other published modes do not run"
            )

    @property
    def off(self) -> float:
        """The share of units that is off."""
        if self.sparsity is not None:
            return self.sparsity
        return self._implied_by_n_of_m() if ":" in self.granularity else 0.3

    def progress(self, step: int) -> float:
        """How far the schedule has come after ``step`` optimizer steps: 1 at the last update it allows."""
        if not self.total_steps:
            return 0.0
        return step / max(self.total_steps - self.total_steps % self.update_every, 1)

    def updates_at(self, step: int) -> bool:
        """Whether the masks may change after the ``step``-th optimizer step."""
        within = self.total_steps is None or step <= self.total_steps
        return self.update != "static" and step > 0 and step % self.update_every == 0 and within

    def described(self) -> dict[str, Any]:
        """Return the settings as plain values; a predicate cannot be one and is left out."""
        plain = dict(vars(self))
        plain["targets"] = [self.targets] if isinstance(self.targets, str) else self.targets
        plain["targets"] = None if callable(self.targets) else list(plain["targets"])
        return plain

    def _implied_by_n_of_m(self) -> float:
        n, m = self.granularity.split(":")
        return 1 - int(n) / int(m)


def _one_of(argument: str, value: str, known: Any) -> None:
    if value not in known:
        raise ValueError(f"{argument}: got {value!r}, want one of {', '.join(known)}")
