"""ConvRec: what a customer buys next, by strided convolutions that halve, fifth and collapse the history, and no attention.

    x <- LN(GELU(W conv_k(x)) + w1 pool_k(x) + w2 pool_k(r)),   r <- pool_k(r),   k = 2, 5, 7;   score_i = <e_i, x>

x, r: (batch, tokens, dim), both at first GELU(U LN(GELU([e_i; gap]))) of the items bought; conv_k: kernel and stride k, a map of its own for each
group of channels ("head"); pool_k: the mean of k tokens; w1, w2: a number each stage; 2 * 5 * 7 = 70 tokens become one vector x, (batch, dim), at
a cost linear in the tokens. e_i = E_i + A a_i: an item's embedding and its attributes, here category and price; the sum is folded after training.

"Rethinking Convolutional Networks for Attribute-Aware Sequential Recommendation" (arXiv 2605.04723, IJCAI-ECAI 2026); equations as in the authors'
public code, but that scores use e_i itself and that the time since the last purchase is the last token's gap. Sizes are ours.
Task: the next purchase of customers with known habits, see data/shops.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..runtime.manifest import TensorSpec
from .data.shops import CATEGORIES, HISTORY, ITEMS, LEVELS, chances, customers
from .layers import Block, SelfAttention
from .operations import operations
from .reference import Metric, Reference, Samples
from .registry import weights_file
from .training import Progress, fit, metric_of, outputs, tensors

STAGES = (2, 5, 7)


class Stage(nn.Module):
    """k tokens become one: LN(GELU(W conv(x)) + w1 pool(x) + w2 pool(r)); x, r: (batch, tokens, dim) → both (batch, tokens / k, dim)."""

    def __init__(self, dim: int, size: int, heads: int) -> None:
        super().__init__()
        self.conv, self.mix = nn.Conv1d(dim, dim, size, stride=size, groups=heads), nn.Linear(dim, dim)
        self.pool, self.norm = nn.AvgPool1d(size), nn.LayerNorm(dim)
        self.own, self.first = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(0.5))

    def forward(self, x: torch.Tensor, r: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        turned = x.transpose(1, 2)
        found = functional.gelu(self.mix(self.conv(turned).transpose(1, 2)))
        r = self.pool(r.transpose(1, 2)).transpose(1, 2)
        return self.norm(found + self.own * self.pool(turned).transpose(1, 2) + self.first * r), r


class Shelf(nn.Module):
    """The items as vectors e_i, alone and as tokens with the gaps after them. While it learns, e_i = E_i + A a_i; then the sum is kept."""

    def __init__(self, items: int, dim: int) -> None:
        super().__init__()
        self.items = nn.Linear(dim, items, bias=False)  # one row an item: x → <e_i, x>
        nn.init.normal_(self.items.weight)
        self.norm, self.mix = nn.LayerNorm(dim + 1), nn.Linear(dim + 1, dim)
        self.attribute: nn.Linear | None = None

    def describe(self, attributes: torch.Tensor) -> None:
        """Lets items share what is learned by their attributes, (items, kinds)."""
        self.attribute = nn.Linear(attributes.shape[1], self.items.in_features, bias=False).to(self.items.weight.device)
        self.register_buffer("attributes", attributes.to(self.items.weight.device), persistent=False)

    def fold(self) -> None:
        """Ends what `describe` began: the items keep their vectors and need no attributes any more."""
        self.items.weight.data = self.vectors().detach().clone()
        self.attribute = None

    def vectors(self) -> torch.Tensor:
        return self.items.weight if self.attribute is None else self.items.weight + self.attribute(self.attributes)

    def forward(self, items: torch.Tensor, gaps: torch.Tensor) -> torch.Tensor:
        """(batch, tokens) both → (batch, tokens, dim)."""
        known = torch.cat([functional.embedding(items, self.vectors()), gaps[..., None]], -1)
        return functional.gelu(self.mix(self.norm(functional.gelu(known))))

    def scores(self, x: torch.Tensor) -> torch.Tensor:
        """<e_i, x> for all items: (batch, dim) → (batch, items)."""
        return self.items(x) if self.attribute is None else functional.linear(x, self.vectors())


class ConvRec(nn.Module):
    """items (batch, tokens) int64 and gaps (batch, tokens) → scores (batch, items); `tokens` is the product of the stages."""

    def __init__(self, dim: int = 32, heads: int = 1, stages: Sequence[int] = STAGES) -> None:
        super().__init__()
        self.shelf = Shelf(ITEMS, dim)
        self.stages = nn.ModuleList([Stage(dim, size, heads) for size in stages])

    def summary(self, items: torch.Tensor, gaps: torch.Tensor) -> torch.Tensor:
        """The customer as one vector, (batch, dim)."""
        x = r = self.shelf(items, gaps)
        for stage in self.stages:
            x, r = stage(x, r)
        return x[:, 0]

    def forward(self, items: torch.Tensor, gaps: torch.Tensor) -> torch.Tensor:
        return self.shelf.scores(self.summary(items, gaps))


class SasRec(nn.Module):
    """The twin, SASRec (arXiv 1808.09781): Transformer blocks over the same tokens with learned positions; the last token is the customer.

    Only the last token is read, so that a causal mask would change no more than what the others may see.
    """

    def __init__(self, dim: int = 32, heads: int = 2, depth: int = 2, tokens: int = HISTORY) -> None:
        super().__init__()
        self.shelf, self.position = Shelf(ITEMS, dim), nn.Parameter(0.02 * torch.randn(tokens, dim))
        self.blocks = nn.ModuleList([Block(dim, SelfAttention(dim, heads), expansion=2) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)

    def forward(self, items: torch.Tensor, gaps: torch.Tensor) -> torch.Tensor:
        x = self.shelf(items, gaps) + self.position
        for block in self.blocks:
            x = block(x)
        return self.shelf.scores(self.norm(x[:, -1]))


def attributes() -> torch.Tensor:
    """(items, 25): the category, one of 24, and the price from -1 to 1."""
    category = functional.one_hot(torch.arange(ITEMS) // LEVELS, CATEGORIES).float()
    return torch.cat([category, (torch.arange(ITEMS) % LEVELS)[:, None] / (LEVELS - 1) * 2 - 1], 1)


def paper() -> ConvRec:
    """Width 256, the default of the authors' code."""
    return ConvRec(dim=256)


def twin() -> SasRec:
    """Softmax attention over the history, at nearly equal parameters."""
    return SasRec()


@cache
def purchases(count: int, seed: int) -> Samples:
    """items, gaps: (count, 70); labels: (count,), the item bought next."""
    known = customers(count, seed)
    return Samples({"items": known.items[:, :-1].copy(), "gaps": known.gaps}, known.items[:, -1].copy())


def calibration() -> Samples:
    """256 customers."""
    return purchases(256, seed=1)


def evaluation() -> Samples:
    """2,000 customers."""
    return purchases(2000, seed=2)


def hits(scores: np.ndarray, labels: np.ndarray, first: int = 10) -> np.ndarray:
    """Whether fewer than `first` items score at least as high as the one bought, (samples,) bool."""
    bought = np.take_along_axis(scores, labels[:, None], 1)
    return (scores >= bought).sum(1) <= first


def _hit_rate(results: Sequence[np.ndarray], labels: np.ndarray) -> float:
    return 100.0 * float(hits(results[0], labels).mean())


HIT_RATE = Metric("hit rate at 10", "points", _hit_rate, higher_is_better=True, tolerance=0.5)


def train(seed: int = 0, epochs: int = 5, progress: Progress | None = None, network: nn.Module | None = None) -> tuple[nn.Module, float]:
    """Trains on 60,000 customers; returns the network and its hit rate at 10 on the evaluation customers."""
    torch.manual_seed(seed)
    module = network if network is not None else ConvRec()
    assert isinstance(module, ConvRec | SasRec)
    module.shelf.describe(attributes())
    data, validation = purchases(60_000, seed=100 + seed), purchases(1000, seed=3)
    fit(module, data, validation, functional.cross_entropy, epochs, seed=seed, rate=4e-3, batch=128, decay=0.01, progress=progress)
    module.shelf.fold()
    return module, metric_of(REFERENCE, module)


def measure() -> Mapping[str, float]:
    """Hit rates of both networks and of one who knows the habits, where the long and where the short interest counts, and what each costs."""
    held_out, known = evaluation(), customers(2000, 2)
    scores = {"ConvRec": outputs(REFERENCE.module(), held_out), "SASRec": outputs(REFERENCE.trained_twin(), held_out)}
    figures = {}
    for name, given in (scores | {"one who knows the habits": chances(known)}).items():
        found = hits(given, held_out.truth)
        figures[f"hit rate at 10, {name}, %"] = 100 * float(found.mean())
        figures[f"within a session, {name}, %"] = 100 * float(found[~known.new].mean())
        figures[f"as a session begins, {name}, %"] = 100 * float(found[known.new].mean())
    one = tensors(held_out.take(slice(0, 1)).inputs)
    cost = [operations(module, *one.values()) for module in (REFERENCE.trained_twin(), REFERENCE.module())]
    return figures | {"operations, SASRec / ConvRec": cost[0] / cost[1]}


REFERENCE = Reference(
    name="convrec",
    build=ConvRec,
    inputs=(
        TensorSpec(name="items", shape=("batch", HISTORY), dtype="int64", unit="item numbers", preprocessing="oldest first"),
        TensorSpec(name="gaps", shape=("batch", HISTORY), dtype="float32", unit="log days", preprocessing="until the next purchase, or now"),
    ),
    outputs=("scores",),
    source="arXiv 2605.04723; repository ismll-research/ConvRec",
    data="purchases in a shop of 384 items, customers with known long and short interests",
    claim="strided convolutions in linear time recommend at least as well as self-attention (SASRec)",
    calibration=calibration,
    evaluation=evaluation,
    metric=HIT_RATE,
    twin=twin,
    paper=paper,
    train=train,
    weights=weights_file("convrec"),
    measure=measure,
    reached=74.75,
    twin_weights=weights_file("convrec_twin"),
)
