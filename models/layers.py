"""What several systems share: ordinary attention with its heads, and the feed-forward half of a block."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class SelfAttention(nn.Module):
    """Plain softmax attention, the twin of every mechanism: Y = softmax(Q K^T / sqrt(d)) V, then an output projection.

    x: (batch, tokens, dim) → (batch, tokens, dim).
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.project = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (split_heads(layer(x), self.heads) for layer in (self.query, self.key, self.value))
        return self.project(merge_heads(functional.scaled_dot_product_attention(q, k, v)))


class Block(nn.Module):
    """Pre-norm residual block around any token mixer: x + mixer(LN(x)), then x + MLP(LN(x)). x: (batch, tokens, dim); others go to the mixer."""

    def __init__(self, dim: int, mixer: nn.Module, expansion: int = 4) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(dim), mixer
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, expansion * dim), nn.GELU(), nn.Linear(expansion * dim, dim))

    def forward(self, x: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x), *others)
        return x + self.mlp(self.norm2(x))


def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """(batch, tokens, dim) → (batch, heads, tokens, dim / heads)."""
    batch, tokens, dim = x.shape
    return x.reshape(batch, tokens, heads, dim // heads).transpose(1, 2)


def merge_heads(x: torch.Tensor) -> torch.Tensor:
    """Inverse of `split_heads`."""
    batch, heads, tokens, size = x.shape
    return x.transpose(1, 2).reshape(batch, tokens, heads * size)
