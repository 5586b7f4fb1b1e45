"""UniPrefill: after the first layers of a prompt, only the blocks of tokens that its end attends to go on.

    s_b = mean over heads, over the last `window` queries and over the keys of block b of softmax(Q K^T / sqrt(d)),
    kept = the first block, the last one and the `budget` - 2 others of largest s_b;   dropped tokens skip all later layers

Q, K: (heads, tokens, d) of layer `split`, the last that sees every token. No weight changes: the trained decoder is read with fewer tokens. The
authors' code (github.com/qhfan/UniPrefill, arXiv 2605.06221) keeps blocks until their scores add up to 0.99, besides 128 sink and 128 last tokens, in
blocks of 64 under the last 128 queries; that length depends on the data, so here the budget is fixed and the blocks are a TopK.
Task: questions at the end of a text whose answers take two facts from anywhere in it. The twin is the same decoder with every token in every layer.
"""

from __future__ import annotations

from functools import cache, partial

import torch
from torch import nn

from ..runtime.manifest import TensorSpec
from .data.needles import FILLER, NAMES, QUESTIONS, needles
from .gated_subspace import CausalAttention
from .layers import Block, split_heads
from .metrics import ACCURACY
from .operations import operations
from .reference import Reference, Samples
from .registry import weights_file
from .training import Progress, cross_entropy, fit, metric_of, outputs

LENGTH, BLOCK = 128, 8
BUDGET = 6  # of 16 blocks


class Decoder(nn.Module):
    """tokens: (batch, length) → names at the last `QUESTIONS` tokens, (batch, 8, 32).

    A token is embedded beside the one before it, so that no position is needed. budget=None: every token goes through every layer.
    """

    def __init__(self, dim: int = 32, depth: int = 4, heads: int = 2, expansion: int = 2, split: int = 2, budget: int | None = BUDGET) -> None:
        super().__init__()
        self.heads, self.split, self.budget = heads, split, budget
        self.embed, self.before = nn.Embedding(NAMES + FILLER, dim), nn.Linear(dim, dim)
        self.blocks = nn.ModuleList(Block(dim, CausalAttention(dim, heads), expansion) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, NAMES)

    def scores(self, x: torch.Tensor) -> torch.Tensor:
        """s, (batch, blocks), of the attention in layer `split`; x: (batch, length, dim), what that layer reads."""
        block = self.blocks[self.split - 1]
        normed = block.norm1(x)
        q, k = (split_heads(layer(y), self.heads) for layer, y in ((block.attention.query, normed[:, -QUESTIONS:]), (block.attention.key, normed)))
        later = torch.ones(QUESTIONS, x.shape[1], device=x.device).triu(x.shape[1] - QUESTIONS + 1) > 0
        logits = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).masked_fill(later, float("-inf"))
        return logits.softmax(-1).mean((1, 2)).unflatten(1, (-1, BLOCK)).mean(2)

    def keep(self, scores: torch.Tensor, budget: int) -> torch.Tensor:
        """The blocks that go on, in the order of the text: (batch, budget)."""
        always = torch.zeros_like(scores[:1])
        always[:, 0], always[:, -1] = 1.0, 1.0  # no score is above 1 / BLOCK
        chosen = (scores + always).topk(budget).indices
        return chosen.to(scores.dtype).topk(budget, largest=False).values.to(torch.int64)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        x = x + self.before(torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1))
        for index, block in enumerate(self.blocks):
            kept = self.keep(self.scores(x), self.budget) if self.budget is not None and index == self.split - 1 else None
            x = block(x)
            if kept is not None:
                x = of_blocks(x, kept)
        return self.head(self.norm(x[:, -QUESTIONS:]))


def of_blocks(x: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """The tokens of some blocks; x: (batch, length, dim), kept: (batch, budget) → (batch, budget BLOCK, dim)."""
    blocks = x.unflatten(1, (-1, BLOCK)).flatten(2)
    return torch.gather(blocks, 1, kept[..., None].expand(-1, -1, blocks.shape[2])).unflatten(2, (BLOCK, -1)).flatten(1, 2)


def paper() -> Decoder:
    """A longer text and a language model's small width; the authors accelerate models of 7 billion parameters and more."""
    return Decoder(dim=512, depth=12, heads=8, expansion=4, split=4, budget=64)


twin = partial(Decoder, budget=None)


@cache
def samples(count: int, seed: int, length: int = LENGTH, most: int = 2) -> Samples:
    """Texts and the answers to their questions, which take up to `most` facts."""
    tokens, answers, _ = needles(count, seed, length, most)
    return Samples({"tokens": tokens}, answers)


def calibration() -> Samples:
    """256 texts."""
    return samples(256, 1)


def evaluation() -> Samples:
    """1,000 other texts, 8,000 questions."""
    return samples(1000, 2)


def train(seed: int = 0, epochs: int = 10, progress: Progress | None = None, network: Decoder | None = None) -> tuple[nn.Module, float]:
    """Trains the decoder with every token in every layer: on one fact in short texts, on two, and on two in whole texts.

    Then blocks are dropped; a given network keeps its own form. Returns it and its accuracy.
    """
    torch.manual_seed(seed)
    whole = twin()
    for length, most, share, rate in ((LENGTH // 4, 1, 0.5, 5e-3), (LENGTH // 4, 2, 1.0, 5e-3), (LENGTH, 2, 0.3, 2e-3)):
        data, validation = samples(8192, seed + 100 + most, length, most), samples(256, 3, length, most)
        fit(whole, data, validation, cross_entropy, max(1, round(share * epochs)), seed=seed, rate=rate, decay=0.01, progress=progress)
    module = network if network is not None else Decoder()
    module.load_state_dict(whole.state_dict())
    return module.eval(), metric_of(REFERENCE, module)


class RandomBlocks(Decoder):
    """The rival: the same share of blocks, drawn at random."""

    def scores(self, x: torch.Tensor) -> torch.Tensor:
        return torch.rand(len(x), x.shape[1] // BLOCK, generator=torch.Generator().manual_seed(0)) / BLOCK


def accuracies(module: nn.Module) -> dict[str, float]:
    """Per cent of the evaluation questions answered rightly, by how many facts they take."""
    held_out, facts = evaluation(), needles(1000, 2, LENGTH)[2]
    right = outputs(module, held_out).argmax(-1) == held_out.truth
    return {name: 100 * float(right[facts == count].mean()) for count, name in ((1, "one fact"), (2, "two facts"))}


def measure() -> dict[str, float]:
    """Accuracy by budget and by the layer after which blocks are dropped, beside random blocks and the whole prompt; operations."""
    whole = REFERENCE.trained_twin()

    def read_as(decoder: Decoder) -> nn.Module:
        decoder.load_state_dict(whole.state_dict())
        return decoder.eval()

    figures = {"accuracy %": metric_of(REFERENCE, REFERENCE.module()), "accuracy %, whole prompt": metric_of(REFERENCE, whole)}
    tried: list[tuple[str, nn.Module]] = [("whole prompt", whole), ("random 6 of 16 blocks after layer 2", read_as(RandomBlocks()))]
    for split, budget in ((1, 6), (2, 3), (2, 6), (2, 10)):
        tried.append((f"{budget} of 16 blocks after layer {split}", read_as(Decoder(split=split, budget=budget))))
    for name, module in tried:
        figures.update({f"accuracy % on {facts}, {name}": value for facts, value in accuracies(module).items()})
    for length in (LENGTH, 2048):
        tokens = torch.zeros(1, length, dtype=torch.int64)
        shorter = Decoder(budget=BUDGET * length // LENGTH)
        figures[f"operations of the whole prompt over ours, {length} tokens"] = operations(whole, tokens) / operations(shorter, tokens)
    return figures


REFERENCE = Reference(
    name="uniprefill",
    build=Decoder,
    inputs=(TensorSpec(name="tokens", shape=("batch", LENGTH), dtype="int64", unit="token number", preprocessing="0-31 names, 32-127 filler"),),
    outputs=("answers",),
    source="arXiv 2605.06221 and github.com/qhfan/UniPrefill",
    data="procedural texts of filler with facts, questions that chain two of them",
    claim="up to 2.1x faster to the first token, without training, at nearly the accuracy of the whole prompt",
    calibration=calibration,
    evaluation=evaluation,
    metric=ACCURACY,
    twin=twin,
    paper=paper,
    train=train,
    weights=weights_file("uniprefill"),
    measure=measure,
    reached=92.4,
    twin_weights=weights_file("uniprefill"),
)
